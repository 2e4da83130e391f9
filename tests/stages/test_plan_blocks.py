"""The task that reads every control and says what the run would change there, before anybody is asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from include.soar.model import (
    Action,
    ActionBatch,
    Change,
    ControlPlan,
    Decision,
    Indicator,
    Observable,
    ObservableType,
    Outcome,
    Plan,
    Reached,
    Refusal,
    Role,
    Rung,
    Step,
    Verb,
)
from include.soar.vendor.errors import Unavailable
from tests.stages.controls import POLICY, PROTECTED, indicator
from tests.stages.tiny import Printed, TinyHook, TinyServer, context
from threat_response.runtime import settings
from threat_response.stages.control import Control, Held, Ours, Survey
from threat_response.stages.plan_blocks import PlanBlocks

NEW, KNOWN = "203.0.113.7", "203.0.113.8"


class Firewall(Control):
    """A control whose survey a test lays down. It writes nothing: a plan must not ask it to."""

    vendor = "tiny"
    verb = Verb.DENY
    types = frozenset({ObservableType.IPV4})
    hook_class = TinyHook
    holds: ClassVar[Survey] = Survey()
    error: ClassVar[Exception | None] = None
    asked: ClassVar[list[bool]] = []

    def survey(self, hook: TinyHook, ours: Ours, now: datetime, also: Iterable[Observable] = ()) -> Survey:
        self.asked.append(hook.writes_allowed)
        if self.error:
            raise self.error
        return self.holds

    def wants(self, indicator: Indicator) -> bool:
        return super().wants(indicator) and Role.ATTACKER in indicator.roles


@pytest.fixture(autouse=True)
def _laid_down(server: TinyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Firewall, "holds", Survey())
    monkeypatch.setattr(Firewall, "error", None)
    monkeypatch.setattr(Firewall, "asked", [])


def at(value: str = NEW, rung: Rung = Rung.BLOCK_SHORT, *, hours: float = 4, **more: Any) -> Indicator:
    end = datetime.now(UTC) + timedelta(hours=hours)
    one = indicator("ipv4-addr", value, **more)
    return one.model_copy(update={"expires_at": end, "steps": (Step(rung=rung, expires_at=end),)})


def decision(*indicators: Indicator, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"policy_digest": "d", "priorities": (), "verdicts": (), "refusals": ()}
    return Decision(**{**fields, "indicators": indicators, **more}).to_json()


def planned(given: Any, *, place: str = "block.waf", **params: Any) -> Decision:
    controls = {"tiny": partial(Firewall, task_id="tiny", vendor="tiny", place=place)}
    task = PlanBlocks(task_id="plan_blocks", decision=given, controls=controls)
    return Decision.model_validate(task.execute(context(**params)))


def plan_of(given: Any, **more: Any) -> ControlPlan:
    plan = planned(given, **more).plan
    assert plan is not None
    (control,) = plan.controls
    return control


def holds(monkeypatch: pytest.MonkeyPatch, *held: Held, **more: Any) -> None:
    monkeypatch.setattr(Firewall, "holds", Survey({one.observable.key: one for one in held}, **more))


def held_there(one: Indicator, **more: Any) -> Held:
    return replace(Held(one.observable, one.expires_at, is_ours=True), **more)


def test_the_plan_says_what_would_change_at_each_control(monkeypatch: pytest.MonkeyPatch) -> None:
    known = at(KNOWN)
    holds(monkeypatch, held_there(known), size=37, capacity=10_000)
    plan = plan_of(decision(at(), known))
    assert {e.observable.value: e.change for e in plan.entries} == {NEW: Change.ADD, KNOWN: Change.UNCHANGED}
    assert (plan.control, plan.size, plan.capacity) == ("tiny", 37, 10_000)


def test_it_is_the_decision_with_its_plan_and_nothing_else_is_changed() -> None:
    given = decision(at(), held=(at(KNOWN, Rung.BLOCK_LONG),), hold_reasons=("a cap",))
    made = planned(given)
    assert made.model_copy(update={"plan": None}).to_json() == given


def test_the_log_is_a_diff(monkeypatch: pytest.MonkeyPatch, printed: Printed) -> None:
    known = at(KNOWN)
    holds(monkeypatch, held_there(known), size=37, capacity=10_000)
    refused = Refusal(observable=known.observable, layer="evidence", entry="e", reason="too little")
    planned(decision(at(), known, refusals=(refused,)), effects="plan")
    lines = "\n".join(printed())
    for words in (
        "tiny: 1 to add, 1 unchanged; 37 of 10,000 entries",
        "tiny + ipv4-addr 203[.]0[.]113[.]7: to add, block short until ",
        "tiny = ipv4-addr 203[.]0[.]113[.]8: unchanged, block short until ",
        "The decision refused 1 observables: evidence 1",
        "this run ends with its plan: nobody is asked, and nothing is written",
    ):
        assert words in lines, words
    planned(decision(at()), effects="apply")
    assert "this run ends with its plan" not in "\n".join(printed())


def test_a_plan_writes_nothing() -> None:
    planned(decision(at()), effects="apply")
    assert Firewall.asked == [False]
    assert settings.ledger().actions.events() == []


def test_the_same_decision_at_the_same_control_has_the_same_digest() -> None:
    given = decision(at(), held=(at(KNOWN, Rung.BLOCK_LONG),))
    digests = {plan.digest for _ in range(2) if (plan := planned(given).plan)}
    assert len(digests) == 1


def test_a_control_takes_only_its_own_rungs_and_what_it_acts_on() -> None:
    watched = at(rung=Rung.WATCH)
    claimed = at(KNOWN, roles=(Role.DESTINATION,))
    assert plan_of(decision(watched, claimed)).entries == ()
    assert [e.observable.value for e in plan_of(decision(watched, claimed), place="watch").entries] == [NEW]
    assert Firewall.asked == [False]  # where nothing concerns it nobody asks it


def test_what_is_held_is_in_the_plan_and_waits() -> None:
    plan = plan_of(decision(at(), held=(at(KNOWN, Rung.BLOCK_LONG, hold_reasons=("a cap",)),)))
    assert {e.observable.value: e.change for e in plan.entries} == {NEW: Change.ADD, KNOWN: Change.HELD}


def test_a_protected_value_is_refused_and_named() -> None:
    (entry,) = plan_of(decision(at(PROTECTED))).entries
    assert entry.change is Change.REFUSED
    assert entry.rule


def test_what_a_person_removed_is_respected() -> None:
    gone = at()
    action = Action(
        control="tiny",
        verb=Verb.DENY,
        observable=gone.observable,
        outcome=Outcome.BLOCKED,
        expires_at=gone.expires_at,
        reached=Reached.ACTIVE,
    )
    batch = ActionBatch(control="tiny", actions=(action,))
    settings.ledger().actions.record(batch, run_id="r", now=gone.last_seen_at + timedelta(minutes=1))
    (entry,) = plan_of(decision(gone)).entries
    assert (entry.change, entry.rule) == (Change.REFUSED, "lifted by a person")


@pytest.mark.parametrize(
    ("error", "problem"),
    [(Unavailable("tiny", "read", "503"), "503"), (KeyError("x"), "KeyError at ")],
    ids=["vendor", "bug"],
)
def test_a_control_that_cannot_be_read_is_named_and_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch, printed: Printed, error: Exception, problem: str
) -> None:
    monkeypatch.setattr(Firewall, "error", error)
    plan = plan_of(decision(at()))
    assert [e.change for e in plan.entries] == [Change.UNKNOWN]
    assert problem in plan.problem
    assert "tiny: 1 unknown; it could not be read: " in "\n".join(printed())


def test_a_control_without_a_connection_or_switched_off_is_not_in_the_plan(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, printed: Printed
) -> None:
    (tmp_path / "own.yaml").write_text("response: {switched_off: [tiny]}", encoding="utf-8")
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", f"{POLICY}:{tmp_path}/own.yaml")
    assert planned(decision(at())).plan == Plan()
    assert "tiny is not in the plan: response.switched_off names it" in "\n".join(printed())
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.delenv("AIRFLOW_CONN_TINY_DEFAULT")
    assert planned(decision(at())).plan == Plan()
    assert "there is no connection 'tiny_default'" in "\n".join(printed())


def test_nothing_to_do_is_said(printed: Printed) -> None:
    """N9: a log without a line of ours looks like one of a task that did nothing by mistake."""
    planned(decision())
    assert "tiny: nothing to change" in "\n".join(printed())


def test_without_a_decision_nothing_is_planned() -> None:
    with pytest.raises(AirflowSkipException):
        planned(None)


def test_values_that_nobody_knows_do_not_stop_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    values: Sequence[str] = [f"203.0.113.{n}" for n in range(20, 60)]
    holds(monkeypatch, size=9_990, capacity=10_000)
    plan = plan_of(decision(*(at(value) for value in values)))
    assert (plan.count(Change.ADD), plan.count(Change.REFUSED)) == (10, 30)
