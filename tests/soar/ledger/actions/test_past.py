"""What the log tells about earlier blocks: which a person lifted, when each began, and how long each took."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from include.soar.judge.decision import decide
from include.soar.ledger import Ledger
from include.soar.ledger.actions import PARTS, Timing, percentiles
from include.soar.model import Action, ActionBatch, Outcome, Reached, Verb
from tests.soar.deciding import basis, batches, case_of_observed
from tests.soar.examples import NOW, finding, observed, policy, reputation, sighting
from tests.soar.ledger.records import EVIL, HOUR, OTHER, action

LIFT = action(outcome=Outcome.LIFTED, verb=Verb.LIFT)


class Log:
    """Writes events an hour after NOW each."""

    def __init__(self, ledger: Ledger) -> None:
        self.actions = ledger.actions

    def report(self, hours: float, one: Action, by: str = "", reason: str = "") -> None:
        batch = ActionBatch(control=one.control, actions=(one,))
        self.actions.record(batch, run_id="r", now=NOW + hours * HOUR, by=by, reason=reason)

    def act(self, hours: float, control: str = "waf", lasts: float | None = None) -> None:
        ends = NOW + (hours + lasts) * HOUR if lasts else None
        one = action(control=control, expires_at=ends, changed=True)
        self.actions.intend(control, [one], run_id="r", now=NOW + hours * HOUR)
        self.report(hours, one)

    def lifted(self, control: str | None = None) -> tuple[datetime, str, str, str] | None:
        one = self.actions.lifted([EVIL, OTHER], control).get(EVIL.key)
        return (one.at, one.by, one.reason, one.control) if one else None

    def starts(self, since: float = -1) -> list[float]:
        found = self.actions.repetitions([EVIL, OTHER], since=NOW + since * HOUR).get(EVIL.key, [])
        return [(at - NOW) / HOUR for at in found]

    def starts_at(self, hours: float) -> list[float]:
        seen = {EVIL.key: NOW + hours * HOUR}
        found = self.actions.repetitions([EVIL], since=NOW, seen_at=seen).get(EVIL.key, [])
        return [(at - NOW) / HOUR for at in found]


@pytest.fixture
def log(ledger: Ledger) -> Log:
    return Log(ledger)


def test_what_a_person_lifts_is_remembered_until_something_acts_again(log: Log) -> None:
    log.act(0)
    assert log.lifted() is None
    log.report(1, LIFT, by="anna", reason="our partner")
    assert log.lifted() == (NOW + HOUR, "anna", "our partner", "")
    assert log.lifted("splunk") == log.lifted()
    # What an older run still reports is no new decision.
    log.report(2, action())
    assert log.lifted() is not None
    # What acts at one control undoes it there. Whoever decides compares its time with the sightings.
    log.act(3, control="edr")
    assert log.lifted("edr") is None
    assert log.lifted("waf") == log.lifted() == (NOW + HOUR, "anna", "our partner", "")


def test_what_ended_by_itself_was_lifted_by_nobody(log: Log) -> None:
    log.act(0, lasts=1)
    log.report(2, LIFT)
    assert log.lifted() is None


def test_the_wish_counts_also_where_the_lift_fails_or_nothing_is_there(log: Log) -> None:
    log.report(0, action(outcome=Outcome.FAILED, verb=Verb.LIFT), by="anna", reason="x")
    assert log.lifted() == (NOW, "anna", "x", "")
    log.report(1, action(outcome=Outcome.PLANNED, verb=Verb.LIFT), by="bob", reason="y")
    assert log.lifted() == (NOW, "anna", "x", "")
    log.actions.lifts_wanted([EVIL], by="carl", reason="z", run_id="", now=NOW + 2 * HOUR)
    assert log.lifted("waf") == (NOW + 2 * HOUR, "carl", "z", "")


def test_what_is_removed_at_one_control_counts_there(log: Log) -> None:
    log.act(0)
    log.act(0, control="edr")
    log.actions.removed_by_person("waf", EVIL.key, at=NOW + HOUR, detail="not on the list")
    assert log.lifted() == (NOW + HOUR, "somebody at waf", "not on the list", "waf")
    assert log.lifted("waf") == log.lifted()
    assert log.lifted("edr") is None
    log.act(2, control="edr")  # elsewhere
    assert log.lifted() is not None
    log.act(3)
    assert log.lifted() is None


def test_each_block_has_one_start(log: Log) -> None:
    log.act(0, lasts=4)
    log.act(2, lasts=4)  # prolonged until 6
    log.act(10, lasts=4)
    log.report(14, LIFT)
    log.act(15, lasts=4)
    assert log.starts() == [0, 10, 15]
    assert log.starts(since=10) == [10, 15]
    assert log.starts(since=16) == []


def test_a_block_that_was_taken_back_before_its_end_is_none(log: Log) -> None:
    """Made and taken back three times in half an hour, it would have led to a long block."""
    for n in range(3):
        log.act(n / 6, lasts=4)
        log.report(n / 6 + 0.1, LIFT)
    assert log.starts() == []


def test_what_is_seen_while_it_is_blocked_does_not_come_back(log: Log) -> None:
    log.act(0, lasts=4)
    log.act(10, lasts=4)
    assert [log.starts_at(hours) for hours in (9, 10.5, 14)] == [[0, 10], [0], [0, 10]]


def test_controls_that_block_together_are_one_block(log: Log) -> None:
    log.act(0, lasts=4)
    log.act(0.1, control="edr", lasts=4)
    log.act(3.9, lasts=4)
    log.act(20, control="edr")
    log.act(30, lasts=1)  # the other one has no end
    assert log.starts() == [0, 20]


def test_what_is_watched_or_only_planned_is_no_block(log: Log) -> None:
    log.report(0, action(outcome=Outcome.WATCHED, verb=Verb.WATCH))
    log.report(1, action(OTHER))
    log.actions.intend("waf", [action()], run_id="r", now=NOW + 2 * HOUR)
    assert log.starts() == []


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_block_that_a_person_lifted_does_not_count(log: Log, everywhere: bool) -> None:
    log.act(0, lasts=4)
    log.act(0, control="edr", lasts=4)
    if everywhere:
        log.report(1, LIFT, by="anna", reason="x")
    else:
        for control in ("waf", "edr"):
            log.actions.removed_by_person(control, EVIL.key, at=NOW + HOUR, detail="x")
    log.report(1, action(control="edr", outcome=Outcome.GONE, verb=Verb.LIFT))
    log.act(9, lasts=4)
    assert log.starts() == [9]


def test_an_answer_is_in_the_log(log: Log) -> None:
    log.actions.answered([EVIL], approved=True, run_id="r", by="anna", reason="seen it", now=NOW)
    log.actions.answered([OTHER], approved=False, run_id="r", by="", reason="no answer in time", now=NOW)
    assert [(e.kind, e.control, e.verb, e.outcome, e.by, e.reason) for e in log.actions.events()] == [
        ("answered", "", "approve", "approved", "anna", "seen it"),
        ("answered", "", "approve", "declined", "", "no answer in time"),
    ]
    assert log.actions.rows() == []
    assert log.lifted() is None


def test_the_time_to_an_effective_block_by_part(ledger: Ledger) -> None:
    rules, minute = policy(), timedelta(minutes=1)
    early, late = finding("f1", seen=NOW - 50 * minute), finding("f2", seen=NOW - 20 * minute)
    ledger.windows.claim_findings([early], window_key="w", now=NOW - 40 * minute)
    ledger.windows.claim_findings([late], window_key="w", now=NOW)
    items = [observed(EVIL, sighting("f1", seen=early.detected_at), sighting("f2", seen=late.detected_at))]
    said = [reputation(EVIL, provider=p) for p in ("abuseipdb", "list_feed")]
    made = decide(case_of_observed([early, late], items), batches(said), basis(rules, NOW)).judgements
    ledger.verdicts.record(made, policy=rules, minimum_severity=None, run_id="r", now=NOW + minute)
    ledger.actions.answered([EVIL], approved=True, run_id="r", by="anna", reason="", now=NOW + 5 * minute)
    pending = action(outcome=Outcome.PENDING, expires_at=NOW + HOUR, changed=True)
    ledger.actions.intend("waf", [pending], run_id="r", now=NOW + 6 * minute)
    for minutes, one in ((7, pending), (20, action(expires_at=NOW + HOUR))):
        batch = ActionBatch(control="waf", actions=(one,))
        ledger.actions.record(batch, run_id="r", now=NOW + minutes * minute)
    # What a later run finds there, and what was never active, took no time.
    ledger.actions.record(batch, run_id="r2", now=NOW + 90 * minute)
    ledger.actions.intend("edr", [pending], run_id="r", now=NOW)
    (timing,) = ledger.actions.timings(since=NOW, until=NOW + HOUR)
    assert (timing.control, timing.observable, timing.run_id) == ("waf", EVIL.key, "r")
    minutes = {part: seconds / 60 for part, seconds in timing.seconds.items()}
    assert minutes == {"read": 10, "judged": 41, "approved": 4, "written": 2, "active": 13, "total": 70}
    assert tuple(minutes) == PARTS
    assert percentiles([timing], at=[50]) == {part: {50: seconds} for part, seconds in timing.seconds.items()}


def test_a_part_that_nobody_knows_is_none() -> None:
    def timing(active: int, **known: datetime) -> Timing:
        unknown = dict.fromkeys(("detected_at", "read_at", "judged_at", "approved_at"))
        place = {"control": "waf", "observable": EVIL.key, "run_id": "r"}
        return Timing(**place, **unknown | known, written_at=NOW, active_at=NOW + timedelta(seconds=active))  # type: ignore[arg-type]

    assert timing(60).seconds == {"active": 60}
    assert timing(60, judged_at=NOW - HOUR).seconds == {"written": 3600, "active": 60}
    found = percentiles([timing(n) for n in range(101)])
    assert found == {"active": {50: 50, 90: 90, 99: 99}}
    assert percentiles([]) == {}


def test_the_proof_decides_when_it_was_active(log: Log) -> None:
    log.actions.intend("waf", [action()], run_id="r", now=NOW)
    log.report(1, action(outcome=Outcome.PENDING, reached=Reached.STAGING))
    assert log.actions.timings() == []
    log.report(2, action(reached=Reached.ACTIVE))
    assert [t.seconds for t in log.actions.timings()] == [{"active": 3600}]
