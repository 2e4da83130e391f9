"""The demo's summary says what was lifted at its end and what by a person, from the ledger's log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from include.demo.story import lifted_lines
from include.soar.ledger import Ledger
from include.soar.model import Action, ActionBatch, Observable, Outcome, Reached, Verb

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_what_was_lifted_is_told_by_who_ended_it(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ended, wanted = (Observable(type="ipv4-addr", value=f"203.0.113.{n}") for n in (7, 8))
    ledger.actions.lifts_wanted([wanted], by="admin", reason="a customer", run_id="r/1", now=NOW)
    actions = tuple(
        Action(control="waf", verb=Verb.LIFT, observable=o, outcome=Outcome.LIFTED, reached=Reached.GONE)
        for o in (ended, wanted)
    )
    batch = ActionBatch(control="waf", actions=actions)
    ledger.actions.record(batch, run_id="r/1", now=NOW + timedelta(minutes=1))
    assert lifted_lines(ledger) == [
        "Lifted",
        "  at their end           1: 203.0.113.7",
        "  by a person            203.0.113.8, by admin: a customer",
    ]
    ledger.close()
