"""The log of the actions: every state is kept, and a row that was changed, deleted or put in shows."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event, text

from include.soar.ledger import Ledger
from include.soar.ledger.actions import Kind
from include.soar.ledger.chain import START, hash_of
from include.soar.model import Action, ActionBatch, Outcome, Rung, Verb
from tests.soar.examples import NOW, address, finding
from tests.soar.ledger.records import EVIL, HOUR, OTHER, action

ROOT = Path(__file__).resolve().parents[4]
WRITERS, WRITES = 4, 15

PROCESS = """
import sys
from include.soar.ledger import Ledger
from include.soar.model import ActionBatch
from tests.soar.examples import NOW, address
from tests.soar.ledger.records import action
ledger = Ledger(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for n in range(15):
    one = action(address(f"203.0.113.{int(sys.argv[2]) * 15 + n}"))
    ledger.actions.intend("waf", [one], run_id=sys.argv[2], now=NOW)
    ledger.actions.record(ActionBatch(control="waf", actions=(one,)), run_id=sys.argv[2], now=NOW)
"""


def report(ledger: Ledger, *actions: Action, hours: int = 0, **more: str) -> None:
    ledger.actions.record(ActionBatch(control="waf", actions=actions), run_id="r", now=NOW + hours * HOUR, **more)


def five(ledger: Ledger) -> None:
    ledger.actions.intend("waf", [action(), action(OTHER)], run_id="r", now=NOW)
    report(ledger, action(expires_at=NOW + HOUR, proof={"list": "ü", "version": None}), action(OTHER), hours=1)
    report(ledger, action(outcome=Outcome.LIFTED, verb=Verb.LIFT), hours=2, by="anna", reason="our partner")


def change(ledger: Ledger, *statements: str) -> None:
    with ledger.database.session() as session:
        for statement in statements:
            session.execute(text(statement))


def test_every_state_is_kept_in_order(ledger: Ledger) -> None:
    five(ledger)
    events = ledger.actions.events()
    assert [(e.number, e.kind, e.observable, e.outcome) for e in events] == [
        (1, Kind.INTENDED, EVIL.key, "pending"),
        (2, Kind.INTENDED, OTHER.key, "pending"),
        (3, Kind.REPORTED, EVIL.key, "blocked"),
        (4, Kind.REPORTED, OTHER.key, "blocked"),
        (5, Kind.REPORTED, EVIL.key, "lifted"),
    ]
    assert [(e.by, e.reason) for e in events[-2:]] == [("", ""), ("anna", "our partner")]
    assert (events[2].at, events[2].expires_at, events[2].proof) == (
        NOW + HOUR,
        NOW + HOUR,
        {"list": "ü", "version": None},
    )
    assert [e.number for e in ledger.actions.events(observable=OTHER)] == [2, 4]
    assert [e.number for e in ledger.actions.events(observable=OTHER.key, since=NOW + HOUR)] == [4]
    assert [e.number for e in ledger.actions.events(control="waf", until=NOW + HOUR)] == [1, 2]
    assert ledger.actions.events(control="edr") == []


def test_a_log_that_nobody_touched_is_intact(ledger: Ledger) -> None:
    assert ledger.actions.verify() == []
    assert (ledger.actions.head().length, ledger.actions.head().hash) == (0, START)
    five(ledger)
    assert ledger.actions.verify() == []
    assert ledger.actions.head().length == 5
    assert ledger.actions.number_of(ledger.actions.head().hash) == 5
    assert ledger.actions.number_of(START) is None


SWAPPED = (
    "UPDATE action_events SET number = 9 WHERE number = 1",
    "UPDATE action_events SET number = 1 WHERE number = 2",
    "UPDATE action_events SET number = 2 WHERE number = 9",
)
TAMPERED = {
    "UPDATE action_events SET reason = 'by mistake' WHERE number = 5": [" 5 (…): was changed"],
    "UPDATE action_events SET \"by\" = 'bob' WHERE number = 5": [" 5 (…): was changed"],
    "UPDATE action_events SET at = '2026-11-24 12:00:01+00' WHERE number = 2": [" 2 (…): was changed"],
    "UPDATE action_events SET proof = '{}' WHERE number = 3": [" 3 (…): was changed"],
    "UPDATE action_events SET expires_at = NULL WHERE number = 3": [" 3 (…): was changed"],
    "UPDATE action_events SET hash = prev_hash WHERE number = 3": [
        " 3 (…): was changed",
        " 4 (…): does not follow row 3, which was changed, or this row was",
    ],
    "DELETE FROM action_events WHERE number = 3": [" 3: is missing"],
    "DELETE FROM action_events WHERE number IN (1, 2)": [" 1 to 2: are missing"],
    "DELETE FROM action_events WHERE number > 3": [" 4 to 5: are missing"],
    "; ".join(SWAPPED): [
        " 1 (…): does not follow row 0, which was changed, or this row was",
        " 1 (…): was changed",
        " 2 (…): does not follow row 1, which was changed, or this row was",
        " 2 (…): was changed",
        " 3 (…): does not follow row 2, which was changed, or this row was",
    ],
    "UPDATE chains SET length = 4 WHERE name = 'action_events'": [": has rows after 4, where the chain ends"],
    "UPDATE chains SET hash = 'x' WHERE name = 'action_events'": [" 5: is not the row that the chain ended with"],
    "DELETE FROM chains WHERE name = 'action_events'": [": the row of the chain's end is missing"],
}


@pytest.mark.parametrize("statements", TAMPERED)
def test_what_was_done_to_the_log_is_named(ledger: Ledger, statements: str) -> None:
    five(ledger)
    change(ledger, *statements.split("; "))
    found = [re.sub(r"\(.*?Z\)", "(…)", line) for line in ledger.actions.verify() if line.startswith("action_events")]
    assert found == [f"action_events{problem}" for problem in TAMPERED[statements]]


def test_a_row_that_was_made_to_look_right_breaks_the_next_one(ledger: Ledger) -> None:
    five(ledger)
    with ledger.database.session() as session:
        row = dict(session.execute(text("SELECT prev_hash FROM action_events WHERE number = 3")).mappings().one())
        row |= {"number": 3, "detail": "another"}
        session.execute(
            text("UPDATE action_events SET detail = 'another', hash = :hash WHERE number = 3"),
            {"hash": hash_of(row["prev_hash"], row)},
        )
    assert any("action_events 4" in line and "does not follow" in line for line in ledger.actions.verify())


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entries",
        "UPDATE entries SET expires_at = NULL",
        "UPDATE entries SET control = 'edr'",
    ],
)
def test_a_state_that_does_not_follow_from_the_log_is_named(ledger: Ledger, statement: str) -> None:
    """Whoever takes a block out of the ledger hides it from reconciling."""
    report(ledger, action(expires_at=NOW + HOUR))
    change(ledger, statement)
    assert f"entries waf {EVIL.key}: is not what follows from action_events" in ledger.actions.verify()


def test_a_chain_whose_end_was_deleted_goes_on_from_its_last_row(ledger: Ledger) -> None:
    five(ledger)
    change(ledger, "DELETE FROM chains")
    report(ledger, action(), hours=3)
    assert ledger.actions.verify() == []
    assert ledger.actions.head().length == 6


def test_a_transaction_that_fails_adds_nothing(ledger: Ledger) -> None:
    five(ledger)
    before = ledger.actions.head()
    broken = action(OTHER).model_copy(update={"proof": {"list": object()}})
    with pytest.raises(Exception, match="serializable"):
        report(ledger, action(), broken)
    assert ledger.actions.head() == before
    assert ledger.actions.verify() == []


def test_threads_make_one_chain(url: str) -> None:
    """On SQLite a writer that read first would otherwise die with "database is locked"."""
    Ledger(url).close()

    def write(number: int) -> None:
        with contextlib.closing(Ledger(url)) as ledger:
            for n in range(WRITES):
                ledger.windows.claim_findings([finding(f"{number}-{n}")], window_key="A", now=NOW)
                one = action(address(f"203.0.113.{number * WRITES + n}"))
                ledger.actions.intend("waf", [one], run_id=f"{number}", now=NOW)
                report(ledger, one)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    with contextlib.closing(Ledger(url)) as ledger:
        assert ledger.actions.verify() == []
        assert ledger.actions.head().length == 2 * WRITERS * WRITES
        assert len(ledger.actions.rows()) == WRITERS * WRITES


def test_processes_make_one_chain(url: str) -> None:
    Ledger(url).close()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, url, str(number)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(WRITERS)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    with contextlib.closing(Ledger(url)) as ledger:
        assert ledger.actions.verify() == []
        assert ledger.actions.head().length == 2 * WRITERS * WRITES
        assert len(ledger.actions.rows_in_force(NOW)) == WRITERS * WRITES


def test_the_cost_of_a_record_does_not_grow_with_the_log(ledger: Ledger) -> None:
    """Statements are counted, not seconds: ten thousand actions in one batch are a few statements for each 500."""
    statements: list[str] = []
    listen(ledger, statements)
    many = [action(address(f"10.1.{n >> 8}.{n & 255}"), rung=Rung.BLOCK_SHORT) for n in range(2_000)]
    report(ledger, *many)
    first = len(statements)
    statements.clear()
    report(ledger, *many, hours=1)
    assert len(statements) <= first <= 60
    statements.clear()
    report(ledger, action())
    assert len(statements) <= 12
    assert ledger.actions.verify() == []


def listen(ledger: Ledger, statements: list[str]) -> None:
    @event.listens_for(ledger.database.engine, "before_cursor_execute")
    def count(connection: object, cursor: object, statement: str, *rest: object) -> None:
        statements.append(statement)


def test_the_head_is_told_where_it_is_kept_outside_of_the_ledger(ledger: Ledger) -> None:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("threat_response")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        report(ledger, action())
        ledger.actions.in_force("waf")
        report(ledger)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert lines == [f"Ledger: action_events now has 1 rows, head {ledger.actions.head().hash}"]
