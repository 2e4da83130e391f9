"""This provider at its simulator, for tests/stages/enriching/test_every_provider.py."""

from __future__ import annotations

from tests.stages.enriching.provider_case import CLEAN, EVIL, MD5, NAME, NETWORKS, SHA1, SHA256, SIX, URL, Case

PULSES = [{"author": "a"}, {"author": "b"}]
CASE = Case(
    seed={
        "indicators": {EVIL.value: {"pulses": PULSES}, NAME.value: {"pulses": PULSES[:1]}},
        "public_networks": NETWORKS,
    },
    said={EVIL: 30, CLEAN: 0, SIX: 0, NAME: 20, URL: 0, MD5: 0, SHA1: 0, SHA256: 0},
    asked=lambda call: [call["path"].split("/", 5)[5].rpartition("/")[0]],
    refuse=(NAME, "status", {"status": 400, "path": NAME.value}),
    odd=({"validation": [7]}, {"indicator": "203.0.113.200"}, {"pulse_info": None}),
)
