"""This provider at its simulator, for the two suites of all providers."""

from __future__ import annotations

from tests.stages.enriching.provider_case import ABUSE_CH_CAUSES, CLEAN, EVIL, MD5, NAME, SHA256, URL, Case

CASES = (
    Case(
        seed={"urls": [{"url": "http://203.0.113.7/a"}, {"url": "http://evil.example/b", "url_status": "offline"}]},
        said={EVIL: 90, CLEAN: 0, NAME: 50, URL: 0, MD5: 0, SHA256: 0},
        asked=lambda call: [call["body"].partition("=")[2]],
        refuse=(NAME, "merge", {"body": f"host={NAME.value}", "patch": {"query_status": "invalid_host"}}),
        odd=({"query_status": None}, {"query_status": "unknown_auth_key"}),
        causes=ABUSE_CH_CAUSES,
    ),
)
