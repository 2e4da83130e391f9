"""What the tests of the ledger write into it."""

from __future__ import annotations

from datetime import timedelta

from include.soar.model import (
    Action,
    FetchBatch,
    Finding,
    Observable,
    Outcome,
    Verb,
)
from tests.soar.examples import address, window

HOUR = timedelta(hours=1)


EVIL = address("203.0.113.7")


OTHER = address("203.0.113.8")


def batch(*findings: Finding, **more: object) -> FetchBatch:
    fields = {
        "source": "akamai_sia",
        "window": window(),
        "pages": 2,
        "records": len(findings),
        "archive": ("a", "b"),
        "digest": "d" * 64,
        "findings": findings,
    }
    return FetchBatch.model_validate(fields | more)


def action(observable: Observable = EVIL, outcome: Outcome = Outcome.BLOCKED, **more: object) -> Action:
    fields = {"control": "waf", "verb": Verb.DENY, "observable": observable, "outcome": outcome}
    return Action.model_validate(fields | more)
