"""The contract of stages 6, 7 and 8 and of their sensor, with the smallest control that can have it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from include.soar.model import (
    Action,
    ActionBatch,
    Change,
    ControlPlan,
    Indicator,
    Observable,
    ObservableType,
    Outcome,
    Plan,
    PlanEntry,
    Reached,
    Rung,
    Step,
    Verb,
)
from include.soar.vendor.errors import (
    RateLimited,
    Rejected,
    Unauthorized,
    Unavailable,
    Unexpected,
    VendorError,
    WriteInPlanMode,
)
from tests.stages import controls, tiny
from tests.stages.controls import PROTECTED, decision, incidents, indicator
from tests.stages.tiny import Printed, TinyHook, TinyServer, context, json_answer
from threat_response.runtime import settings
from threat_response.stages.control import Confirm, Control, Held, Incidents, Ours, Result, Survey

EVIL, WORSE, CLEAN = "203.0.113.7", "203.0.113.8", "203.0.113.9"


# --- stages 6, 7, 8: control -------------------------------------------------------------------------------------


class TinyControl(Control):
    vendor = "tiny"
    verb = Verb.DENY
    types = frozenset({ObservableType.IPV4})
    hook_class = TinyHook

    def ensure(self, hook: TinyHook, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours) -> Result:
        done = Result()
        for one in indicators:
            value = one.observable.value
            try:
                known = hook.get(f"/blocked/{value}")
                if not known:
                    hook.put(f"/blocked/{value}")
            except Rejected as error:
                done.actions.append(self.action(one, Outcome.FAILED, str(error)))
            else:
                names = ", ".join(incidents[one.observable.key])
                done.actions.append(self.action(one, Outcome.BLOCKED, names, changed=not known, proof={"list": "x"}))
        return done

    def survey(self, hook: TinyHook, ours: Ours, now: datetime, also: Iterable[Observable] = ()) -> Survey:
        """The tiny vendor keeps neither owner nor end: what is ours, and until when, only the ledger knows."""
        held = {}
        for observable in {*filter(None, map(Observable.of_key, ours)), *also}:
            if hook.get(f"/blocked/{observable.value}"):
                known = ours.get(observable.key)
                ends = known.expires_at if known else None
                held[observable.key] = Held(observable, ends, known is not None, ended=bool(ends and ends <= now))
        return Survey(held, size=len(held), place="tiny")

    def lift(self, hook: TinyHook, actions: Sequence[Action]) -> Result:
        self.intend(actions)
        for one in actions:
            hook.delete(f"/blocked/{one.observable.value}")
        return Result([self.lifted(one, Outcome.LIFTED, "deleted", changed=True) for one in actions])


class World:
    """What the control's other end holds; ``fails`` answers a value's write with this status."""

    def __init__(self, server: TinyServer) -> None:
        self.blocked: set[str] = set()
        self.fails: dict[str, int] = {}
        server.always = self

    def __call__(self, seen: tiny.Seen) -> tiny.Answer:
        value = seen.path.rsplit("/", 1)[-1]
        if seen.method == "GET":
            return json_answer(value in self.blocked)
        if seen.method == "DELETE":
            self.blocked.discard(value)
            return json_answer(None)
        if value in self.fails:
            return tiny.Answer(self.fails[value], b'{"message": "no"}')
        self.blocked.add(value)
        return json_answer(None)


@pytest.fixture
def world(server: TinyServer) -> World:
    return World(server)


IP = "ipv4-addr"


def act(*wanted: Indicator, by: type[Control] = TinyControl, **options: Any) -> controls.Run:
    return controls.run(by, decision(*wanted), **options)


def test_a_control_blocks_and_a_second_run_changes_nothing(world: World, server: TinyServer) -> None:
    first = act(indicator(IP, EVIL), indicator(IP, WORSE))
    assert first.error is None
    assert first.outcomes == {EVIL: "blocked", WORSE: "blocked"}
    assert first.actions[EVIL].detail == "INC-1"  # the finding's incident
    assert world.blocked == {EVIL, WORSE}
    writes = sum(seen.method == "PUT" for seen in server.seen)
    second = act(indicator(IP, EVIL), indicator(IP, WORSE))
    assert (second.outcomes, {a.changed for a in second.actions.values()}) == (first.outcomes, {False})
    assert sum(seen.method == "PUT" for seen in server.seen) == writes == 2
    rows = settings.ledger().actions.rows("tiny")
    assert [(row.observable, row.outcome, row.proof) for row in rows] == [
        (f"{IP}:{EVIL}", "blocked", {"list": "x"}),
        (f"{IP}:{WORSE}", "blocked", {"list": "x"}),
    ]
    assert rows[0].run_id == "response/run-1"


def test_the_gate_is_asked_again_at_the_last_moment(world: World, server: TinyServer) -> None:
    """Whatever decision arrives: made by hand, by an older policy, or by a bug."""
    run = act(indicator(IP, PROTECTED), indicator(IP, "10.0.0.1"), indicator(IP, "198.51.100.201"), indicator(IP, EVIL))
    assert run.outcomes == {
        PROTECTED: "protected",
        "10.0.0.1": "protected",
        "198.51.100.201": "protected",
        EVIL: "blocked",
    }
    assert world.blocked == {EVIL}
    assert not [s for s in server.seen if PROTECTED in s.path]


def test_what_is_not_for_this_control_or_over_is_said_and_not_sent(world: World, server: TinyServer) -> None:
    run = act(indicator("domain-name", "evil.example"), indicator(IP, EVIL, days=-1))
    assert run.error is None
    assert run.outcomes == {"evil.example": "unsupported", EVIL: "expired"}
    assert server.seen == []


def test_nothing_is_done_that_no_incident_tells_of(world: World, server: TinyServer) -> None:
    """One incident that could not be opened costs its own indicators; one that tells of them is enough."""
    lost, shared = indicator(IP, EVIL, finding_uids=("lost",)), indicator(IP, WORSE, finding_uids=("lost", "finding-1"))
    batch = controls.incidents()
    batch["incidents"].append(
        {"finding_uid": "lost", "marker": "m2", "outcome": "failed", "title": "t", "detail": "refused"}
    )
    pushed: dict[str, Any] = {}
    operator = TinyControl(task_id="control", decision=decision(lost, shared), incidents=batch)
    with pytest.raises(Rejected, match="incident"):
        operator.execute(controls.context(xcom_push=lambda key, value: pushed.update({key: value})))
    outcomes = {a["observable"]["value"]: a["outcome"] for a in pushed["return_value"]["actions"]}
    assert outcomes == {EVIL: "failed", WORSE: "blocked"}
    assert world.blocked == {WORSE}


@pytest.mark.parametrize("missing", ["decision", "incidents"])
def test_a_control_without_a_decision_or_incidents_does_nothing(server: TinyServer, missing: str) -> None:
    given = {"decision": decision(indicator(IP, EVIL)), "incidents": controls.incidents()} | {missing: None}
    with pytest.raises(AirflowSkipException):
        TinyControl(task_id="control", **given).execute(controls.context())
    assert server.seen == []


def test_a_watchlist_may_hold_protected_values(world: World) -> None:
    class Watch(TinyControl):
        gated = False

    assert act(indicator(IP, PROTECTED), by=Watch).outcomes == {PROTECTED: "blocked"}


@pytest.mark.parametrize(
    ("effects", "run_type", "writes"),
    [
        ("auto", "scheduled", True),
        ("auto", "manual", True),
        (None, "manual", True),
        ("auto", "backfill", False),
        ("apply", "backfill", True),
        ("plan", "scheduled", False),
        ("plan", "manual", False),
    ],
)
def test_which_runs_write(world: World, server: TinyServer, effects: str | None, run_type: str, writes: bool) -> None:
    operator = TinyControl(task_id="c", decision=decision(indicator(IP, EVIL)), incidents=incidents())
    batch = ActionBatch.model_validate(operator.execute(context(run_type=run_type, effects=effects)))
    assert batch.actions[0].outcome is (Outcome.BLOCKED if writes else Outcome.PLANNED)
    assert world.blocked == ({EVIL} if writes else set())
    assert len(settings.ledger().actions.rows()) == (1 if writes else 0)  # a plan is no state


def test_an_effect_that_nobody_knows_is_refused(world: World) -> None:
    run = act(indicator(IP, EVIL), effects="aply")
    assert isinstance(run.error, ValueError)
    assert "aply" in str(run.error)
    assert world.blocked == set()


def test_a_vendor_that_writes_while_it_plans_is_stopped_at_the_line(world: World, server: TinyServer) -> None:
    class Eager(TinyControl):
        preview = TinyControl.ensure

    run = act(indicator(IP, EVIL), by=Eager, effects="plan")
    assert isinstance(run.error, WriteInPlanMode)
    assert [s.method for s in server.seen] == ["GET"]
    assert world.blocked == set()


def test_one_items_failure_costs_that_item_and_then_the_task(world: World) -> None:
    world.fails = {WORSE: 422}
    run = act(indicator(IP, EVIL), indicator(IP, WORSE), indicator(IP, CLEAN))
    assert run.outcomes == {EVIL: "blocked", WORSE: "failed", CLEAN: "blocked"}
    assert "no [HTTP 422]" in run.actions[WORSE].detail
    # Published although the task fails: the incident's update reads it.
    assert isinstance(run.error, Rejected)
    assert list(run.pushed) == ["return_value"]
    assert {row.observable: row.outcome for row in settings.ledger().actions.rows()}[f"{IP}:{WORSE}"] == "failed"


@pytest.mark.parametrize(
    ("status", "kind"), [(401, Unauthorized), (429, RateLimited), (500, Unavailable), (302, Unexpected)]
)
def test_what_stops_the_control_is_raised_as_it_is_after_the_batch_was_published(
    world: World, status: int, kind: type[VendorError]
) -> None:
    world.fails = {EVIL: status}
    run = act(indicator(IP, EVIL), indicator(IP, WORSE), indicator(IP, PROTECTED))
    assert type(run.error) is kind
    assert run.outcomes == {EVIL: "failed", WORSE: "failed", PROTECTED: "protected"}
    assert run.actions[WORSE].detail == str(run.error)


def test_what_was_done_before_the_stop_is_kept(world: World) -> None:
    class Half(TinyControl):
        def ensure(self, hook: TinyHook, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours) -> Result:
            done = super().ensure(hook, indicators[:1], incidents, ours)
            done.error = Unavailable("tiny", "put", "went away")
            return done

    run = act(indicator(IP, EVIL), indicator(IP, WORSE), by=Half)
    assert run.outcomes == {EVIL: "blocked", WORSE: "failed"}
    assert isinstance(run.error, Unavailable)


def test_an_indicator_that_a_vendor_passes_over_is_not_lost(world: World) -> None:
    class Forgetful(TinyControl):
        def ensure(self, hook: TinyHook, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours) -> Result:
            return super().ensure(hook, indicators[1:], incidents, ours)

    run = act(indicator(IP, EVIL), indicator(IP, WORSE), by=Forgetful)
    assert run.outcomes == {EVIL: "failed", WORSE: "blocked"}
    assert isinstance(run.error, Unexpected)


def test_a_bug_in_a_vendors_reading_publishes_the_batch_and_says_where(world: World) -> None:
    """3e: whatever a vendor's answer makes of our code, the incident tells of the others."""

    class Broken(TinyControl):
        def ensure(self, hook: TinyHook, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours) -> Result:
            raise KeyError("secret\nforged line")

    run = act(indicator(IP, EVIL), indicator(IP, PROTECTED), by=Broken)
    assert type(run.error) is Unexpected
    assert run.outcomes == {EVIL: "failed", PROTECTED: "protected"}
    assert "KeyError at test_control.py" in run.actions[EVIL].detail
    assert "secret" not in str(run.error)


