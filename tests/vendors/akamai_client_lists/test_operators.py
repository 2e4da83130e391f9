"""The WAF's control and its sensor, against the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from include.soar.model import Action, ActionBatch, Outcome, Reached, Role
from include.soar.vendor.errors import RateLimited, Rejected, Unavailable, VendorError
from tests.stages.controls import POLICY, PROTECTED, Run, context, decision, indicator, run
from tests.support import SimServer
from tests.vendors.akamai_client_lists.conftest import LIST, PRODUCT, held, listed, point_at, seed, writes
from threat_response.runtime import settings
from threat_response.stages.control import Result
from threat_response.vendors.akamai_client_lists import api
from threat_response.vendors.akamai_client_lists.hook import AkamaiClientListsHook
from threat_response.vendors.akamai_client_lists.operators import (
    AkamaiClientListsActiveSensor,
    AkamaiClientListsBlockOperator,
)

V4, V6 = "198.51.100.7", "2001:db8::7"
BOTH = decision(indicator("ipv4-addr", V4), indicator("ipv6-addr", V6))


def block(wanted: dict[str, Any] = BOTH, **options: Any) -> Run:
    return run(AkamaiClientListsBlockOperator, wanted, **options)


def look(result: Run) -> Any:
    """One look of the sensor at what the operator left."""
    assert result.batch is not None
    sensor = AkamaiClientListsActiveSensor(task_id="confirm", actions=result.batch.to_json())
    return sensor.poke(context(get_first_reschedule_date=lambda _context: None))


def watch(result: Run, *, started_at: datetime | None = None) -> Run:
    """One look of the sensor, as Airflow sees it: what it returned, or published before its error."""
    assert result.batch is not None
    seen = Run()
    sensor = AkamaiClientListsActiveSensor(task_id="confirm", actions=result.batch.to_json())
    push = context(
        get_first_reschedule_date=lambda _context: started_at,
        xcom_push=lambda key, value: seen.pushed.update({key: value}),
    )
    try:
        seen.batch = ActionBatch.model_validate(sensor.poke(push).xcom_value)
    except VendorError as error:
        seen.error = error
        seen.batch = ActionBatch.model_validate(seen.pushed["return_value"])
    return seen


def colleague_appends(sim: SimServer, value: str) -> None:
    """A draft: the list is changed, and not activated."""
    assert AkamaiClientListsHook().write_items([("append", {"value": value, "tags": ["soc"]})]) == ({}, None)


def outcomes_of(poked: Any) -> dict[str, str]:
    return {a.observable.value: a.outcome.value for a in ActionBatch.model_validate(poked.xcom_value).actions}


def activations(sim: SimServer) -> list[int]:
    return [a["version"] for a in sim.state(PRODUCT)["activations"]]


def test_the_same_batch_three_times_is_one_item_each(sim: SimServer) -> None:
    seed(sim)
    first, second, third = block(), block(), block()
    assert first.outcomes == {V4: "pending", V6: "pending"}
    assert [a.changed for a in first.actions.values()] == [True, True]
    assert first.actions[V4].proof == {"list": LIST, "version": 2, "network": "PRODUCTION", "activation_id": 961}
    for again in (second, third):
        assert again.error is None
        assert again.outcomes == {V4: "blocked", V6: "blocked"}
        assert [a.changed for a in again.actions.values()] == [False, False]
    assert writes(sim) == ["items", "activations"]
    assert sorted(held(sim)) == [V4, V6]
    item = held(sim)[V4]
    assert item["tags"] == ["threat-response"]
    assert "INC-1" in item["description"]
    assert sorted(sim.state(PRODUCT)["lists"][LIST]["live"]["PRODUCTION"]) == [V4, V6]


def test_a_pending_activation_is_not_requested_again(sim: SimServer) -> None:
    seed(sim)
    sim.configure(PRODUCT, activation_seconds=600)
    block()
    second = block()
    assert second.error is None
    assert second.outcomes == {V4: "pending", V6: "pending"}
    assert activations(sim) == [2]
    sim.world.clock.advance(601)
    sim.configure(PRODUCT, timestamp_window_seconds=None)
    assert block().outcomes == {V4: "blocked", V6: "blocked"}


def test_plan_mode_reads_only_and_says_what_it_would_do(sim: SimServer) -> None:
    seed(sim, V6)
    planned = block(effects="plan")
    assert planned.error is None
    assert planned.outcomes == {V4: "planned", V6: "planned"}
    assert "would be appended" in planned.actions[V4].detail
    assert "already" in planned.actions[V6].detail
    assert writes(sim) == []


def test_a_protected_address_never_reaches_the_vendor(sim: SimServer) -> None:
    seed(sim)
    result = block(decision(indicator("ipv4-addr", PROTECTED), indicator("ipv4-addr", V4)))
    assert result.outcomes == {PROTECTED: "protected", V4: "pending"}
    assert PROTECTED not in str(sim.calls(PRODUCT))
    assert list(held(sim)) == [V4]


def test_only_attackers_addresses_are_for_a_waf(sim: SimServer) -> None:
    seed(sim)
    result = block(
        decision(
            indicator("ipv4-addr", V4, roles=(Role.DESTINATION,)),
            indicator("domain-name", "bad.example"),
            indicator("ipv6-addr", V6, roles=(Role.CLAIM, Role.ATTACKER)),
        )
    )
    assert result.outcomes == {V4: "unsupported", "bad.example": "unsupported", V6: "pending"}


def test_without_a_connection_the_task_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_AKAMAI_CLIENT_LISTS_DEFAULT")
    assert isinstance(block().error, AirflowSkipException)


def test_an_item_of_somebody_else_is_left_alone(sim: SimServer) -> None:
    by_hand = {
        "value": V4,
        "description": "by hand",
        "tags": ["soc"],
        "expirationDate": "2099-01-01T00:00:00.000+00:00",
    }
    seed(sim, by_hand, "2001:db8::/64")
    result = block()
    assert result.outcomes == {V4: "blocked", V6: "blocked"}
    assert result.actions[V4].expires_at == datetime(2099, 1, 1, tzinfo=UTC)
    assert result.actions[V6].expires_at is None
    assert "2001:db8::/64" in result.actions[V6].detail
    assert writes(sim) == []


def test_somebody_elses_inactive_item_is_not_activated_for_them(sim: SimServer) -> None:
    seed(sim, V4, V6, productionActivationStatus="INACTIVE")
    result = block()
    assert result.outcomes == {V4: "pending", V6: "pending"}
    assert "not ours" in result.actions[V4].detail
    assert writes(sim) == []


def test_somebody_elses_ended_item_is_no_block(sim: SimServer) -> None:
    seed(sim, {"value": V4, "expirationDate": "2020-01-01T00:00:00.000+00:00"})
    result = block()
    assert result.outcomes == {V4: "expired", V6: "pending"}
    assert "stands in the way" in result.actions[V4].detail


@pytest.mark.parametrize("sdk_items", [False, True], ids=["live", "sdk"])
@pytest.mark.parametrize("network", ["PRODUCTION", "STAGING"])
def test_a_replay_never_activates_a_colleagues_draft(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, sdk_items: bool, network: str
) -> None:
    """J1: items of a live list carry no ``createdVersion``; their own status says that they are in force."""
    seed(sim)
    sim.configure(PRODUCT, sdk_items=sdk_items)
    point_at(monkeypatch, sim, network=network)
    block()
    assert block().outcomes == {V4: "blocked", V6: "blocked"}
    colleague_appends(sim, "192.0.2.0/24")
    sim.world.calls.clear()
    replay = block()
    assert (replay.error, replay.outcomes) == (None, {V4: "blocked", V6: "blocked"})
    assert writes(sim) == []
    assert activations(sim) == [2]
    assert "192.0.2.0/24" not in sim.state(PRODUCT)["lists"][LIST]["live"][network]


@pytest.mark.parametrize("created", [None, 0])
def test_an_item_without_a_status_is_looked_up_in_the_version_that_is_in_force(
    sim: SimServer, created: int | None
) -> None:
    """J1: as Terraform's recorded list has it. Neither the item nor its version says, so the snapshot does."""
    seed(sim)
    block()
    block()
    colleague_appends(sim, "192.0.2.0/24")
    sim.world.calls.clear()
    bare = [{**i, "createdVersion": created, "productionStatus": None} for i in listed(sim)]
    sim.fault(PRODUCT, "merge", method="GET", path=f"/lists/{LIST}$", patch={"items": bare})
    assert block().outcomes == {V4: "blocked", V6: "blocked"}
    assert writes(sim) == []
    assert [c["path"].rpartition("/")[2] for c in sim.calls(PRODUCT)].count("snapshot") == 1


