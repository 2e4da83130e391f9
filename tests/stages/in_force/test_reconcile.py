"""After a reconcile a control and the ledger say the same, and nothing was touched that is not ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from include.soar.model import Observable
from include.soar.vendor.errors import Unavailable
from tests.stages.in_force.conftest import IP, Held
from threat_response import groups
from threat_response.runtime import settings

EVIL, WORSE, THIRD = "198.51.100.7", "198.51.100.8", "198.51.100.9"
CONTROLS = list(groups.controls())
every_control = pytest.mark.parametrize("held", CONTROLS, indirect=True)
GONE = {"lifted", "gone"}


@every_control
def test_what_has_ended_is_gone_everywhere_within_one_pass(held: Held) -> None:
    held.blocked(EVIL, WORSE)
    assert held.reconcile(only_expired=True) == {}
    held.put_forward(days=8)
    done = held.reconcile(only_expired=True)
    assert set(done) == {EVIL, WORSE}
    assert set(done.values()) <= {*GONE, "pending"}
    held.reconcile(only_expired=True)
    assert held.equals_the_ledger()
    assert held.in_force() == {}
    assert held.reconcile() == {}


@every_control
def test_what_is_in_force_and_as_we_left_it_is_kept(held: Held) -> None:
    held.blocked(EVIL)
    held.put_forward(hours=2)
    written = held.subject.writes()
    assert held.reconcile() == {}
    assert held.subject.writes() == written
    assert held.equals_the_ledger()


@every_control
def test_a_persons_item_is_never_touched(held: Held) -> None:
    held.subject.put(EVIL)
    held.put_forward(days=800)
    assert held.reconcile() == {}
    assert held.subject.held() == {EVIL}
    assert held.subject.writes() == []


@every_control
def test_3c_what_a_person_removed_is_theirs_and_told_once(held: Held) -> None:
    held.blocked(EVIL, WORSE)
    held.subject.remove(EVIL)
    held.put_forward(hours=2)
    assert held.reconcile() == {EVIL: "not_ours"}
    assert "removed it before its end" in held.actions()[0].detail
    assert held.reconcile() == {}
    [lifted] = held.ledger.actions.lifted([Observable(type=IP, value=EVIL)]).values()
    assert lifted.control == held.name
    assert set(held.in_force()) == {WORSE}


@every_control
def test_3c_what_a_person_changed_is_theirs_even_past_its_end(held: Held) -> None:
    held.blocked(EVIL, WORSE)
    held.subject.change(EVIL)
    held.put_forward(days=8)
    done = held.reconcile()
    assert done[EVIL] == "not_ours"
    assert done[WORSE] in (*GONE, "pending")
    assert held.subject.held() == {EVIL}
    assert held.reconcile() in ({}, {WORSE: "gone"})
    assert held.subject.held() == {EVIL}


@every_control
def test_a_ledger_that_was_lost_fills_up_again_and_ends_what_it_found(held: Held, tmp_path: Path) -> None:
    held.blocked(EVIL)
    held.subject.put(WORSE)
    for file in tmp_path.glob("ledger.db*"):
        file.unlink()
    held.reconcile()
    assert set(held.in_force()) == {EVIL}
    held.put_forward(days=8)
    held.reconcile(only_expired=True)
    held.reconcile(only_expired=True)
    assert held.subject.held() == {WORSE}
    assert held.in_force() == {}


@every_control
def test_what_became_protected_is_lifted_and_says_by_what(held: Held, tmp_path: Path) -> None:
    held.blocked(EVIL, WORSE)
    own = tmp_path / "own.yaml"
    entry = f"{{value: {EVIL}, until: 2999-01-31, owner: soc, reason: a partner}}"
    own.write_text(f"never_block: {{allow: [{entry}]}}\n", "utf-8")
    held.monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", f"{settings.option('policy')}:{own}")
    done = held.reconcile()
    if held.subject.kind.gated:
        assert set(done) == {EVIL}
        assert "a partner" in held.actions()[0].detail
        assert held.subject.held() == {WORSE}
    else:  # being watched harms nobody
        assert done == {}


@every_control
def test_a_run_that_only_plans_says_it_and_writes_nothing(held: Held) -> None:
    held.blocked(EVIL)
    held.put_forward(days=8)
    written = held.subject.writes()
    held.reconcile(held.context(effects="plan"))
    assert [(a.observable.value, a.outcome.value) for a in held.actions()] == [(EVIL, "planned")]
    assert held.subject.writes() == written
    assert set(held.in_force()) == {EVIL}


@every_control
def test_another_run_at_work_there_is_waited_for(held: Held) -> None:
    held.blocked(EVIL)
    held.put_forward(days=8)
    from datetime import timedelta

    ledger, name = held.ledger, f"in_force:{held.name}"
    ledger.claims.take(name, by="another", now=settings.now(), lease=timedelta(minutes=10))
    written = held.subject.writes()
    with pytest.raises(Unavailable, match="another run is changing"):
        held.reconcile_or_raise()
    assert held.subject.writes() == written
    ledger.claims.release(name, by="another")
    held.reconcile()
    held.reconcile()
    assert held.equals_the_ledger()


@every_control
def test_a_retry_gives_what_the_first_try_has_ended(held: Held) -> None:
    """The first one died between the ledger and the incident: nobody would be told."""
    held.blocked(EVIL)
    held.put_forward(days=8)
    context = held.context(run_id="the-run")
    held.reconcile(context)
    assert set(held.reconcile(context)) == {EVIL}
    assert held.reconcile() in ({}, {EVIL: "gone"})


@every_control
def test_a_person_lifts_and_it_is_remembered_until_a_new_sighting(held: Held) -> None:
    held.blocked(EVIL, WORSE)
    assert set(held.lift(EVIL)) == {EVIL}
    held.lift(EVIL)
    assert held.subject.held() == {WORSE}
    assert set(held.in_force()) == {WORSE}
    lifted = held.ledger.actions.lifted([Observable(type=IP, value=EVIL)])
    assert [(one.by, one.reason) for one in lifted.values()] == [("ada", "a customer")]
    assert held.lift(THIRD) == {}


@every_control
def test_a_lift_works_where_the_ledger_was_lost(held: Held, tmp_path: Path) -> None:
    held.blocked(EVIL)
    held.subject.put(WORSE)
    for file in tmp_path.glob("ledger.db*"):
        file.unlink()
    assert set(held.lift(EVIL, WORSE)) == {EVIL}
    assert held.subject.held() == {WORSE}


@every_control
def test_a_control_that_is_switched_off_is_left_to_itself_but_lift_works(held: Held, tmp_path: Path) -> None:
    held.blocked(EVIL, WORSE)
    off = tmp_path / "off.yaml"
    off.write_text(f"response: {{switched_off: [{held.name}]}}\n", "utf-8")
    held.monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", f"{settings.option('policy')}:{off}")
    held.put_forward(days=8)
    written = held.subject.writes()
    with pytest.raises(AirflowSkipException, match="switched off in the policy"):
        held.reconcile()
    assert held.subject.writes() == written
    assert set(held.lift(EVIL)) == {EVIL}
    assert held.subject.held() == {WORSE}


@pytest.mark.parametrize("held", ["akamai_client_lists"], indirect=True)
def test_3a_an_item_whose_activation_failed_is_brought_into_force(held: Held) -> None:
    held.subject.sim.configure(held.name, activation_outcome="FAILED")
    held.blocked(EVIL)
    assert held.subject.held() == {EVIL}
    assert held.subject.enforced() == set()
    held.subject.sim.configure(held.name, activation_outcome="ACTIVE")
    held.put_forward(minutes=5)
    held.reconcile()
    held.reconcile()
    assert held.subject.enforced() == {EVIL}
    assert held.in_force()[EVIL].outcome == "blocked"


@pytest.mark.parametrize("held", ["akamai_client_lists"], indirect=True)
def test_an_item_that_no_activation_followed_is_brought_into_force(held: Held) -> None:
    """Another activation was under way, and the task that was to ask for one after it was not tried again."""
    sim = held.subject.sim
    sim.configure(held.name, activation_seconds=600)
    held.subject.ensure(EVIL)
    assert held.subject.act(WORSE).outcomes == {WORSE: "pending"}
    sim.configure(held.name, activation_seconds=0)
    sim.world.clock.advance(601)
    sim.configure(held.name, timestamp_window_seconds=None)
    held.reconcile()
    assert held.subject.enforced() == {EVIL}
    held.put_forward(hours=2)
    held.reconcile()
    held.reconcile()
    assert held.subject.enforced() == {EVIL, WORSE}
    assert {row.outcome.value for row in held.in_force().values()} == {"blocked"}