def test_what_failed_has_no_end(world: World) -> None:
    """3g: an incident said "failed … until 2026-12-04"."""
    world.fails = {EVIL: 422, WORSE: 500}
    assert {a.expires_at for a in act(indicator(IP, EVIL)).actions.values()} == {None}
    both = act(indicator(IP, EVIL), indicator(IP, WORSE), indicator(IP, CLEAN))
    assert {a.expires_at for a in both.actions.values() if a.outcome is Outcome.FAILED} == {None}


def test_with_nothing_to_do_the_control_is_left_alone(world: World, server: TinyServer) -> None:
    assert act().outcomes == {}
    assert server.seen == []


def test_a_control_without_a_connection_is_skipped(unconnected: TinyServer) -> None:
    assert isinstance(act(indicator(IP, EVIL)).error, AirflowSkipException)


def test_one_log_line_an_item_that_no_value_can_forge(server: TinyServer, printed: Printed) -> None:
    class Urls(TinyControl):
        types = frozenset({ObservableType.URL})

        def ensure(self, hook: TinyHook, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours) -> Result:
            return Result([self.action(i, Outcome.BLOCKED, "a\nb", proof={"page": "c\r\nd"}) for i in indicators])

    act(indicator("url", "https://evil.example/\u2028forged"), by=Urls)
    items = [line for line in printed() if "tiny deny" in line]
    assert len(items) == 1
    assert "forged: blocked; a b" in items[0]
    assert "page=c d" in items[0]