def test_ours_on_its_way_needs_no_second_activation_for_a_colleagues_draft(sim: SimServer) -> None:
    """J1: a draft appended while our activation is pending makes the list newer than what is on its way."""
    seed(sim)
    sim.configure(PRODUCT, activation_seconds=600)
    block()
    colleague_appends(sim, "192.0.2.0/24")
    replay = block()
    assert (replay.error, replay.outcomes) == (None, {V4: "pending", V6: "pending"})
    assert activations(sim) == [2]
    sim.configure(PRODUCT, timestamp_window_seconds=None)
    sim.world.clock.advance(601)
    assert outcomes_of(look(replay)) == {V4: "blocked", V6: "blocked"}
    assert block().outcomes == {V4: "blocked", V6: "blocked"}
    assert activations(sim) == [2]


def test_somebody_elses_item_in_force_is_not_called_pending(sim: SimServer) -> None:
    """J1, same root: the list is ahead by a draft, and the item that holds the address is live."""
    seed(sim, {"value": V4, "tags": ["soc"]}, "2001:db8::/64")
    colleague_appends(sim, "192.0.2.0/24")
    sim.world.calls.clear()
    assert block().outcomes == {V4: "blocked", V6: "blocked"}
    assert writes(sim) == []


def test_a_lift_that_is_repeated_never_activates_a_colleagues_draft(sim: SimServer) -> None:
    """J1, the other verb: what is to be lifted is in no version that is in force, so nothing of ours is missing."""
    seed(sim)
    block()
    actions = list(block().actions.values())
    lift(sim, actions)
    colleague_appends(sim, "192.0.2.0/24")
    sim.world.calls.clear()
    assert outcomes(lift(sim, actions)) == {V4: "gone", V6: "gone"}
    assert writes(sim) == []
    assert sim.state(PRODUCT)["lists"][LIST]["live"]["PRODUCTION"] == []


