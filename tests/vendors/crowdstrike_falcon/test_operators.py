"""The EDR's control, against the simulator."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from fastapi.responses import JSONResponse

from include.soar.model import Rung, Step
from include.soar.vendor.errors import RateLimited, Rejected, Unauthorized, Unavailable, Unexpected
from tests.stages.controls import PROTECTED, Run, decision, indicator, run
from tests.support import SimServer
from tests.vendors.crowdstrike_falcon.conftest import PRODUCT, held, point_at, seed, writes
from threat_response.runtime import settings
from threat_response.vendors.crowdstrike_falcon.hook import CrowdStrikeFalconHook
from threat_response.vendors.crowdstrike_falcon.operators import CrowdStrikeFalconBlockOperator

ADDRESS, DOMAIN, HASH = "198.51.100.7", "bad.example", "a" * 64
THREE = decision(indicator("ipv4-addr", ADDRESS), indicator("domain-name", DOMAIN), indicator("file", HASH))
DONE = {ADDRESS: "detect_only", DOMAIN: "detect_only", HASH: "blocked"}
BY_HAND = {
    "type": "ipv4",
    "value": ADDRESS,
    "action": "detect",
    "severity": "low",
    "platforms": ["windows"],
    "applied_globally": True,
    "source": "soc",
    "description": "by hand",
}


def contain(wanted: dict[str, Any] = THREE, **options: Any) -> Run:
    return run(CrowdStrikeFalconBlockOperator, wanted, **options)


def test_the_same_batch_three_times_is_one_indicator_each(sim: SimServer) -> None:
    first, second, third = contain(), contain(), contain()
    for result, changed in ((first, True), (second, False), (third, False)):
        assert result.error is None
        assert result.outcomes == DONE
        assert {a.changed for a in result.actions.values()} == {changed}
    assert writes(sim) == ["POST"]
    assert sorted(held(sim)) == sorted(DONE)
    made = held(sim)[ADDRESS]
    assert (made["action"], made["source"], made["tags"]) == ("detect", "threat-response", ["threat-response"])
    assert "INC-1" in made["description"]
    action = first.actions[ADDRESS]
    assert action.proof == {"indicator_id": made["id"], "action": "detect", "expiration": made["expiration"]}
    assert "cannot block" in action.detail
    assert "cannot block" not in first.actions[HASH].detail


def test_what_falcon_does_not_take_is_unsupported(sim: SimServer) -> None:
    result = contain(
        decision(
            indicator("file", "b" * 40),
            indicator("file", "c" * 128),
            indicator("file", "d" * 32),
            indicator("url", "http://bad.example/x"),
            indicator("ipv6-addr", "2001:db8::7"),
        )
    )
    assert result.error is None
    assert result.outcomes == {
        "b" * 40: "unsupported",
        "c" * 128: "unsupported",
        "d" * 32: "blocked",
        "http://bad.example/x": "unsupported",
        "2001:db8::7": "detect_only",
    }
    assert "SHA-1" in result.actions["b" * 40].detail


def test_plan_mode_reads_only_and_says_what_it_would_do(sim: SimServer) -> None:
    seed(sim, BY_HAND)
    planned = contain(effects="plan")
    assert planned.error is None
    assert set(planned.outcomes.values()) == {"planned"}
    assert "exists already" in planned.actions[ADDRESS].detail
    assert "would be created with the action prevent" in planned.actions[HASH].detail
    assert writes(sim) == []


def test_a_protected_address_never_reaches_the_vendor(sim: SimServer) -> None:
    result = contain(decision(indicator("ipv4-addr", PROTECTED), indicator("domain-name", "api.shop.example")))
    assert result.outcomes == {PROTECTED: "protected", "api.shop.example": "protected"}
    assert sim.calls(PRODUCT) == []


def test_without_a_connection_the_task_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_CROWDSTRIKE_FALCON_DEFAULT")
    assert isinstance(contain().error, AirflowSkipException)


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "detect_only"),
        ({"action": "no_action"}, "protected"),
        ({"action": "no_action", "expired": True, "expiration": "2020-01-01T00:00:00Z"}, "expired"),
    ],
)
def test_an_indicator_of_somebody_else_is_left_alone(sim: SimServer, changes: dict[str, Any], outcome: str) -> None:
    seed(sim, BY_HAND | changes)
    before = held(sim)[ADDRESS]
    result = contain(decision(indicator("ipv4-addr", ADDRESS)))
    assert result.error is None
    assert result.outcomes == {ADDRESS: outcome}
    assert "'soc'" in result.actions[ADDRESS].detail
    assert writes(sim) == []
    assert held(sim)[ADDRESS] == before


def test_a_hash_that_somebody_allows_is_reported_as_allowed(sim: SimServer) -> None:
    seed(sim, BY_HAND | {"type": "sha256", "value": HASH, "action": "allow"})
    result = contain(decision(indicator("file", HASH)))
    assert result.outcomes == {HASH: "protected"}
    assert "allow" in result.actions[HASH].detail


def test_ours_is_prolonged_and_never_shortened(sim: SimServer) -> None:
    contain(decision(indicator("file", HASH, days=2)))
    before = held(sim)[HASH]
    longer = contain(decision(indicator("file", HASH, days=9)), incident="INC-2")
    after = held(sim)[HASH]
    assert longer.actions[HASH].changed
    assert after["expiration"] > before["expiration"]
    kept = ("id", "description", "tags", "platforms", "severity", "source", "applied_globally", "action")
    assert {k: after[k] for k in kept} == {k: before[k] for k in kept}
    sim.world.calls.clear()
    shorter = contain(decision(indicator("file", HASH, days=1)))
    assert shorter.actions[HASH].expires_at == longer.actions[HASH].expires_at
    assert writes(sim) == []


def test_ours_that_has_expired_is_woken(sim: SimServer) -> None:
    contain(decision(indicator("file", HASH, days=2)))
    sim.world.clock.advance(3 * 86400)
    assert (held(sim)[HASH]["action"], held(sim)[HASH]["expired"]) == ("no_action", True)
    woken = contain(decision(indicator("file", HASH, days=9)))
    assert woken.outcomes == {HASH: "blocked"}
    assert (held(sim)[HASH]["action"], held(sim)[HASH]["expired"]) == ("prevent", False)


def test_hashes_may_be_only_detected_and_hosts_limited(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    group = "0123456789abcdef0123456789abcdef"
    point_at(monkeypatch, sim, hash_action="detect", host_groups=group, severity="critical", platforms="linux, mac")
    result = contain(decision(indicator("file", HASH)))
    assert result.outcomes == {HASH: "detect_only"}
    made = held(sim)[HASH]
    assert (made["host_groups"], made["applied_globally"]) == ([group], False)
    assert (made["severity"], made["platforms"]) == ("critical", ["linux", "mac"])


def test_a_tenant_that_can_block_addresses_may_say_so(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Firewall Management: the action for addresses was a constant."""
    contain()  # as detected
    point_at(monkeypatch, sim, address_action="prevent")
    sim.configure(PRODUCT, hash_only_prevent=False)
    result = contain()
    assert (result.error, result.outcomes) == (None, dict.fromkeys(DONE, "blocked"))
    assert held(sim)[ADDRESS]["action"] == "prevent"