def test_a_sweep_removes_what_is_past_its_end_and_nothing_else(world: World) -> None:
    soon = indicator(IP, EVIL, days=1)
    act(soon, indicator(IP, WORSE, days=9))
    world.blocked.add(CLEAN)  # somebody else's
    control = TinyControl(task_id="sweep")
    ours = settings.ledger().actions.in_force("tiny")
    assert control.sweep(TinyHook(), ours, settings.now()).actions == []
    swept = control.sweep(TinyHook(), ours, settings.now() + timedelta(days=2))
    assert [(a.observable.value, a.verb, a.outcome, a.reached) for a in swept.actions] == [
        (EVIL, Verb.LIFT, Outcome.LIFTED, Reached.GONE)
    ]
    assert swept.actions[0].expires_at == soon.expires_at
    assert world.blocked == {WORSE, CLEAN}


# --- the plan, and the policy's switch ---------------------------------------------------------------------------


def planned(*entries: tuple[Indicator, Change, str], control: str = "tiny") -> Plan:
    return Plan(
        controls=(
            ControlPlan(
                control=control,
                entries=tuple(PlanEntry(observable=i.observable, change=c, rule=rule) for i, c, rule in entries),
            ),
        )
    )


def act_as(plan: Plan, *wanted: Indicator) -> controls.Run:
    given = decision(*wanted) | {"plan": plan.to_json()}
    return controls.run(TinyControl, given)


