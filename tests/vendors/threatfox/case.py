"""This provider at its simulator, for the two suites of all providers."""

from __future__ import annotations

from tests.stages.enriching.provider_case import ABUSE_CH_CAUSES, CLEAN, EVIL, MD5, NAME, SHA256, URL, Case

CASES = (
    Case(
        seed={
            "iocs": [
                {"ioc": "203.0.113.7:443", "confidence_level": 75},
                {"ioc": "evil.example", "confidence_level": 100},
            ]
        },
        said={EVIL: 75, CLEAN: 0, NAME: 100, URL: 0, MD5: 0, SHA256: 0},
        asked=lambda call: [call["body"].get("search_term") or call["body"]["hash"]],
        refuse=(NAME, "merge", {"body": f'"{NAME.value}"', "patch": {"query_status": "illegal_search_term"}}),
        odd=(
            {"query_status": None},
            {"query_status": "unknown_auth_key"},
            {"query_status": "ok", "data": "a sentence"},
        ),
        causes=ABUSE_CH_CAUSES,
    ),
)
