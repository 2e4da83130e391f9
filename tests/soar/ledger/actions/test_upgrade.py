"""0006: a ledger of the release before goes on, with its actions as the first events of the chain."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect, text

from include.soar.ledger import Ledger
from include.soar.ledger.actions import Kind
from include.soar.ledger.database import MIGRATIONS
from include.soar.model import ActionBatch, Outcome, Reached, Verb
from tests.soar.examples import NOW, gate_at, policy
from tests.soar.ledger.records import EVIL, HOUR, OTHER, action

OLD = 2 * HOUR
LONG_URL = "url:sha256." + "0" * 64


def to(url: str, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    (command.downgrade if revision == "-" else command.upgrade)(config, "0005")


@pytest.fixture
def old(url: str) -> str:
    """A database as the release before left it."""
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    to(url, "0005")
    rows = [
        row("edr", EVIL.key, "detect_only", "found", 3, verb="contain"),
        row("waf", EVIL.key, "blocked", "ünïcode \"'", 1, expires_at=NOW + HOUR, proof={"list": "1_A", "version": 3}),
        row("waf", OTHER.key, "failed", "HTTP 500", 2),
        row("waf", "ipv4-addr:203.0.113.9", "pending", "", 2, expires_at=NOW + HOUR / 3),
        row("waf", "ipv4-addr:203.0.113.10", "cancelled", "was blocked; our scanner", 4),
        row("waf", LONG_URL, "blocked", "", 5),
    ]
    engine = create_engine(url)
    with engine.begin() as connection:
        for one in rows:
            names = ", ".join(one)
            values = ", ".join(f":{name}" for name in one)
            connection.execute(text(f"INSERT INTO actions ({names}) VALUES ({values})"), one)
    engine.dispose()
    return url


def row(control: str, observable: str, outcome: str, detail: str, minutes: int, **more: Any) -> dict[str, Any]:
    at: datetime = NOW + timedelta(minutes=minutes, microseconds=123_456)
    fields = {"verb": "deny", "expires_at": None, "proof": {}, "run_id": "dag/r1", **more}
    fields |= {"control": control, "observable": observable, "outcome": outcome, "detail": detail}
    # As SQLAlchemy wrote them: SQLite keeps an instant as text without its zone.
    proof, ends = json.dumps(fields["proof"]), fields["expires_at"]
    return fields | {"proof": proof, "updated_at": _kept(at), "expires_at": _kept(ends) if ends else None}


def _kept(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S.%f}"


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Postgres reads an instant without a zone in the session's."""
    monkeypatch.setenv("PGTZ", "UTC")


def test_yesterdays_actions_are_the_first_events(old: str) -> None:
    with contextlib.closing(Ledger(old)) as ledger:
        assert ledger.actions.verify() == []
        events = ledger.actions.events()
        assert {e.kind for e in events} == {Kind.EARLIER}
        assert [(e.number, e.control, e.observable, e.outcome) for e in events] == [
            (1, "waf", EVIL.key, "blocked"),
            (2, "waf", OTHER.key, "failed"),
            (3, "waf", "ipv4-addr:203.0.113.9", "pending"),
            (4, "edr", EVIL.key, "detect_only"),
            (5, "waf", "ipv4-addr:203.0.113.10", "cancelled"),
            (6, "waf", LONG_URL, "blocked"),
        ]
        first = events[0]
        assert (first.at, first.expires_at) == (NOW + timedelta(minutes=1, microseconds=123_456), NOW + HOUR)
        assert (first.proof, first.run_id, first.detail) == ({"list": "1_A", "version": 3}, "dag/r1", "ünïcode \"'")
        assert [(row.outcome, row.reached, row.rung) for row in ledger.actions.rows("edr")] == [
            ("detect_only", "active", None)
        ]


def test_what_was_in_force_still_is(old: str, tmp_path: Path) -> None:
    with contextlib.closing(Ledger(old)) as ledger:
        there = {(one.control, one.key): (one.outcome, one.reached) for one in ledger.actions.rows_in_force(NOW)}
        # The value of a URL that is named by its hash was not kept, so nothing could be done about it.
        assert there == {
            ("edr", EVIL.key): (Outcome.DETECT_ONLY, Reached.ACTIVE),
            ("waf", EVIL.key): (Outcome.BLOCKED, Reached.ACTIVE),
            ("waf", "ipv4-addr:203.0.113.9"): (Outcome.PENDING, Reached.ACCEPTED),
            ("waf", "ipv4-addr:203.0.113.10"): (Outcome.BLOCKED, None),
        }
        assert [one.key for one in ledger.actions.rows_in_force(NOW) if one.cancelled] == ["ipv4-addr:203.0.113.10"]
        assert set(ledger.actions.in_force("waf")) == {key for control, key in there if control == "waf"} | {LONG_URL}
        entry = "{value: 203.0.113.0/24, until: 2030-01-01, owner: j.doe, reason: our scanner}"
        gate = gate_at(policy(tmp_path, f"never_block: {{allow: [{entry}]}}"))
        told = ledger.actions.cancel_protected(gate, run_id="r2", now=NOW)
        # The one that was told before the upgrade is not told again.
        assert [(row.control, row.observable) for row, _ in told] == [
            ("edr", EVIL.key),
            ("waf", EVIL.key),
            ("waf", "ipv4-addr:203.0.113.9"),
        ]


def test_the_chain_goes_on_from_there(old: str) -> None:
    with contextlib.closing(Ledger(old)) as ledger:
        batch = ActionBatch(control="waf", actions=(action(outcome=Outcome.LIFTED, verb=Verb.LIFT),))
        ledger.actions.record(batch, run_id="dag/r2", now=NOW + HOUR)
        assert ledger.actions.events()[-1].number == 7
        assert ledger.actions.verify() == []
        assert EVIL.key not in ledger.actions.in_force("waf")
        with ledger.database.session() as session:
            session.execute(text("UPDATE action_events SET outcome = 'failed' WHERE number = 1"))
        assert ledger.actions.verify()[0].endswith("was changed")


def test_the_way_back_keeps_the_actions(old: str) -> None:
    Ledger(old).close()
    to(old, "-")
    engine = create_engine(old)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM actions")).scalar() == 6
        assert {"action_events", "entries", "chains", "allows"}.isdisjoint(inspect(connection).get_table_names())
    engine.dispose()
    with contextlib.closing(Ledger(old)) as ledger:
        assert ledger.actions.verify() == []


def test_an_empty_ledger_begins_an_empty_chain(url: str) -> None:
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    to(url, "0005")
    with contextlib.closing(Ledger(url)) as ledger:
        assert (ledger.actions.head().length, ledger.actions.verify(), ledger.allows.verify()) == (0, [], [])