def test_a_tenant_that_cannot_block_addresses_says_so(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(monkeypatch, sim, address_action="prevent")
    result = contain()
    assert isinstance(result.error, Rejected)
    assert result.outcomes == {ADDRESS: "failed", DOMAIN: "failed", HASH: "blocked"}
    assert "hashes only" in result.actions[ADDRESS].detail


def test_a_failing_row_costs_itself_only_and_the_batch_is_published(sim: SimServer) -> None:
    wanted = [indicator("ipv4-addr", f"198.51.100.{n}") for n in range(1, 8)]
    bad = "198.51.100.4"
    sim.fault(PRODUCT, "status", method="POST", path="/iocs", body=f'"{bad}"', status=400, times=-1)
    result = contain(decision(*wanted))
    assert isinstance(result.error, Rejected)
    assert bad in str(result.error)
    assert list(result.pushed) == ["return_value"]
    assert result.outcomes == {i.observable.value: "detect_only" for i in wanted} | {bad: "failed"}
    assert sorted(held(sim)) == sorted({i.observable.value for i in wanted} - {bad})


def test_one_that_was_made_by_somebody_in_between_is_found(sim: SimServer) -> None:
    """The create is refused as a duplicate: the look afterwards tells what is true."""
    seed(sim, BY_HAND)
    blind = {"meta": {"pagination": {"total": 0}}, "resources": []}
    sim.fault(PRODUCT, "merge", path="/iocs/combined", patch=blind, times=3)
    result = contain()
    assert result.error is None
    assert result.outcomes == DONE
    assert not result.actions[ADDRESS].changed
    assert held(sim)[ADDRESS]["description"] == "by hand"


def test_an_answer_that_is_lost_after_the_write_makes_no_second_one(sim: SimServer) -> None:
    sim.fault(PRODUCT, "reset_after_commit", method="POST", path="/iocs")
    lost = contain()
    assert isinstance(lost.error, Unavailable)
    again = contain()
    assert again.error is None
    assert again.outcomes == DONE
    assert writes(sim) == ["POST"]
    assert sorted(held(sim)) == sorted(DONE)


def test_an_update_that_is_lost_is_found_done(sim: SimServer) -> None:
    contain(decision(indicator("file", HASH, days=2)))
    sim.fault(PRODUCT, "reset_after_commit", method="PATCH")
    longer = decision(indicator("file", HASH, days=9))
    assert isinstance(contain(longer).error, Unavailable)
    assert contain(longer).outcomes == {HASH: "blocked"}
    assert writes(sim) == ["POST", "PATCH"]


@pytest.mark.parametrize(
    ("status", "error"), [(401, Unauthorized), (403, Unauthorized), (429, RateLimited), (500, Unavailable)]
)
def test_what_stops_the_writing_is_raised_and_nothing_is_claimed(sim: SimServer, status: int, error: type) -> None:
    sim.fault(PRODUCT, "status", method="POST", path="/iocs", status=status)
    result = contain()
    assert type(result.error) is error
    assert set(result.outcomes.values()) == {"failed"}
    assert held(sim) == {}


def test_another_cloud_stops_everything(sim: SimServer) -> None:
    sim.configure(PRODUCT, cs_region="us-1")
    result = contain()
    assert isinstance(result.error, Unexpected)
    assert set(result.outcomes.values()) == {"failed"}


def test_a_refusal_of_an_odd_shape_still_publishes_the_batch(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """1j, 3e: the operator died of it, and the incident told nothing of all the others."""
    odd = JSONResponse({"errors": [{"code": 400, "message": "why"}], "resources": True}, 400)
    monkeypatch.setattr(sim.world.simulators[PRODUCT], "error", lambda status, detail=None: odd)
    sim.fault(PRODUCT, "status", method="POST", path="/iocs", body=ADDRESS, status=400, times=-1)
    result = contain()
    assert isinstance(result.error, Rejected)
    assert "why" in result.actions[ADDRESS].detail
    assert result.outcomes == DONE | {ADDRESS: "failed"}
    assert result.actions[ADDRESS].expires_at is None


def test_an_indicator_that_cannot_be_read_is_left_alone_and_the_others_go_on(sim: SimServer) -> None:
    seed(sim, BY_HAND)
    sim.world.simulators[PRODUCT].indicators[held(sim)[ADDRESS]["id"]]["tags"] = 7
    result = contain()
    assert isinstance(result.error, Rejected)
    assert result.outcomes == DONE | {ADDRESS: "failed"}
    assert "left alone" in result.actions[ADDRESS].detail
    assert writes(sim) == ["POST"]


@pytest.mark.parametrize("status", [400, 500])
def test_what_failed_has_no_end(sim: SimServer, status: int) -> None:
    """3g: "failed … until 2026-12-04"."""
    sim.fault(PRODUCT, "status", method="POST", path="/iocs", status=status, times=-1)
    assert {a.expires_at for a in contain().actions.values()} == {None}
    sim.world.faults.clear()
    contain()
    sim.fault(PRODUCT, "status", method="PATCH", path="/iocs", status=status, times=-1)
    longer = contain(decision(indicator("ipv4-addr", ADDRESS, days=30)))
    assert longer.outcomes == {ADDRESS: "failed"}
    assert longer.actions[ADDRESS].expires_at is None


# --- a person's decisions, and what is left over ------------------------------------------------------------


@pytest.mark.parametrize("lowered", ["detect", "no_action"])
def test_a_hash_that_an_analyst_lowered_is_not_raised_until_it_is_seen_again(sim: SimServer, lowered: str) -> None:
    """3c: "breaks payroll", and a repeat of the same decision set it to prevent again without a word."""
    one = indicator("file", HASH)
    contain(decision(one))
    sim.world.simulators[PRODUCT].indicators[held(sim)[HASH]["id"]]["action"] = lowered
    for _ in range(2):
        left = contain(decision(one))
        assert (left.error, left.outcomes) == (None, {HASH: "not_ours"})
    assert writes(sim) == ["POST"]
    assert held(sim)[HASH]["action"] == lowered
    again = one.model_copy(update={"last_seen_at": datetime.now(UTC)})
    assert contain(decision(again)).outcomes == {HASH: "blocked"}


def test_a_hash_is_raised_when_its_rung_is(sim: SimServer) -> None:
    """No person lowered what we ourselves had only detected."""
    one = indicator("file", HASH)
    steps = [Step(rung=rung, expires_at=one.expires_at) for rung in (Rung.DETECT, Rung.BLOCK_LONG)]
    first = contain(decision(one.model_copy(update={"steps": (steps[0],)})))
    assert first.outcomes == {HASH: "detect_only"}
    second = contain(decision(one.model_copy(update={"steps": tuple(steps)})))
    assert second.outcomes == {HASH: "blocked"}
    assert held(sim)[HASH]["action"] == "prevent"


def test_what_falcon_has_set_to_no_action_at_its_end_is_swept(sim: SimServer) -> None:
    contain(decision(indicator("file", HASH, days=1), indicator("ipv4-addr", ADDRESS, days=9)))
    sim.world.clock.advance(2 * 86400)
    assert (held(sim)[HASH]["action"], held(sim)[HASH]["expired"]) == ("no_action", True)
    operator, hook = CrowdStrikeFalconBlockOperator(task_id="sweep"), CrowdStrikeFalconHook()
    ours = settings.ledger().actions.in_force(PRODUCT)
    swept = operator.sweep(hook, ours, settings.now() + timedelta(days=2))
    assert [(a.observable.value, a.outcome.value) for a in swept.actions] == [(HASH, "lifted")]
    assert {value for value, one in held(sim).items() if not one["deleted"]} == {ADDRESS}
