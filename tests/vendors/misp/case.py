"""This provider at its simulator, for the two suites of all providers."""

from __future__ import annotations

from tests.stages.enriching.provider_case import (
    CLEAN,
    EVIL,
    MAIL,
    MD5,
    NAME,
    NO_GRANT,
    PATH_CAUSES,
    SHA1,
    SHA256,
    SHA512,
    SIX,
    URL,
    WRONG_HOST,
    WRONG_KEY,
    Case,
)

ATTRIBUTES = [
    {"type": "ip-src", "value": EVIL.value},
    {"type": "ip-dst", "value": SIX.value},
    {"type": "hostname", "value": NAME.value},
    {"type": "filename|md5", "value": f"x.exe|{MD5.value}"},
]
CASES = (
    Case(
        seed={
            "events": [
                {
                    "info": "a campaign",
                    "threat_level_id": "2",
                    "Attribute": [{**one, "to_ids": True} for one in ATTRIBUTES],
                }
            ]
        },
        said={EVIL: 75, CLEAN: 0, SIX: 75, NAME: 75, URL: 0, MAIL: 0, MD5: 75, SHA1: 0, SHA256: 0, SHA512: 0},
        asked=lambda call: call["body"]["value"],
        refuse=(CLEAN, "status", {"status": 400, "body": f'"{CLEAN.value}"', "times": -1}),
        odd=({"response": {"Attribute": None}},),
        extra={"values_a_call": 2},
        ask=lambda hook: hook.search([EVIL]),
        causes=(
            ("status", {"status": 403}, WRONG_KEY),
            ("status", {"status": 403, "detail": "You do not have permission to use this functionality."}, NO_GRANT),
            ("status", {"status": 405}, WRONG_HOST),
            *PATH_CAUSES,
        ),
        retry_after="X-Rate-Limit-Reset",
    ),
)
