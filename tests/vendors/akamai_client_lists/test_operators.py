"""The WAF's control and its sensor, against the simulator."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from include.soar.model import ActionBatch, Outcome, Role
from include.soar.vendor.errors import RateLimited, Rejected, Unavailable
from tests.stages.controls import PROTECTED, Run, context, decision, indicator, run
from tests.support import SimServer
from tests.vendors.akamai_client_lists.conftest import LIST, PRODUCT, held, seed, writes
from threat_response.runtime import settings
from threat_response.vendors.akamai_client_lists import api
from threat_response.vendors.akamai_client_lists.operators import (
    AkamaiClientListsActiveSensor,
    AkamaiClientListsBlockOperator,
)

V4, V6 = "198.51.100.7", "2001:db8::7"
BOTH = decision(indicator("ipv4-addr", V4), indicator("ipv6-addr", V6))


def block(wanted: dict[str, Any] = BOTH, **options: Any) -> Run:
    return run(AkamaiClientListsBlockOperator, wanted, **options)


def look(result: Run, *, started_at: datetime | None = None) -> Any:
    """One look of the sensor at what the operator left."""
    assert result.batch is not None
    sensor = AkamaiClientListsActiveSensor(task_id="confirm", actions=result.batch.to_json())
    return sensor.poke(context(get_first_reschedule_date=lambda _context: started_at))


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


def test_a_change_of_somebody_else_is_not_activated_when_ours_is_in_force(sim: SimServer) -> None:
    seed(sim)
    block()
    sim.world.simulators[PRODUCT].lists[LIST].version += 1  # a person's edit that is not finished
    sim.world.calls.clear()
    assert block().outcomes == {V4: "blocked", V6: "blocked"}
    assert writes(sim) == []


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


def test_the_sensor_ends_with_what_is_true_when_its_patience_does(sim: SimServer) -> None:
    seed(sim)
    sim.configure(PRODUCT, activation_seconds=600)
    done = look(block(), started_at=datetime.now(UTC) - timedelta(hours=1))
    assert done.is_done
    assert outcomes_of(done) == {V4: "pending", V6: "pending"}


@pytest.mark.parametrize(("status", "words"), [("INACTIVE", "nothing is pending"), ("FAILED", "failed")])
def test_the_sensor_never_claims_a_block_that_is_not_there(sim: SimServer, status: str, words: str) -> None:
    seed(sim)
    pending = block()
    sim.fault(PRODUCT, "merge", path="/status$", patch={"activationStatus": status})
    done = look(pending, started_at=datetime.now(UTC) - timedelta(hours=1))
    batch = ActionBatch.model_validate(done.xcom_value)
    assert {a.outcome for a in batch.actions} == {Outcome.PENDING}
    assert all(words in a.detail for a in batch.actions)


def test_a_sensor_without_anything_pending_asks_nobody(sim: SimServer) -> None:
    seed(sim, V4, V6)
    result = block()
    sim.world.calls.clear()
    assert look(result).is_done
    assert sim.calls(PRODUCT) == []
