"""This provider at its simulator, for tests/stages/enriching/test_every_provider.py."""

from __future__ import annotations

from tests.stages.enriching.provider_case import CLEAN, EVIL, NETWORKS_IPV4, Case

CASE = Case(
    seed={
        "addresses": {
            EVIL.value: {"internet_scanner_intelligence": {"classification": "malicious"}},
            CLEAN.value: {"business_service_intelligence": {"name": "Example DNS", "trust_level": "1"}},
        },
        "public_networks": NETWORKS_IPV4,
    },
    said={EVIL: 100, CLEAN: 0},
    asked=lambda call: [call["path"].rpartition("/")[2]],
    refuse=(CLEAN, "status", {"status": 400, "path": CLEAN.value}),
    odd=({"classification": "odd"},),
)
