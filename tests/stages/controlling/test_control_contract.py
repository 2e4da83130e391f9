"""
What every control promises, against each one's simulator: ensure and lift are idempotent, undo each other, leave alone
what is not ours or what a person has changed, and one bad item costs only itself.
"""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest

from include.soar.model import Outcome
from include.soar.vendor.errors import RateLimited, Unauthorized, Unavailable, VendorError, WriteInPlanMode
from tests.stages.controlling.control_contract import Subject
from tests.stages.controls import POLICY, indicator
from tests.support import SimServer
from threat_response.registry import SERVES

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
