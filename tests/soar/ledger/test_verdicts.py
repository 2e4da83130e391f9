"""What was decided about each value, and everything that it followed from."""

from __future__ import annotations

from datetime import datetime

import pytest
from sqlalchemy import event

from include.soar.judge.decision import decide
from include.soar.judge.verdict import History, Inputs, Judgement, judge
from include.soar.ledger import Ledger
from include.soar.model import (
    ActionBatch,
    Observable,
    ObservableType,
    Outcome,
)
from tests.soar.deciding import basis, batches, case_of_observed
from tests.soar.examples import NOW, address, finding, observed, policy, reputation, sighting
from tests.soar.ledger.records import EVIL, HOUR, OTHER, action

RULES = policy()


def judged(*observables: Observable, seen: datetime = NOW, score: int = 100) -> list[Judgement]:
    """As a run decides: listed by both sources (nothing at score 0), each seen once in a high finding."""
    event = finding(f"f-{seen:%d%H%M}", seen=seen)
    items = [observed(o, sighting(event.uid, seen=seen)) for o in observables]
    said = [reputation(o, score, provider=p) for o in observables for p in ("abuseipdb", "list_feed") if score]
    return decide(case_of_observed([event], items), batches(said), basis(RULES, NOW)).judgements


def record(ledger: Ledger, made: list[Judgement], run_id: str = "r1", now: datetime = NOW) -> None:
    ledger.verdicts.record(made, policy=RULES, minimum_severity=None, run_id=run_id, now=now)


def past(ledger: Ledger, *observables: Observable, before: datetime = NOW, known: datetime = NOW) -> dict[str, History]:
    return ledger.verdicts.history(observables, since=NOW - 720 * HOUR, before=before, known_before=known)


def test_a_verdict_is_kept_with_everything_that_it_followed_from(ledger: Ledger) -> None:
    (made,) = judged(EVIL)
    record(ledger, [made])
    row = ledger.verdicts.latest(EVIL, at=NOW)
    assert row is not None
    assert (row.observable, row.run_id, row.outcome) == (EVIL.key, "r1", "act")
    assert (row.decided_at, row.last_seen_at) == (NOW, NOW)
    assert row.policy_digest == RULES.digest
    assert ledger.verdicts.policy(row.policy_digest) == RULES.document
    assert ledger.verdicts.policy("0" * 64) is None
    inputs = Inputs.model_validate(row.inputs)
    assert inputs == made.inputs
    assert inputs.digest == row.inputs_digest
    again = judge(inputs, RULES)
    assert (again.standing.value, again.confidence, list(again.reasons)) == (row.standing, row.confidence, row.reasons)
    assert made.plan is not None
    assert row.plan == made.plan.to_json()


def test_what_is_decided_again_in_the_same_way_adds_nothing(ledger: Ledger) -> None:
    made = judged(EVIL, OTHER)
    record(ledger, made)
    record(ledger, made, now=NOW + HOUR)  # a retried task
    assert [(r.observable, r.decided_at) for r in ledger.verdicts.of_run("r1")] == [(EVIL.key, NOW), (OTHER.key, NOW)]
    record(ledger, judged(EVIL, score=95), now=NOW + HOUR)  # the same run, cleared: a source says something else now
    record(ledger, made, run_id="r2", now=NOW + 2 * HOUR)
    assert [(r.observable, r.confidence) for r in ledger.verdicts.of_run("r1")] == [
        (EVIL.key, 96),
        (OTHER.key, 96),
        (EVIL.key, 94),
    ]
    assert len(ledger.verdicts.of_run("r2")) == 2
    assert ledger.verdicts.deciding_runs(since=NOW, until=NOW + 3 * HOUR) == ["r1", "r2"]
    assert ledger.verdicts.deciding_runs(since=NOW, until=NOW + 2 * HOUR) == ["r1"]
    assert ledger.verdicts.deciding_runs(since=NOW + 3 * HOUR, until=NOW + 4 * HOUR) == []
    record(ledger, [])


def test_the_last_verdict_of_a_point_in_time(ledger: Ledger) -> None:
    record(ledger, judged(EVIL), now=NOW)
    record(ledger, judged(EVIL, score=0), run_id="r2", now=NOW + HOUR)
    assert ledger.verdicts.latest(EVIL, at=NOW - HOUR) is None
    for at, standing in ((NOW, "malicious"), (NOW + HOUR / 2, "malicious"), (NOW + HOUR, "unknown")):
        row = ledger.verdicts.latest(EVIL, at=at)
        assert row is not None
        assert row.standing == standing
    assert ledger.verdicts.latest(OTHER, at=NOW) is None


