"""This provider at its simulator, for tests/stages/enriching/test_every_provider.py."""

from __future__ import annotations

from tests.stages.enriching.provider_case import CLEAN, EVIL, MAIL, MD5, NAME, SHA1, SHA256, SHA512, SIX, URL, Case

ATTRIBUTES = [
    {"type": "ip-src", "value": EVIL.value},
    {"type": "ip-dst", "value": SIX.value},
    {"type": "hostname", "value": NAME.value},
    {"type": "filename|md5", "value": f"x.exe|{MD5.value}"},
]
CASE = Case(
    seed={
        "events": [
            {"info": "a campaign", "threat_level_id": "2", "Attribute": [{**one, "to_ids": True} for one in ATTRIBUTES]}
        ]
    },
    said={EVIL: 75, CLEAN: 0, SIX: 75, NAME: 75, URL: 0, MAIL: 0, MD5: 75, SHA1: 0, SHA256: 0, SHA512: 0},
    asked=lambda call: call["body"]["value"],
    refuse=(CLEAN, "status", {"status": 400, "body": f'"{CLEAN.value}"', "times": -1}),
    odd=({"response": {"Attribute": None}},),
    extra={"values_a_call": 2},
)
