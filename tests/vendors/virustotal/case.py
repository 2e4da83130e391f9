"""This provider at its simulator, for the two suites of all providers."""

from __future__ import annotations

from tests.stages.enriching.provider_case import CLEAN, EVIL, KEY_CAUSES, MD5, NAME, SHA1, SHA256, SIX, URL, Case

BAD = {"last_analysis_stats": {"malicious": 8, "harmless": 60}}
SEEN = {"last_analysis_stats": {"malicious": 0, "harmless": 60}}
CASES = (
    Case(
        seed={
            "ip_addresses": {EVIL.value: BAD, CLEAN.value: SEEN},
            "domains": {NAME.value: BAD},
            "urls": {URL.value: BAD},
            "files": {SHA256.value: BAD},
        },
        said={EVIL: 80, CLEAN: 0, SIX: 0, NAME: 80, URL: 80, MD5: 0, SHA1: 0, SHA256: 80},
        asked=lambda call: [call["path"].rpartition("/")[2]],
        refuse=(NAME, "status", {"status": 400, "path": "/domains/"}),
        odd=(
            {"data": {"attributes": {"last_analysis_stats": {"malicious": None}}}},
            {"data": {"id": "203.0.113.200"}},
        ),
        knobs={"plan": "premium"},
        extra={"plan": "premium"},
        causes=KEY_CAUSES,  # its 404 is about the value
    ),
)
