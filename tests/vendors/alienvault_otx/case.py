"""This provider at its simulator, for the two suites of all providers."""

from __future__ import annotations

from tests.stages.enriching.provider_case import (
    A_GATEWAY,
    CLEAN,
    EVIL,
    MD5,
    NAME,
    NETWORKS,
    PATH_CAUSES,
    SHA1,
    SHA256,
    SIX,
    URL,
    WRONG_KEY,
    Case,
)

PULSES = [{"author": "a"}, {"author": "b"}]
CASES = (
    Case(
        seed={
            "indicators": {EVIL.value: {"pulses": PULSES}, NAME.value: {"pulses": PULSES[:1]}},
            "public_networks": NETWORKS,
        },
        said={EVIL: 30, CLEAN: 0, SIX: 0, NAME: 20, URL: 0, MD5: 0, SHA1: 0, SHA256: 0},
        asked=lambda call: [call["path"].split("/", 5)[5].rpartition("/")[0]],
        refuse=(NAME, "status", {"status": 400, "path": NAME.value}),
        odd=({"validation": [7]}, {"indicator": "203.0.113.200"}, {"pulse_info": None}),
        causes=(("status", {"status": 403}, WRONG_KEY), ("html", {"status": 403}, A_GATEWAY), *PATH_CAUSES),
    ),
)