def test_exactly_the_plans_entries_are_applied(world: World) -> None:
    """What was held is approved once the decision has it; what the plan refused, or does not know, is not done."""
    ips = [indicator(IP, f"203.0.113.{n}") for n in range(10, 15)]
    plan = planned(
        (ips[0], Change.ADD, ""),
        (ips[1], Change.HELD, "maximum_per_run"),
        (ips[2], Change.REFUSED, "lifted by a person"),
        (ips[3], Change.REFUSED, "capacity"),
    )
    done = act_as(plan, *ips)
    assert list(done.outcomes.values()) == ["blocked", "blocked", "not_ours", "failed", "failed"]
    assert world.blocked == {"203.0.113.10", "203.0.113.11"}
    assert done.actions["203.0.113.13"].detail == "refused in the plan: capacity"
    assert done.actions["203.0.113.14"].detail.startswith("drift: ")
    assert isinstance(done.error, Rejected)


def test_a_control_that_the_plan_does_not_know_does_nothing(world: World, server: TinyServer) -> None:
    one = indicator(IP, EVIL)
    done = act_as(planned((one, Change.ADD, ""), control="another"), one)
    assert done.outcomes == {EVIL: "failed"}
    assert server.seen == []


def test_what_has_drifted_since_the_plan_is_not_written(world: World) -> None:
    """It was in force when the plan was made, by somebody's item, and was removed before the plan was applied."""
    gone, fine = indicator(IP, EVIL), indicator(IP, WORSE)
    done = act_as(planned((gone, Change.UNCHANGED, ""), (fine, Change.ADD, "")), gone, fine)
    assert done.outcomes == {EVIL: "failed", WORSE: "blocked"}
    assert done.actions[EVIL].detail == "drift: what was in force there was removed after the plan was made"
    assert world.blocked == {WORSE}
    assert isinstance(done.error, Rejected)


