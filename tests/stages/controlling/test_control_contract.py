"""
What every control promises, against each one's simulator: ensure and lift are idempotent, undo each other, leave alone
what is not ours or what a person has changed, and one bad item costs only itself. A survey reads only, a sweep removes
ours that have ended.
"""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest

from include.soar.model import Outcome, Reached, Rung, Step
from include.soar.vendor.errors import RateLimited, Unauthorized, Unavailable, VendorError, WriteInPlanMode
from tests.stages.controlling.control_contract import IP, Subject
from tests.stages.controls import POLICY, indicator
from tests.support import SimServer
from threat_response.registry import SERVES
from threat_response.runtime import settings

EVIL, WORSE, THIRD, BAD = "198.51.100.7", "198.51.100.8", "198.51.100.9", "198.51.100.10"
CONTROLS = [name for stage, names in SERVES.items() if stage.startswith("block.") or stage == "watch" for name in names]


@pytest.fixture(params=CONTROLS)
def control(request: pytest.FixtureRequest, sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Subject:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    subject: type[Subject] = import_module(f"tests.vendors.{request.param}.contract").SUBJECT
    return subject(sim, monkeypatch)


def test_ensure_twice_writes_once(control: Subject) -> None:
    control.ensure(EVIL, WORSE)
    written = control.writes()
    again = control.ensure(EVIL, WORSE)
    assert control.held() == {EVIL, WORSE}
    assert control.writes() == written
    assert {action.changed for action in again} == {False}


def test_lift_twice_removes_once(control: Subject) -> None:
    actions = control.ensure(EVIL, WORSE)
    lifted = control.lift(actions)
    assert set(lifted) == {EVIL, WORSE}
    assert {a.outcome for a in lifted.values()} <= {Outcome.LIFTED, Outcome.PENDING}
    assert all(a.changed for a in lifted.values())
    assert control.held() == set()
    written = control.writes()
    again = control.lift(actions)
    assert {a.outcome for a in again.values()} == {Outcome.GONE}
    assert not any(a.changed for a in again.values())
    assert control.writes() == written
    assert control.enforced() == set()


def test_only_what_was_named_is_lifted(control: Subject) -> None:
    first, second = control.ensure(EVIL, WORSE)
    control.lift([first])
    assert control.held() == {second.observable.value}


def test_an_item_of_a_person_stays(control: Subject) -> None:
    control.put(EVIL)
    left = control.lift([control.operator.action(control.indicator(EVIL), Outcome.BLOCKED, "says the ledger")])[EVIL]
    assert (left.outcome, left.changed) == (Outcome.NOT_OURS, False)
    assert "left alone" in left.detail
    assert control.held() == {EVIL}
    assert control.writes() == []


def test_what_a_person_changed_since_stays_and_costs_the_others_nothing(control: Subject) -> None:
    actions = control.ensure(EVIL, WORSE)
    control.change(EVIL)
    lifted = control.lift(actions)
    assert lifted[EVIL].outcome is Outcome.NOT_OURS
    assert "left alone" in lifted[EVIL].detail
    assert lifted[WORSE].outcome in (Outcome.LIFTED, Outcome.PENDING)
    assert control.held() == {EVIL}


def test_what_a_person_prolonged_since_stays(control: Subject) -> None:
    """The ledger's end is the proof: the item says another one."""
    [action] = control.ensure(EVIL)
    assert action.expires_at is not None
    earlier = action.model_copy(update={"expires_at": action.expires_at - timedelta(days=1)})
    assert control.lift([earlier])[EVIL].outcome is Outcome.NOT_OURS
    assert control.held() == {EVIL}


def test_what_is_gone_already_is_no_failure(control: Subject) -> None:
    actions = control.ensure(EVIL, WORSE)
    control.lift(actions[:1])
    control.lift([])  # nothing to do is nothing done
    lifted = control.lift(actions)
    gone, removed = (lifted[action.observable.value] for action in actions)
    # Pending where the list that no longer holds it is not enforced yet.
    assert (gone.outcome in (Outcome.GONE, Outcome.PENDING), gone.changed) == (True, False)
    assert (removed.outcome in (Outcome.LIFTED, Outcome.PENDING), removed.changed) == (True, True)
    assert control.held() == set()


def test_plan_mode_refuses_to_lift(control: Subject) -> None:
    actions = control.ensure(EVIL)
    control.sim.world.calls.clear()
    with pytest.raises(WriteInPlanMode):
        control.lift(actions, writes=False)
    assert control.writes() == []
    assert control.held() == {EVIL}


def test_one_bad_item_costs_only_itself(control: Subject) -> None:
    actions = control.ensure(EVIL, WORSE, BAD, THIRD)
    control.refuse_to_remove(BAD)
    result = control.result(actions)
    assert result.error is None
    lifted = control.actions(result)
    assert lifted[BAD].outcome is Outcome.FAILED
    assert {lifted[v].outcome for v in (EVIL, WORSE, THIRD)} <= {Outcome.LIFTED, Outcome.PENDING}
    assert control.held() == {BAD}


def test_ensure_works_again_after_a_lift(control: Subject) -> None:
    control.lift(control.ensure(EVIL))
    [again] = control.ensure(EVIL)
    assert (again.verb, again.changed) == (control.kind.verb, True)
    assert control.held() == {EVIL}


@pytest.mark.parametrize(
    ("status", "error"), [(401, Unauthorized), (429, RateLimited), (500, Unavailable)], ids=["401", "429", "500"]
)
def test_what_stops_the_removing_is_said_and_a_later_try_finishes(
    control: Subject, status: int, error: type[VendorError]
) -> None:
    actions = control.ensure(EVIL, WORSE)
    control.sim.fault(control.name, "status", status=status, **control.removal)
    result = control.result(actions)
    assert type(result.error) is error
    assert {a.outcome for a in control.actions(result).values()} == {Outcome.FAILED}
    assert control.held() == {EVIL, WORSE}
    control.lift(actions)
    assert control.held() == set()


def test_an_answer_that_is_lost_after_the_removal_is_found_done(control: Subject) -> None:
    actions = control.ensure(EVIL)
    control.sim.fault(control.name, "reset_after_commit", **control.removal)
    control.result(actions)
    assert control.held() == set()
    last = control.lift(actions)[EVIL]
    assert last.outcome in (Outcome.GONE, Outcome.PENDING)
    assert control.lift(actions)[EVIL].outcome is Outcome.GONE
    assert control.enforced() == set()


def test_what_is_not_for_the_control_is_not_there(control: Subject) -> None:
    [action] = control.ensure(EVIL)
    stray = action.model_copy(update={"observable": indicator("url", "http://bad.example/x").observable})
    assert control.lift([stray])["http://bad.example/x"].outcome is Outcome.GONE
    assert control.held() == {EVIL}


# --- looking, and respecting a person ------------------------------------------------------------------------


def test_a_survey_tells_ours_from_a_persons_and_reads_only(control: Subject) -> None:
    control.ensure(EVIL, WORSE)
    control.put(THIRD)
    control.change(WORSE)
    control.sim.world.calls.clear()
    held = control.survey(THIRD, BAD)
    assert control.writes() == []
    assert {value: (one.is_ours, one.ended) for value, one in held.items()} == {
        EVIL: (True, False),
        WORSE: (True, False),
        THIRD: (False, False),
    }
    assert held[EVIL].altered == ""
    assert held[WORSE].altered
    assert held[EVIL].expires_at == control.indicator(EVIL).expires_at.replace(microsecond=0)


def test_a_survey_says_what_has_ended(control: Subject) -> None:
    control.ensure(EVIL)
    assert {one.ended for one in control.survey(later=timedelta(days=6)).values()} == {False}
    assert {one.ended for one in control.survey(later=timedelta(days=8)).values()} == {True}


def test_a_preview_says_what_would_be_written(control: Subject) -> None:
    control.ensure(EVIL, WORSE)
    control.see_again(WORSE, expires_at=control.indicator(WORSE).expires_at + timedelta(days=9))
    written = control.writes()
    planned = control.act(EVIL, WORSE, THIRD, effects="plan").actions
    assert {value: action.changed for value, action in planned.items()} == {EVIL: False, WORSE: True, THIRD: True}
    assert {action.outcome for action in planned.values()} == {Outcome.PLANNED}
    ends = {value: control.indicator(value).expires_at.replace(microsecond=0) for value in planned}
    assert {v: a.expires_at and a.expires_at.replace(microsecond=0) for v, a in planned.items()} == ends
    assert control.writes() == written


def test_what_a_person_removed_is_not_put_back_until_it_is_seen_again(control: Subject) -> None:
    """3c: a repeat of the same window appended and activated it again."""
    control.ensure(EVIL, WORSE)
    control.remove(EVIL)
    written = control.writes()
    assert control.act(EVIL, WORSE, effects="plan").outcomes[EVIL] == "not_ours"
    for _ in range(2):  # the next try of the task, and the next run
        again = control.act(EVIL, WORSE)
        assert again.error is None
        assert again.actions[EVIL].outcome is Outcome.NOT_OURS
        assert again.actions[EVIL].detail.startswith("lifted by a person")
        assert again.actions[WORSE].outcome is not Outcome.NOT_OURS
    assert control.held() == {WORSE}
    assert control.writes() == written
    lifted = settings.ledger().actions.lifted([control.indicator(EVIL).observable])
    assert [(one.control, "lifted by a person" in one.reason) for one in lifted.values()] == [(control.name, True)]
    control.see_again(EVIL)
    [back] = control.ensure(EVIL)
    assert (back.verb, back.changed) == (control.kind.verb, True)
    assert control.held() == {EVIL, WORSE}


def test_what_a_person_changed_is_not_written_over_until_it_is_seen_again(control: Subject) -> None:
    control.ensure(EVIL)
    control.change(EVIL)
    written = control.writes()
    longer = control.indicator(EVIL).expires_at + timedelta(days=90)
    control.indicators[EVIL] = control.indicator(EVIL).model_copy(update={"expires_at": longer})
    [left] = control.ensure(EVIL)
    assert left.outcome is Outcome.NOT_OURS
    assert left.detail.startswith("altered by a person")
    assert control.writes() == written
    control.see_again(EVIL)
    [back] = control.ensure(EVIL)
    assert (back.changed, back.expires_at) == (True, longer.replace(microsecond=0))


def test_what_was_never_reported_was_not_removed_by_a_person(control: Subject) -> None:
    """A try that wrote and died before it told the ledger, and one whose write was lost."""
    control.ensure(EVIL)
    control.remove(EVIL)
    control.lose_ledger()
    [back] = control.ensure(EVIL)
    assert back.changed


# --- sweeping ------------------------------------------------------------------------------------------------


def test_a_sweep_removes_ours_that_have_ended_and_nothing_else(control: Subject) -> None:
    """3d: nothing in the project ever removed an item."""
    control.indicators[WORSE] = indicator(IP, WORSE, days=90)
    control.ensure(EVIL, WORSE, BAD)
    control.change(BAD)
    control.put(THIRD)
    assert control.sweep(timedelta()) == {}
    swept = control.sweep(timedelta(days=8))
    assert set(swept) == {EVIL}
    assert (swept[EVIL].outcome in (Outcome.LIFTED, Outcome.PENDING), swept[EVIL].changed) == (True, True)
    assert control.held() == {WORSE, BAD, THIRD}
    written = control.writes()
    control.sweep(timedelta(days=8))
    assert EVIL not in control.enforced()
    assert control.writes() == written


def test_a_sweep_needs_no_ledger_where_the_vendor_lists_all(control: Subject) -> None:
    control.ensure(EVIL)
    control.lose_ledger()
    swept = control.sweep(timedelta(days=8))
    assert set(swept) == ({EVIL} if control.lists_all else set())
    assert control.held() == (set() if control.lists_all else {EVIL})


def test_plan_mode_refuses_to_sweep(control: Subject) -> None:
    control.ensure(EVIL)
    with pytest.raises(WriteInPlanMode):
        control.sweep(timedelta(days=8), writes=False)
    assert control.held() == {EVIL}


# --- the ladder of proof, from the intent on ----------------------------------------------------------------------


def test_each_action_says_how_far_it_is_proved_and_at_which_rung(control: Subject) -> None:
    step = Step(rung=Rung.BLOCK_SHORT, expires_at=control.indicator(EVIL).expires_at)
    control.indicators[EVIL] = control.indicator(EVIL).model_copy(update={"steps": (step,)})
    [first] = control.ensure(EVIL)
    [second] = control.ensure(EVIL)
    assert first.reached in (Reached.LISTED, Reached.ACTIVE)
    assert (second.reached, first.rung, second.rung) == (Reached.ACTIVE, Rung.BLOCK_SHORT, Rung.BLOCK_SHORT)
    control.lift([second])
    assert control.lift([second])[EVIL].reached is Reached.GONE


def test_what_is_about_to_be_written_is_noted_before_it_is(control: Subject) -> None:
    """A task that dies between the vendor's commit and its own report leaves nothing that nobody knows of."""
    control.sim.fault(control.name, "reset_after_commit", times=-1, **control.addition)
    lost = control.act(EVIL, WORSE)
    assert lost.error is not None
    control.sim.world.faults.clear()
    noted = settings.ledger().actions.events(control=control.name)
    intents = {event.observable: event for event in noted if event.kind == "intended"}
    # A control that writes one by one stops at the first.
    assert {f"{IP}:{value}" for value in control.held()} <= set(intents) <= {f"{IP}:{EVIL}", f"{IP}:{WORSE}"}
    assert control.held()
    assert {(event.run_id, event.incidents) for event in intents.values()} == {("response/run-1", ("INC-1",))}
    again = control.ensure(EVIL, WORSE)
    assert not {action.outcome for action in again} & {Outcome.NOT_OURS, Outcome.FAILED}


def test_what_changes_nothing_is_not_noted_as_intended(control: Subject) -> None:
    control.ensure(EVIL)
    control.ensure(EVIL)
    noted = settings.ledger().actions.events(control=control.name)
    assert [event.kind for event in noted].count("intended") == 1


def test_a_removal_is_noted_before_it_is_made(control: Subject) -> None:
    actions = control.ensure(EVIL)
    control.sim.fault(control.name, "reset_after_commit", times=-1, **control.removal)
    control.result(actions)
    control.sim.world.faults.clear()
    last = settings.ledger().actions.events(control=control.name)[-1]
    assert (last.kind, last.verb, last.observable) == ("intended", "lift", f"{IP}:{EVIL}")
    # Nobody but us removed it, so what is seen again by the same run may be written again.
    [back] = control.ensure(EVIL)
    assert back.outcome is not Outcome.NOT_OURS
