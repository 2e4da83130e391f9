"""What each control last reported, and what of ours is in force there, or may be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import text

from include.soar.ledger import Ledger
from include.soar.model import (
    Action,
    ActionBatch,
    Observable,
    ObservableType,
    Outcome,
    Reached,
    Rung,
    Verb,
)
from tests.soar.examples import NOW, address, gate_at, policy
from tests.soar.ledger.records import EVIL, HOUR, OTHER, action


def test_an_actions_row_is_the_last_known_state(ledger: Ledger) -> None:
    pending = action(outcome=Outcome.PENDING, detail="activation 7", proof={"activation": 7, "list": "x"})
    ledger.actions.record(ActionBatch(control="waf", actions=(pending,)), run_id="r1", now=NOW)
    done = action(expires_at=NOW + HOUR, proof={"activation": 7, "version": None})
    ledger.actions.record(ActionBatch(control="waf", actions=(pending, done)), run_id="r2", now=NOW + HOUR)
    (row,) = ledger.actions.rows()
    assert (row.observable, row.outcome, row.verb, row.run_id) == (EVIL.key, "blocked", "deny", "r2")
    assert (row.expires_at, row.updated_at) == (NOW + HOUR, NOW + HOUR)
    assert json.dumps(row.proof, sort_keys=True) == '{"activation": 7, "version": null}'


def test_actions_by_control(ledger: Ledger) -> None:
    ledger.actions.record(ActionBatch(control="edr", actions=(action(control="edr"),)), run_id="r", now=NOW)
    ledger.actions.record(ActionBatch(control="waf", actions=(action(),)), run_id="r", now=NOW)
    ledger.actions.record(ActionBatch(control="siem", actions=()), run_id="r", now=NOW)
    assert [row.control for row in ledger.actions.rows()] == ["edr", "waf"]
    assert [row.control for row in ledger.actions.rows("waf")] == ["waf"]


def test_an_entry_that_is_added_later_cancels_what_is_in_force(ledger: Ledger, tmp_path: Path) -> None:
    over, long_url = (
        address("203.0.113.99"),
        Observable(type=ObservableType.URL, value="http://evil.example/" + "a" * 600),
    )
    in_force = (action(EVIL), action(OTHER, outcome=Outcome.FAILED), action(over, expires_at=NOW), action(long_url))
    ledger.actions.record(ActionBatch(control="waf", actions=in_force), run_id="r1", now=NOW - HOUR)
    assert ledger.actions.cancel_protected(gate_at(policy()), run_id="r2", now=NOW) == []
    entry = "{value: 203.0.113.0/24, until: 2030-01-01, owner: j.doe, reason: our scanner}"
    later = gate_at(policy(tmp_path, f"never_block: {{allow: [{entry}]}}"))
    ((row, hit),) = ledger.actions.cancel_protected(later, run_id="r2", now=NOW)
    assert (row.observable, row.outcome, row.run_id, hit.layer) == (EVIL.key, "cancelled", "r2", "allow")
    assert row.detail.startswith("was blocked; ")
    assert "our scanner" in row.detail
    # Told once; and what the control says afterwards holds.
    assert ledger.actions.cancel_protected(later, run_id="r3", now=NOW) == []
    outcomes = {row.observable: row.outcome for row in ledger.actions.rows()}
    assert outcomes == {EVIL.key: "cancelled", OTHER.key: "failed", over.key: "blocked", long_url.key: "blocked"}


def test_a_domain_that_begins_like_a_digest_is_cancelled_too(ledger: Ledger, tmp_path: Path) -> None:
    named = Observable(type=ObservableType.DOMAIN, value="sha256.evil.example")
    ledger.actions.record(ActionBatch(control="waf", actions=(action(named),)), run_id="r1", now=NOW - HOUR)
    entry = "{value: evil.example, until: 2030-01-01, owner: j.doe, reason: our own name}"
    ((row, _),) = ledger.actions.cancel_protected(
        gate_at(policy(tmp_path, f"never_block: {{allow: [{entry}]}}")), run_id="r2", now=NOW
    )
    assert (row.observable, row.outcome) == (named.key, "cancelled")


DAY = 24 * HOUR


def report(ledger: Ledger, *actions: Action, hours: int = 0, run_id: str = "r", **more: str) -> None:
    ledger.actions.record(ActionBatch(control="waf", actions=actions), run_id=run_id, now=NOW + hours * HOUR, **more)


def intend(ledger: Ledger, *actions: Action, hours: int = 0, run_id: str = "r") -> None:
    ledger.actions.intend("waf", actions, run_id=run_id, now=NOW + hours * HOUR)


def outcomes(ledger: Ledger, *, doubtful: bool = False) -> list[tuple[Outcome, Reached | None]]:
    return [(one.outcome, one.reached) for one in ledger.actions.rows_in_force(NOW, doubtful=doubtful)]


BLOCKED = action(expires_at=NOW + DAY, rung=Rung.BLOCK_LONG, proof={"list": "x", "version": 3})
LIFTED = action(outcome=Outcome.LIFTED, verb=Verb.LIFT)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.UNSUPPORTED, Outcome.PROTECTED, Outcome.EXPIRED])
def test_a_later_try_that_does_nothing_leaves_what_is_in_force(
    ledger: Ledger, tmp_path: Path, outcome: Outcome
) -> None:
    """3b: the failed try was written over the block, and nobody found it again when the address was protected."""
    report(ledger, BLOCKED, run_id="r1")
    report(ledger, action(outcome=outcome, detail="HTTP 500"), hours=1, run_id="r2")
    (row,) = ledger.actions.rows("waf")
    assert (row.outcome, row.run_id) == (outcome, "r2")
    known = ledger.actions.in_force("waf")[EVIL.key]
    assert (known.outcome, known.expires_at, known.run_id) == (Outcome.BLOCKED, NOW + DAY, "r1")
    assert (known.rung, known.reached, known.since) == (Rung.BLOCK_LONG, Reached.ACTIVE, NOW)
    assert known.proof == {"list": "x", "version": 3}
    entry = "{value: 203.0.113.0/24, until: 2030-01-01, owner: j.doe, reason: our scanner}"
    gate = gate_at(policy(tmp_path, f"never_block: {{allow: [{entry}]}}"))
    ((cancelled, _),) = ledger.actions.cancel_protected(gate, run_id="r3", now=NOW + 2 * HOUR)
    assert (cancelled.observable, cancelled.detail[:13]) == (EVIL.key, "was blocked; ")
    # It is to be lifted, and stays in force until it is: also when the control says that it is protected.
    report(ledger, action(outcome=Outcome.PROTECTED), hours=3)
    (left,) = ledger.actions.rows_in_force(NOW)
    assert "our scanner" in left.cancelled
    report(ledger, LIFTED, hours=4)
    assert ledger.actions.rows_in_force(NOW) == []


@pytest.mark.parametrize(
    "end",
    [
        LIFTED,
        action(outcome=Outcome.GONE, verb=Verb.LIFT),
        action(outcome=Outcome.NOT_OURS, verb=Verb.LIFT),
        action(outcome=Outcome.EXPIRED, reached=Reached.GONE),
    ],
    ids=["lifted", "gone", "a person's now", "seen gone"],
)
def test_what_ends_it(ledger: Ledger, end: Action) -> None:
    report(ledger, BLOCKED, action(OTHER))
    report(ledger, end, hours=1)
    assert list(ledger.actions.in_force("waf")) == [OTHER.key]


def test_its_own_end_does_not_end_it_until_it_was_seen_gone(ledger: Ledger) -> None:
    report(ledger, BLOCKED)
    (before,) = ledger.actions.rows_in_force(NOW + DAY - HOUR)
    (after,) = ledger.actions.rows_in_force(NOW + DAY)
    assert (before.ended, after.ended) == (False, True)
    assert EVIL.key in ledger.actions.in_force("waf")


def test_an_intent_is_known_although_its_task_died(ledger: Ledger) -> None:
    intend(ledger, BLOCKED)
    (one,) = ledger.actions.rows_in_force(NOW, "waf")
    assert (one.outcome, one.reached, one.rung, one.since) == (Outcome.PENDING, Reached.INTENDED, Rung.BLOCK_LONG, NOW)
    assert one.action() == BLOCKED.model_copy(update={"outcome": Outcome.PENDING, "reached": Reached.INTENDED})
    assert ledger.actions.rows_in_force(NOW, "edr") == []
    assert ledger.actions.rows() == []  # no control has reported anything
    # The retry finds it there.
    report(ledger, BLOCKED, hours=1)
    assert outcomes(ledger) == [(Outcome.BLOCKED, Reached.ACTIVE)]


def test_an_intent_to_prolong_leaves_both_ends_possible(ledger: Ledger) -> None:
    report(ledger, BLOCKED)
    longer = BLOCKED.model_copy(update={"expires_at": NOW + 2 * DAY})
    intend(ledger, longer, hours=1)
    known = ledger.actions.in_force("waf")[EVIL.key]
    assert (known.expires_at, known.intended_until, known.reached) == (NOW + DAY, NOW + 2 * DAY, Reached.ACTIVE)
    assert known.ends == {NOW + DAY, NOW + 2 * DAY}
    report(ledger, longer.model_copy(update={"outcome": Outcome.PENDING}), hours=2)
    assert ledger.actions.in_force("waf")[EVIL.key].ends == {NOW + DAY, NOW + 2 * DAY}
    report(ledger, longer, hours=3)
    known = ledger.actions.in_force("waf")[EVIL.key]
    assert (known.ends, known.intended_verb, known.since) == ({NOW + 2 * DAY}, None, NOW)


def test_an_intent_to_lift_says_that_it_may_be_gone(ledger: Ledger) -> None:
    report(ledger, BLOCKED)
    intend(ledger, action(verb=Verb.LIFT), action(OTHER, verb=Verb.LIFT), hours=1)
    (key, known), *others = ledger.actions.in_force("waf").items()
    assert (key, known.outcome, known.intended_verb, others) == (EVIL.key, Outcome.BLOCKED, Verb.LIFT, [])
    report(ledger, action(verb=Verb.LIFT, outcome=Outcome.PENDING, proof={"activation": 9}), hours=2)
    (one,) = ledger.actions.rows_in_force(NOW)
    assert (one.lifting, one.outcome, one.proof) == (True, Outcome.BLOCKED, {"activation": 9})


def test_an_activation_that_fails_is_not_in_force_and_may_be_there(ledger: Ledger) -> None:
    """3a: the item is on the list; whoever activates the list next puts it into force."""
    intend(ledger, BLOCKED)
    report(ledger, BLOCKED.model_copy(update={"outcome": Outcome.PENDING, "reached": Reached.LISTED}))
    failed = action(outcome=Outcome.FAILED, reached=Reached.LISTED, detail="the activation failed")
    report(ledger, failed, hours=1)
    assert outcomes(ledger) == []
    assert outcomes(ledger, doubtful=True) == [(Outcome.FAILED, Reached.LISTED)]
    assert ledger.actions.in_force("waf") == {}


def test_a_failure_before_anything_was_asked_leaves_nothing(ledger: Ledger) -> None:
    report(ledger, action(outcome=Outcome.FAILED))
    assert outcomes(ledger, doubtful=True) == []


def test_blocked_again_after_its_end_is_a_new_time_in_force(ledger: Ledger) -> None:
    report(ledger, BLOCKED)
    report(ledger, BLOCKED.model_copy(update={"expires_at": NOW + 2 * DAY}), hours=23)
    assert ledger.actions.rows_in_force(NOW)[0].since == NOW
    report(ledger, BLOCKED.model_copy(update={"expires_at": NOW + 4 * DAY}), hours=49)
    assert ledger.actions.rows_in_force(NOW)[0].since == NOW + 49 * HOUR


def test_the_incidents_of_an_entry_are_all_that_told_of_it(ledger: Ledger) -> None:
    ledger.actions.intend("waf", [BLOCKED], run_id="r1", now=NOW, incidents={EVIL.key: ["INC-2"], OTHER.key: ["no"]})
    report(ledger, BLOCKED)
    batch = ActionBatch(control="waf", actions=(BLOCKED,))
    ledger.actions.record(batch, run_id="r2", now=NOW + HOUR, incidents={EVIL.key: ["INC-1", "INC-2"]})
    assert ledger.actions.rows_in_force(NOW)[0].incidents == ("INC-1", "INC-2")


def test_what_is_named_by_its_hash_comes_back_whole(ledger: Ledger) -> None:
    url = Observable(type=ObservableType.URL, value="http://evil.example/" + "a" * 900)
    report(ledger, action(url, outcome=Outcome.WATCHED, verb=Verb.WATCH))
    assert ledger.actions.rows_in_force(NOW)[0].observable == url


def test_a_person_who_removed_ours_is_told_once(ledger: Ledger) -> None:
    report(ledger, BLOCKED)
    assert ledger.actions.removed_by_person("waf", EVIL.key, at=NOW + HOUR, detail="not on the list any more")
    assert ledger.actions.in_force("waf") == {}
    assert not ledger.actions.removed_by_person("waf", EVIL.key, at=NOW + 5 * HOUR, detail="not on the list any more")
    assert not ledger.actions.removed_by_person("waf", OTHER.key, at=NOW, detail="never ours")
    assert ledger.actions.lifted([EVIL, OTHER])[EVIL.key].at == NOW + HOUR


def test_the_question_about_the_past_reads_no_whole_table(ledger: Ledger) -> None:
    """5a: for each verdict about a value all actions were read: 65 s with 100,000 of them."""
    report(ledger, BLOCKED)
    asked: list[str] = []
    for table in ("actions", "action_events", "entries"):
        statement = f"SELECT 1 FROM {table} WHERE observable = 'ipv4-addr:203.0.113.7'"
        with ledger.database.engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                plan = connection.execute(text(f"EXPLAIN QUERY PLAN {statement}"))
            else:
                connection.execute(text("SET enable_seqscan = off"))
                plan = connection.execute(text(f"EXPLAIN {statement}"))
            asked.append(" ".join(str(row) for row in plan))
    for table, plan in zip(("actions", "action_events", "entries"), asked, strict=True):
        assert f"ix_{table}_observable" in plan
