"""This provider at its simulator, for the two suites of all providers."""

from __future__ import annotations

from tests.stages.enriching.provider_case import CLEAN, EVIL, NETWORKS, SIX, Case

CASES = (
    Case(
        seed={
            "addresses": {
                EVIL.value: {"abuseConfidenceScore": 92, "totalReports": 31, "numDistinctUsers": 7},
                SIX.value: {"abuseConfidenceScore": 40, "totalReports": 2, "numDistinctUsers": 1},
            },
            "public_networks": NETWORKS,
        },
        said={EVIL: 92, CLEAN: 0, SIX: 40},
        asked=lambda call: [dict(call["query"])["ipAddress"]],
        refuse=(CLEAN, "status", {"status": 422, "skip": 1}),
        odd=({"data": {"abuseConfidenceScore": None}}, {"data": {"ipAddress": "203.0.113.200"}}),
        ask=lambda hook: hook.check(EVIL),
    ),
)