def test_history_tells_what_was_decided_over_earlier_findings(ledger: Ledger) -> None:
    own = address("192.0.2.1")
    for hours in (5, 3):
        record(ledger, judged(EVIL, own, seen=NOW - hours * HOUR), run_id=f"r{hours}", now=NOW - hours * HOUR)
    record(ledger, judged(own, seen=NOW - 2 * HOUR, score=0), run_id="r2", now=NOW - 2 * HOUR)
    found = past(ledger, EVIL, OTHER, own)
    assert found == {
        EVIL.key: History(malicious=2, malicious_last_at=NOW - 3 * HOUR),
        own.key: History(malicious=2, malicious_last_at=NOW - 3 * HOUR, benign=1, benign_last_at=NOW - 2 * HOUR),
    }
    # A plan is nobody's block until a control says so.
    for outcome, blocked in ((Outcome.PENDING, 0), (Outcome.FAILED, 0), (Outcome.BLOCKED, 2)):
        batch = ActionBatch(control="waf", actions=(action(outcome=outcome),))
        ledger.actions.record(batch, run_id="r", now=NOW - HOUR)
        assert past(ledger, EVIL)[EVIL.key].blocked == blocked
    # A retry of a run that began before reads what its first try read.
    assert past(ledger, EVIL, known=NOW - HOUR)[EVIL.key].blocked == 0
    # That it was blocked stays true when it was lifted.
    lifted = ActionBatch(control="waf", actions=(action(outcome=Outcome.LIFTED),))
    ledger.actions.record(lifted, run_id="r", now=NOW - HOUR)
    assert past(ledger, EVIL)[EVIL.key].blocked == 2


def test_a_run_does_not_meet_its_own_verdicts_nor_those_of_the_same_findings(ledger: Ledger) -> None:
    made = judged(EVIL)
    record(ledger, made, now=NOW + HOUR)
    # A retry of the same task, and another run over the same window a week later.
    assert past(ledger, EVIL, before=NOW, known=NOW + 170 * HOUR) == {}
    # A later finding meets it; but not a run that began before it was written.
    assert past(ledger, EVIL, before=NOW + HOUR, known=NOW + 2 * HOUR)[EVIL.key].malicious == 1
    assert past(ledger, EVIL, before=NOW + HOUR, known=NOW + HOUR) == {}
    # Nor does anybody, when it is too long ago.
    assert ledger.verdicts.history([EVIL], since=NOW + HOUR, before=NOW + 2 * HOUR, known_before=NOW + 2 * HOUR) == {}


def test_thousands_of_verdicts_with_long_values(ledger: Ledger) -> None:
    urls = [Observable(type=ObservableType.URL, value=f"https://a.example/{'ü' * 2000}/{n}") for n in range(2)]
    many = [*urls, *(address(f"203.0.{n >> 8}.{n & 255}") for n in range(1300))]
    record(ledger, judged(*many, seen=NOW - HOUR), run_id="r" * 500, now=NOW - HOUR)
    assert set(past(ledger, *many)) == {o.key for o in many}
    assert len(ledger.verdicts.of_run("r" * 500)) == 1302


def test_history_reads_no_whole_table(ledger: Ledger) -> None:
    """5a: for each verdict about a value all actions were read: 65 s with 100,000 of them."""
    if ledger.database.engine.dialect.name != "sqlite":
        pytest.skip("Postgres chooses by what it has counted, and reads a small table whole")
    asked: list[tuple[str, tuple[object, ...]]] = []

    @event.listens_for(ledger.database.engine, "before_cursor_execute")
    def note(connection: object, cursor: object, statement: str, parameters: tuple[object, ...], *rest: object) -> None:
        asked.append((statement, parameters))

    past(ledger, EVIL, OTHER)
    with ledger.database.engine.connect() as connection:
        plans = [
            str(row)
            for statement, parameters in [one for one in asked if one[0].startswith("SELECT")]
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    assert any("ix_action_events_observable" in plan for plan in plans)
    assert not any("SCAN" in plan for plan in plans)