def test_more_changes_of_others_stop_a_control_whose_policy_refuses_them(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("response:\n  refuse_others_changes: true\n", "utf-8")
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", f"{controls.POLICY}:{own}")
    survey = TinyControl.survey

    def with_others(self: TinyControl, *given: Any) -> Survey:
        return replace(survey(self, *given), others_changes=2)

    monkeypatch.setattr(TinyControl, "survey", with_others)
    one = indicator(IP, EVIL)
    done = act_as(planned((one, Change.ADD, "")), one)
    assert done.outcomes == {EVIL: "failed"}
    assert "drift: 2 changes of other people would go with ours, 0 when the plan was made" in done.actions[EVIL].detail
    assert world.blocked == set()


@pytest.mark.parametrize(
    ("place", "rungs"),
    [
        ("block.waf", [Rung.BLOCK_SHORT]),
        ("block.edr", [Rung.DETECT, Rung.BLOCK_SHORT]),
        ("watch", [Rung.WATCH]),
        ("", [Rung.WATCH, Rung.DETECT, Rung.BLOCK_SHORT]),
    ],
)
def test_a_control_takes_the_steps_of_its_place(place: str, rungs: list[Rung]) -> None:
    one = indicator(IP, EVIL)
    all_steps = tuple(Step(rung=r, expires_at=one.expires_at) for r in (Rung.WATCH, Rung.DETECT, Rung.BLOCK_SHORT))
    (mine,) = TinyControl(task_id="t", place=place)._of_our_rungs([one.model_copy(update={"steps": all_steps})])
    assert [step.rung for step in mine.steps] == rungs


def test_what_has_no_step_at_a_place_is_not_its_business_and_what_has_none_at_all_is_everybodys() -> None:
    one = indicator(IP, EVIL)
    watched = one.model_copy(update={"steps": (Step(rung=Rung.WATCH, expires_at=one.expires_at),)})
    old = one.model_copy(update={"steps": ()})
    assert TinyControl(task_id="t", place="block.waf")._of_our_rungs([watched, old]) == [old]


def test_a_control_that_the_policy_switches_off_is_skipped_and_lifts_nothing(
    world: World, server: TinyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.blocked = {EVIL}
    own = tmp_path / "off.yaml"
    own.write_text("response:\n  switched_off: [tiny]\n", "utf-8")
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", f"{controls.POLICY}:{own}")
    skipped = act(indicator(IP, WORSE))
    assert isinstance(skipped.error, AirflowSkipException)
    assert "switched off in the policy" in str(skipped.error)
    with pytest.raises(AirflowSkipException, match="switched off"):
        poke(action(WORSE, Outcome.PENDING))
    assert server.seen == []
    assert world.blocked == {EVIL}


# --- the sensor --------------------------------------------------------------------------------------------------


class TinyConfirm(Confirm):
    vendor = "tiny"
    hook_class = TinyHook

    def confirm(self, hook: TinyHook, actions: Sequence[Action]) -> list[Action]:
        return [
            a.model_copy(update={"outcome": Outcome.BLOCKED, "detail": "in force"})
            for a in actions
            if hook.get(f"/blocked/{a.observable.value}")
        ]


def action(value: str, outcome: Outcome) -> Action:
    observable = Observable(type=IP, value=value)
    return Action(control="tiny", verb=Verb.DENY, observable=observable, outcome=outcome, detail="accepted")


def poke(
    *actions: Action, waiting_since: datetime | None = None, by: type[Confirm] = TinyConfirm
) -> tuple[bool, dict[str, str] | None]:
    batch = ActionBatch(control="tiny", actions=actions).to_json()
    run = context()
    run["ti"] = SimpleNamespace(get_first_reschedule_date=lambda _: waiting_since)
    answer = by(task_id="confirm", actions=batch).poke(run)
    if answer.xcom_value is None:
        return answer.is_done, None
    result = ActionBatch.model_validate(answer.xcom_value)
    return answer.is_done, {a.observable.value: a.outcome.value for a in result.actions}


def poke_red(
    *actions: Action, waiting_since: datetime | None = None, by: type[Confirm] = TinyConfirm
) -> dict[str, Action]:
    """What a look publishes that ends the task red."""
    pushed: dict[str, Any] = {}
    run = context()
    run["ti"] = SimpleNamespace(
        get_first_reschedule_date=lambda _: waiting_since or settings.now(),
        xcom_push=lambda key, value: pushed.update({key: value}),
    )
    with pytest.raises(Rejected) as error:
        by(task_id="confirm", actions=ActionBatch(control="tiny", actions=actions).to_json()).poke(run)
    seen = {a.observable.value: a for a in ActionBatch.model_validate(pushed["return_value"]).actions}
    assert any(a.detail in str(error.value) for a in seen.values() if a.outcome is Outcome.FAILED)
    return seen


def test_the_sensor_waits_until_all_pending_is_in_force(world: World) -> None:
    batch = (action(EVIL, Outcome.PENDING), action(WORSE, Outcome.PENDING), action(CLEAN, Outcome.FAILED))
    assert poke(*batch) == (False, None)
    world.blocked = {EVIL}
    assert poke(*batch) == (False, None)
    assert settings.ledger().actions.rows() == []
    world.blocked = {EVIL, WORSE}
    assert poke(*batch) == (True, {EVIL: "blocked", WORSE: "blocked", CLEAN: "failed"})
    assert {row.outcome for row in settings.ledger().actions.rows()} == {"blocked", "failed"}


def test_the_sensors_patience_ends_red_with_what_is_true(world: World) -> None:
    """3a: a control that accepts and never activates was green, and pending for ever."""
    world.blocked = {EVIL}
    batch = (action(EVIL, Outcome.PENDING), action(WORSE, Outcome.PENDING), action(CLEAN, Outcome.BLOCKED))
    just_begun, long_ago = settings.now() - timedelta(minutes=29), settings.now() - timedelta(minutes=31)
    assert poke(*batch, waiting_since=just_begun) == (False, None)
    seen = poke_red(*batch, waiting_since=long_ago)
    assert {value: a.outcome.value for value, a in seen.items()} == {EVIL: "blocked", WORSE: "failed", CLEAN: "blocked"}
    assert seen[WORSE].detail == "not in force after 30 minutes: accepted"
    assert seen[EVIL].detail == "in force"


def test_a_removal_that_the_environment_never_takes_over_is_red_and_keeps_its_end(world: World) -> None:
    ends = settings.now() + timedelta(days=1)
    removal = action(EVIL, Outcome.PENDING).model_copy(update={"verb": Verb.LIFT, "expires_at": ends})
    seen = poke_red(removal, waiting_since=settings.now() - timedelta(minutes=31))
    assert (seen[EVIL].outcome, seen[EVIL].expires_at) == (Outcome.FAILED, ends)
    assert seen[EVIL].detail.startswith("still in force after 30 minutes")


def test_what_the_environment_says_has_failed_is_red_at_once(world: World) -> None:
    """3a: it is not waited for, and no retry of the sensor can mend it; the batch is published for the incident."""

    class Failing(TinyConfirm):
        def confirm(self, hook: TinyHook, actions: Sequence[Action]) -> list[Action]:
            return [
                a.model_copy(update={"outcome": Outcome.FAILED, "detail": "the activation failed"}) for a in actions
            ]

    seen = poke_red(action(EVIL, Outcome.PENDING), action(CLEAN, Outcome.BLOCKED), by=Failing)
    assert {value: a.outcome.value for value, a in seen.items()} == {EVIL: "failed", CLEAN: "blocked"}
    assert {row.outcome for row in settings.ledger().actions.rows()} == {"blocked", "failed"}


def test_with_nothing_pending_the_sensor_asks_nobody(world: World, server: TinyServer) -> None:
    assert poke(action(EVIL, Outcome.BLOCKED), action(WORSE, Outcome.PLANNED)) == (
        True,
        {EVIL: "blocked", WORSE: "planned"},
    )
    assert poke() == (True, {})
    assert server.seen == []


def test_the_sensor_cannot_write(world: World) -> None:
    class Writing(TinyConfirm):
        def confirm(self, hook: TinyHook, actions: Sequence[Action]) -> list[Action]:
            hook.put("/blocked/x")
            return []

    with pytest.raises(WriteInPlanMode):
        poke(action(EVIL, Outcome.PENDING), by=Writing)
    assert world.blocked == set()


def test_an_error_while_looking_is_for_the_retry_policy(world: World, server: TinyServer) -> None:
    server.always = tiny.Answer(503)
    with pytest.raises(Unavailable):
        poke(action(EVIL, Outcome.PENDING))


def test_a_sensor_of_an_absent_control_is_skipped(unconnected: TinyServer) -> None:
    """Its control was skipped, and gave no batch."""
    with pytest.raises(AirflowSkipException, match="control tiny"):
        TinyConfirm(task_id="confirm", actions=None).poke(context())


@pytest.mark.parametrize(
    "make",
    [lambda: TinyControl(task_id="t", decision={}, incidents={}), lambda: TinyConfirm(task_id="t", actions={})],
    ids=["control", "confirm"],
)
def test_making_an_operator_reads_no_connection_and_every_field_is_templated(
    unconnected: TinyServer, make: Callable[[], Any]
) -> None:
    operator = make()
    assert operator.conn_id == "tiny_default"
    assert operator.trigger_rule == "all_done"  # one bad item must not keep every block from being made
    assert all(hasattr(operator, name) for name in operator.template_fields)
    assert "conn_id" in operator.template_fields


def test_a_control_is_told_what_is_known_of_ours_there(world: World) -> None:
    given: list[Ours] = []

    class Remembering(TinyControl):
        def ensure(self, hook: TinyHook, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours) -> Result:
            given.append(ours)
            return super().ensure(hook, indicators, incidents, ours)

        preview = ensure

    world.fails = {WORSE: 422}
    one = indicator(IP, EVIL)
    act(one, indicator(IP, WORSE), by=Remembering)
    act(one, by=Remembering)
    first, second = given
    assert dict(first) == {}
    [(key, known)] = second.items()  # what failed is not in force
    assert (key, known.outcome, known.expires_at) == (f"{IP}:{EVIL}", Outcome.BLOCKED, one.expires_at)
    assert (known.run_id, dict(known.proof)) == ("response/run-1", {"list": "x"})
    assert dict(settings.ledger().actions.in_force("another")) == {}