def test_what_was_never_in_force_is_lifted_without_an_activation(sim: SimServer) -> None:
    seed(sim)
    sim.fault(PRODUCT, "status", method="POST", path="/activations$", status=500)
    written = list(block().actions.values())
    sim.world.calls.clear()
    assert outcomes(lift(sim, written)) == {V4: "lifted", V6: "lifted"}
    assert writes(sim) == ["items"]


def test_the_newer_activations_are_read_as_they_answer(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """J2: ``api_version: v2`` requested the activation and then called both addresses failed."""
    seed(sim)
    point_at(monkeypatch, sim, api_version="v2")
    first = block()
    assert (first.error, first.outcomes) == (None, {V4: "pending", V6: "pending"})
    assert first.actions[V4].proof == {"list": LIST, "version": 2, "network": "PRODUCTION", "activation_id": 961}
    assert outcomes_of(look(first)) == {V4: "blocked", V6: "blocked"}


def test_a_lasting_refusal_of_the_activation_is_not_called_pending(sim: SimServer) -> None:
    seed(sim)
    sim.fault(
        PRODUCT, "status", method="POST", path="/activations$", status=422, times=-1, detail="Not in your contract"
    )
    result = block()
    assert isinstance(result.error, Rejected)
    assert result.outcomes == {V4: "failed", V6: "failed"}
    assert "Not in your contract" in result.actions[V4].detail


@pytest.mark.parametrize("odd", [{"tags": 7}, {"tags": ["a", None]}, {"expirationDate": "soon"}, {"description": []}])
def test_an_item_that_cannot_be_read_costs_its_own_address_only(sim: SimServer, odd: dict[str, Any]) -> None:
    """1g, 1i: a colleague's item must not keep every block of the night from being made."""
    seed(sim, V4, "2001:db8::/64")
    items = sim.world.simulators[PRODUCT].lists[LIST].items
    items.update({key: item | odd for key, item in items.items()})
    result = block()
    assert isinstance(result.error, Rejected)
    assert result.outcomes == {V4: "failed", V6: "pending"}
    assert "not as documented" in result.actions[V4].detail
    [call] = sim.calls(PRODUCT, "POST", "/items")
    assert [entry["value"] for entry in call["body"]["append"]] == [V6]


def test_our_item_is_prolonged_whole_and_never_shortened(sim: SimServer) -> None:
    seed(sim)
    block(decision(indicator("ipv4-addr", V4, days=2)))
    block(decision(indicator("ipv4-addr", V4, days=2)))
    before = held(sim)[V4]
    longer = block(decision(indicator("ipv4-addr", V4, days=9)), incident="INC-2")
    after = held(sim)[V4]
    assert longer.actions[V4].changed
    assert after["expirationDate"] > before["expirationDate"]
    assert (after["description"], after["tags"]) == (before["description"], before["tags"])
    sim.world.calls.clear()
    shorter = block(decision(indicator("ipv4-addr", V4, days=1)))
    assert shorter.outcomes == {V4: "blocked"}
    assert shorter.actions[V4].expires_at == longer.actions[V4].expires_at
    assert writes(sim) == []
    assert held(sim)[V4]["expirationDate"] == after["expirationDate"]


def test_a_full_list_fails_those_without_room_only(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MAXIMUM_ITEMS", 2)
    seed(sim, "203.0.113.1")
    result = block(decision(indicator("ipv4-addr", V4, confidence=60), indicator("ipv6-addr", V6)))
    assert result.outcomes == {V4: "failed", V6: "pending"}
    assert "full" in result.actions[V4].detail
    assert isinstance(result.error, Rejected)
    assert sorted(held(sim)) == sorted(["203.0.113.1", V6])


def test_a_failing_item_costs_itself_only_and_the_batch_is_published(sim: SimServer) -> None:
    seed(sim)
    wanted = [indicator("ipv4-addr", f"198.51.100.{n}") for n in range(1, 8)]
    bad = "198.51.100.4"
    sim.fault(PRODUCT, "status", method="POST", path="/items$", body=f'"{bad}"', status=400, times=-1)
    result = block(decision(*wanted))
    assert isinstance(result.error, Rejected)
    assert bad in str(result.error)
    assert list(result.pushed) == ["return_value"]
    assert result.outcomes == {i.observable.value: "pending" for i in wanted} | {bad: "failed"}
    assert sorted(held(sim)) == sorted({i.observable.value for i in wanted} - {bad})
    assert activations(sim) == [sim.state(PRODUCT)["lists"][LIST]["version"]]


@pytest.mark.parametrize("path", ["/items$", "/activations$"])
def test_an_answer_that_is_lost_after_the_write_makes_no_second_one(sim: SimServer, path: str) -> None:
    seed(sim)
    sim.configure(PRODUCT, activation_seconds=600)
    sim.fault(PRODUCT, "reset_after_commit", method="POST", path=path)
    lost = block()
    assert isinstance(lost.error, Unavailable)
    assert lost.outcomes == {V4: "failed", V6: "failed"}
    again = block()
    assert again.error is None
    assert again.outcomes == {V4: "pending", V6: "pending"}
    assert sorted(held(sim)) == [V4, V6]
    assert writes(sim).count("items") == 1
    assert activations(sim) == [2]


@pytest.mark.parametrize("path", ["/items$", "/activations$"])
def test_a_limit_on_the_way_is_retried_by_airflow(sim: SimServer, path: str) -> None:
    seed(sim)
    sim.fault(PRODUCT, "status", method="POST", path=path, status=429, headers={"Retry-After": "9"})
    result = block()
    assert isinstance(result.error, RateLimited)
    assert result.error.retry_after == 9
    assert set(result.outcomes.values()) == {"failed"}
    assert block().error is None


def test_ours_follows_an_older_activation_that_is_still_pending(sim: SimServer) -> None:
    seed(sim)
    sim.configure(PRODUCT, activation_seconds=600)
    block(decision(indicator("ipv4-addr", V4)))
    result = block()
    assert isinstance(result.error, Unavailable)
    assert "ours must follow it" in str(result.error)
    assert result.outcomes == {V4: "pending", V6: "pending"}
    assert result.pushed["return_value"]["actions"]
    sim.configure(PRODUCT, timestamp_window_seconds=None)
    sim.world.clock.advance(601)
    retried = block()
    assert retried.error is None
    assert retried.outcomes == {V4: "blocked", V6: "pending"}
    assert activations(sim) == [2, 3]
    sim.world.clock.advance(601)
    assert block().outcomes == {V4: "blocked", V6: "blocked"}


def test_an_activation_requested_by_somebody_else_in_between(sim: SimServer) -> None:
    """Its answer is 409, and what is pending covers our version: nothing to wait for."""
    seed(sim)
    sim.configure(PRODUCT, activation_seconds=600)
    sim.fault(PRODUCT, "status", method="POST", path="/activations$", status=409)
    raced = block()
    assert isinstance(raced.error, Unavailable)  # the simulator made none: still to be requested
    assert raced.outcomes == {V4: "pending", V6: "pending"}
    assert block().error is None
    assert activations(sim) == [2]


def test_the_ledger_knows_what_was_done(sim: SimServer) -> None:
    seed(sim)
    block()
    assert {(row.observable, row.outcome) for row in settings.ledger().actions.rows(PRODUCT)} == {
        (f"ipv4-addr:{V4}", "pending"),
        (f"ipv6-addr:{V6}", "pending"),
    }


# --- the sensor ---------------------------------------------------------------------------------------------


def test_the_sensor_waits_until_the_network_enforces_our_version(sim: SimServer) -> None:
    seed(sim)
    sim.configure(PRODUCT, activation_seconds=600)
    pending = block()
    assert not look(pending).is_done
    sim.configure(PRODUCT, timestamp_window_seconds=None)
    sim.world.clock.advance(601)
    sim.world.calls.clear()
    done = look(pending)
    assert done.is_done
    assert outcomes_of(done) == {V4: "blocked", V6: "blocked"}
    proof = ActionBatch.model_validate(done.xcom_value).actions[0].proof
    assert (proof["version"], proof["active_version"]) == (2, 2)
    assert writes(sim) == []


def test_what_never_comes_into_force_is_red_when_the_patience_ends(sim: SimServer) -> None:
    """3a: accepted, and never activated."""
    seed(sim)
    sim.configure(PRODUCT, activation_seconds=600)
    seen = watch(block(), started_at=datetime.now(UTC) - timedelta(hours=1))
    assert isinstance(seen.error, Rejected)
    assert seen.outcomes == {V4: "failed", V6: "failed"}
    assert all(a.detail.startswith("not in force after 30 minutes: ") for a in seen.actions.values())


def test_the_sensor_never_claims_a_block_that_is_not_there(sim: SimServer) -> None:
    seed(sim)
    pending = block()
    sim.fault(PRODUCT, "merge", path="/status$", patch={"activationStatus": "INACTIVE"})
    seen = watch(pending, started_at=datetime.now(UTC) - timedelta(hours=1))
    assert seen.outcomes == {V4: "failed", V6: "failed"}
    assert all("nothing is pending" in a.detail for a in seen.actions.values())


def test_an_activation_that_failed_is_red_at_once_and_the_block_task_requests_another(sim: SimServer) -> None:
    """3a: the sensor waited out its patience and ended green, with the incident saying pending for ever."""
    seed(sim)
    sim.configure(PRODUCT, activation_outcome="FAILED")
    pending = block()
    assert pending.outcomes == {V4: "pending", V6: "pending"}
    seen = watch(pending)
    assert isinstance(seen.error, Rejected)  # final: looking again mends nothing
    assert "activation of version 2 failed" in str(seen.error)
    assert list(seen.pushed) == ["return_value"]
    assert seen.outcomes == {V4: "failed", V6: "failed"}
    assert {a.expires_at for a in seen.actions.values()} == {None}
    assert {row.outcome for row in settings.ledger().actions.rows(PRODUCT)} == {"failed"}

    sim.configure(PRODUCT, activation_outcome="ACTIVE")
    again = block()
    assert (again.error, again.outcomes) == (None, {V4: "pending", V6: "pending"})
    assert activations(sim) == [2, 2]
    assert watch(again).outcomes == {V4: "blocked", V6: "blocked"}


def test_a_failure_that_is_older_than_our_activation_is_not_ours(sim: SimServer) -> None:
    """3a: the network may speak of the last but one for a moment."""
    seed(sim)
    sim.configure(PRODUCT, activation_seconds=600)
    pending = block()
    before = {"activationId": 960, "activationStatus": "FAILED", "version": 1}
    sim.fault(PRODUCT, "merge", path="/status$", patch=before)
    assert not look(pending).is_done


def test_an_older_version_stays_in_force_when_another_activation_failed(sim: SimServer) -> None:
    """3a, J1: a colleague's activation failed, and ours is what the network has."""
    seed(sim)
    block()
    assert block().outcomes == {V4: "blocked", V6: "blocked"}
    colleague_appends(sim, "192.0.2.0/24")
    sim.configure(PRODUCT, activation_outcome="FAILED")
    AkamaiClientListsHook().activate("a colleague's")
    sim.world.calls.clear()
    result = block()
    assert (result.error, result.outcomes) == (None, {V4: "blocked", V6: "blocked"})
    assert writes(sim) == []


def test_a_removal_whose_activation_failed_is_not_lifted(sim: SimServer) -> None:
    """3a: what the network still enforces was told as lifted, since nothing was pending."""
    seed(sim)
    block()
    actions = list(block().actions.values())
    sim.configure(PRODUCT, activation_outcome="FAILED")
    pending = lift(sim, actions)
    seen = watch(Run(batch=ActionBatch(control=PRODUCT, actions=tuple(pending.actions))))
    assert isinstance(seen.error, Rejected)
    assert seen.outcomes == {V4: "failed", V6: "failed"}
    sim.configure(PRODUCT, activation_outcome="ACTIVE")
    assert outcomes(lift(sim, actions)) == {V4: "pending", V6: "pending"}
    assert outcomes(lift(sim, actions)) == {V4: "gone", V6: "gone"}
    assert sim.state(PRODUCT)["lists"][LIST]["live"]["PRODUCTION"] == []


def test_a_sensor_without_anything_pending_asks_nobody(sim: SimServer) -> None:
    seed(sim, V4, V6)
    result = block()
    sim.world.calls.clear()
    assert look(result).is_done
    assert sim.calls(PRODUCT) == []


# --- other people's changes, and a list that is full ---------------------------------------------------------


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "refusing.yaml"
    own.write_text("response:\n  refuse_others_changes: true\n", "utf-8")
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", f"{POLICY}:{own}")


def test_how_many_changes_of_others_an_activation_takes_along_is_said(sim: SimServer) -> None:
    seed(sim, "203.0.113.1")
    colleague_appends(sim, "192.0.2.0/24")
    colleague_appends(sim, "192.0.2.9")
    operator = AkamaiClientListsBlockOperator(task_id="a")
    hook = AkamaiClientListsHook(writes_allowed=False)
    assert operator.survey(hook, {}, settings.now()).others_changes == 2
    result = block()
    assert all("takes along 2 changes of other people" in a.detail for a in result.actions.values())
    assert block().error is None
    assert operator.survey(hook, {}, settings.now()).others_changes == 0


def test_nothing_is_written_where_the_policy_refuses_to_take_others_changes_along(
    sim: SimServer, refusing: None
) -> None:
    seed(sim)
    done = list(block(decision(indicator("ipv4-addr", V4))).actions.values())
    sim.world.simulators[PRODUCT]._settle()
    colleague_appends(sim, "192.0.2.0/24")
    sim.world.calls.clear()
    result = block()
    assert isinstance(result.error, Rejected)
    assert "1 change of other people" in str(result.error)
    assert result.outcomes == {V4: "blocked", V6: "failed"}
    lifted = lift(sim, done)
    assert isinstance(lifted.error, Rejected)
    assert outcomes(lifted) == {V4: "failed"}
    assert writes(sim) == []
    AkamaiClientListsHook().activate("a colleague's")
    assert block().outcomes[V6] == "pending"


def test_a_full_list_is_freed_of_ours_that_have_ended_and_of_nothing_else(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3d: at 100 new addresses a day the list was full on day 100, for ever."""
    monkeypatch.setattr(api, "MAXIMUM_ITEMS", 4)
    over = {"tags": [api.OUR_TAG], "description": "Threat response: INC-0", "expirationDate": "2020-01-01T00:00:00Z"}
    ended = [over | {"value": "203.0.113.1"}, over | {"value": "203.0.113.2", "tags": [api.OUR_TAG, "keep"]}]
    theirs = [{"value": "203.0.113.3", "tags": ["soc"], "expirationDate": "2020-01-01T00:00:00Z"}, "203.0.113.4"]
    seed(sim, *ended, *theirs)
    result = block(decision(indicator("ipv4-addr", V4, confidence=60), indicator("ipv6-addr", V6)))
    assert result.outcomes == {V4: "failed", V6: "pending"}
    assert sorted(held(sim)) == sorted([V6, "203.0.113.2", "203.0.113.3", "203.0.113.4"])
    assert writes(sim) == ["items", "activations"]
    [swept] = [e for e in settings.ledger().actions.events(control=PRODUCT) if e.outcome == "lifted"]
    assert swept.observable == "ipv4-addr:203.0.113.1"


def test_an_item_past_its_end_that_is_still_active_is_swept(sim: SimServer) -> None:
    """Recorded: a live list still had it as ACTIVE five hours after its end."""
    over = {"tags": [api.OUR_TAG], "description": "Threat response: INC-0", "expirationDate": "2020-01-01T00:00:00Z"}
    seed(sim, over | {"value": V4})
    operator = AkamaiClientListsBlockOperator(task_id="a")
    [there] = operator.survey(AkamaiClientListsHook(), {}, settings.now()).held.values()
    assert (there.ended, there.reached) == (True, Reached.ACTIVE)
    operator.sweep(AkamaiClientListsHook(), {}, settings.now())
    assert sim.state(PRODUCT)["lists"][LIST]["live"]["PRODUCTION"] == []


def test_what_only_staging_enforces_is_not_called_active(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(sim, stagingActivationStatus="ACTIVE")
    point_at(monkeypatch, sim, network="STAGING")
    block()
    assert {a.reached for a in block().actions.values()} == {Reached.STAGING}


# --- undoing ------------------------------------------------------------------------------------------------


def lift(sim: SimServer, actions: Sequence[Action]) -> Result:
    operator = AkamaiClientListsBlockOperator(task_id="lift")
    return operator.lift(operator.hook_class(), actions)


def outcomes(result: Result) -> dict[str, str]:
    return {action.observable.value: action.outcome.value for action in result.actions}


def test_a_removal_is_pending_until_the_network_enforces_it_and_the_sensor_waits_for_that(sim: SimServer) -> None:
    seed(sim)
    block()
    sim.configure(PRODUCT, activation_seconds=600)
    lifted = lift(sim, list(block().actions.values()))
    assert lifted.error is None
    assert outcomes(lifted) == {V4: "pending", V6: "pending"}
    pending = Run(batch=ActionBatch(control=PRODUCT, actions=tuple(lifted.actions)))
    assert not look(pending).is_done
    sim.configure(PRODUCT, timestamp_window_seconds=None)
    sim.world.clock.advance(601)
    assert outcomes_of(look(pending)) == {V4: "lifted", V6: "lifted"}
    assert sim.state(PRODUCT)["lists"][LIST]["live"]["PRODUCTION"] == []


def test_a_removal_whose_activation_was_lost_is_activated_by_the_next_try(sim: SimServer) -> None:
    seed(sim)
    block()
    actions = list(block().actions.values())
    sim.fault(PRODUCT, "status", method="POST", path="/activations$", status=429, headers={"Retry-After": "9"})
    lost = lift(sim, actions)
    assert isinstance(lost.error, RateLimited)
    assert outcomes(lost) == {V4: "failed", V6: "failed"}
    assert held(sim) == {}
    again = lift(sim, actions)
    assert again.error is None
    assert outcomes(again) == {V4: "pending", V6: "pending"}
    assert sim.state(PRODUCT)["lists"][LIST]["live"]["PRODUCTION"] == []


def test_a_removal_follows_an_activation_that_is_still_pending(sim: SimServer) -> None:
    seed(sim)
    sim.configure(PRODUCT, activation_seconds=600)
    lifted = lift(sim, list(block().actions.values()))
    assert isinstance(lifted.error, Unavailable)
    assert outcomes(lifted) == {V4: "pending", V6: "pending"}


def test_a_list_that_no_network_enforces_is_not_activated_to_lift_from_it(sim: SimServer) -> None:
    seed(sim, productionActivationStatus="INACTIVE")
    action = AkamaiClientListsBlockOperator(task_id="a").action(indicator("ipv4-addr", V4), Outcome.BLOCKED, "once")
    assert outcomes(lift(sim, [action])) == {V4: "gone"}
    assert writes(sim) == []


def test_an_address_that_a_persons_network_still_holds_is_said(sim: SimServer) -> None:
    seed(sim, "2001:db8::/64")
    action = AkamaiClientListsBlockOperator(task_id="a").action(indicator("ipv6-addr", V6), Outcome.BLOCKED, "once")
    [gone] = lift(sim, [action]).actions
    assert gone.outcome is Outcome.GONE
    assert "still held by the item 2001:db8::/64" in gone.detail
