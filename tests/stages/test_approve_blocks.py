"""The task that lets a plan through or asks a person, try by try, with what Airflow gives to it and takes from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param, RetryAction, TaskGroup
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSkipException,
    DownstreamTasksSkipped,
    ParamValidationError,
    TaskAwaitingInput,
)
from airflow.sdk.execution_time import task_runner

from include.soar.incident.choices import ALL, NONE, options
from include.soar.ledger.actions import Kind
from include.soar.model import (
    Approval,
    ApprovalAnswer,
    Change,
    ControlPlan,
    Decision,
    Indicator,
    Plan,
    PlanEntry,
    Role,
    Rung,
    Step,
)
from tests.stages.controls import POLICY, incidents, indicator
from threat_response.runtime import settings
from threat_response.stages.approve_blocks import ApproveBlocks, PlanChanged
from threat_response.transport.retry import VendorRetryPolicy

ANSWERED_AT = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)
HELD = (indicator("ipv4-addr", "203.0.113.7"), indicator("domain-name", "evil.example", confidence=95))
REASON = "2 indicators in one run: block.maximum_per_run is 1"
JANE = {"id": "7", "name": "jane"}


class Supervisor:
    """What a task's process talks to. Keeps the messages."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, msg: Any) -> None:
        self.sent.append(msg)


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Supervisor:
    supervisor = Supervisor()
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path / "home"))
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor


def plan(*held: Indicator, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "policy_digest": "d",
        **dict.fromkeys(("priorities", "verdicts", "indicators", "refusals"), ()),
        "held": held,
        "hold_reasons": (REASON,) if held else (),
    }
    return Decision(**fields | more).to_json()


class Task:
    """One try of the task: its context, and what it published."""

    def __init__(
        self,
        decision: dict[str, Any],
        *,
        incidents: dict[str, Any] | None = None,
        run_type: str = "scheduled",
        effects: str = "auto",
    ) -> None:
        self.operator = ApproveBlocks(task_id="approve_blocks", decision=decision, incidents=incidents)
        self.published: list[Decision] = []
        ti = SimpleNamespace(
            id=UUID(int=1),
            xcom_push=lambda key, value: self.published.append(Decision.model_validate(value)),
        )
        run = SimpleNamespace(run_type=run_type, run_id="run-1", dag_id="response", run_after=ANSWERED_AT)
        self.context: Any = {"ti": ti, "task_instance": ti, "dag_run": run, "params": {"effects": effects}}

    def ask(self) -> TaskAwaitingInput:
        with pytest.raises(TaskAwaitingInput) as waiting:
            self.operator.execute(self.context)
        return waiting.value

    def ask_nobody(self) -> None:
        with pytest.raises(DownstreamTasksSkipped):
            self.operator.execute(self.context)

    def resume(
        self, waiting: TaskAwaitingInput, *chosen: str, user: dict[str, str] | None = JANE, **more: Any
    ) -> Decision:
        """As Airflow does: by the name and the arguments that the task left, with the event among them."""
        event = {
            "chosen_options": list(chosen),
            "params_input": {},
            "responded_at": ANSWERED_AT,
            "responded_by_user": user,
            "timedout": user is None,
            **more,
        }
        complete = getattr(self.operator, waiting.method_name)
        return Decision.model_validate(complete(self.context, **(waiting.kwargs or {}), event=event))


def option(number: int, decision: dict[str, Any]) -> str:
    """The words of the option of the value with that number."""
    return list(options(Decision.model_validate(decision)))[number + 1]


def answers() -> list[tuple[str, str, str, str]]:
    """What the ledger knows of answers: value, outcome, who, why."""
    events = settings.ledger().actions.events()
    return [(e.observable, e.outcome, e.by, e.reason) for e in events if e.kind is Kind.ANSWERED]


# --- nobody is asked --------------------------------------------------------------------------------------------


def test_a_plan_that_holds_nothing_asks_nobody(supervisor: Supervisor) -> None:
    task = Task(plan(indicators=HELD, remarks=("a cap could not be applied",)))
    task.ask_nobody()
    assert (supervisor.sent, task.published) == ([], [])


def test_where_nobody_is_asked_what_would_act_on_the_answer_is_skipped_and_nothing_else(supervisor: Supervisor) -> None:
    with DAG("response", schedule=None) as dag:
        asking = ApproveBlocks(task_id="approve_blocks", decision=plan(indicators=HELD))
        with TaskGroup("approved"):
            after = [EmptyOperator(task_id=name) for name in ("waf", "update_incidents")]
        asking >> after[0] >> after[1]
        asking >> EmptyOperator(task_id="fail_the_run")
    task = Task(plan())
    task.operator = dag.get_task("approve_blocks")
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        task.operator.execute(task.context)
    assert skipped.value.tasks == ["approved.update_incidents", "approved.waf"]


@pytest.mark.parametrize(
    ("run_type", "effects", "asks"),
    [
        ("scheduled", "auto", True),
        ("backfill", "auto", False),
        ("backfill", "apply", True),
        ("manual", "plan", False),
    ],
)
def test_a_run_that_only_plans_asks_nobody(supervisor: Supervisor, run_type: str, effects: str, asks: bool) -> None:
    task = Task(plan(*HELD), run_type=run_type, effects=effects)
    if asks:
        task.ask()
        return
    task.ask_nobody()
    assert supervisor.sent == []


def test_without_a_plan_nobody_is_asked(supervisor: Supervisor) -> None:
    task = Task(plan())
    task.operator.decision = None
    with pytest.raises(AirflowSkipException):
        task.operator.execute(task.context)


# --- the question -----------------------------------------------------------------------------------------------


def test_what_is_held_is_asked_about_value_by_value(supervisor: Supervisor) -> None:
    task = Task(plan(*HELD), incidents=incidents("INC-7"))
    waiting = task.ask()
    assert waiting.timeout == timedelta(hours=12)
    (question,) = supervisor.sent
    assert question.ti_id == UUID(int=1)
    assert (question.options[:2], question.defaults, question.multiple) == ([ALL, NONE], [NONE], True)
    first, second = question.options[2:]
    assert first.startswith("1: evil[.]example | ")  # the surest first
    assert second.startswith("2: 203[.]0[.]113[.]7 | ")
    assert question.subject == "Which of 2 held values may be acted on?"
    assert REASON.replace("_", r"\_") in question.body
    assert r"203\[.\]0\[.\]113\[.\]7" in question.body
    assert r"INC\-7" in question.body or "INC-7" in question.body
    assert question.params["comment"]["schema"]["type"] == ["null", "string"]


def test_the_form_asks_for_a_comment_and_not_for_the_runs_parameters() -> None:
    with DAG("response", schedule=None, params={"effects": Param("auto")}):
        asking = ApproveBlocks(task_id="approve_blocks", decision=plan())
    assert list(asking.serialized_params) == ["comment"]


def test_whatever_ends_the_wait_the_controls_find_nothing_to_act_on(supervisor: Supervisor) -> None:
    task = Task(plan(HELD[0], indicators=HELD[1:]))
    task.ask()
    (published,) = task.published
    assert (published.indicators, published.held) == ((), (HELD[0],))


def test_the_wait_is_the_policys(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("response: {approval: {wait_hours: 0.5}}", encoding="utf-8")
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", f"{POLICY}:{tmp_path}/own.yaml")
    assert Task(plan(*HELD)).ask().timeout == timedelta(minutes=30)
    assert "within 0.5 hours" in supervisor.sent[0].body


def test_a_repeated_try_asks_the_same_again(supervisor: Supervisor) -> None:
    first, second = Task(plan(*HELD)).ask(), Task(plan(*HELD)).ask()
    assert first.kwargs == second.kwargs
    assert supervisor.sent[0] == supervisor.sent[1]


# --- the answer -------------------------------------------------------------------------------------------------


def test_what_is_chosen_goes_to_the_controls_and_the_rest_is_refused(supervisor: Supervisor) -> None:
    decision = plan(*HELD)
    task = Task(decision)
    settled = task.resume(task.ask(), option(2, decision), params_input={"comment": "seen it before"})
    assert settled.indicators == HELD[:1]
    assert settled.held == ()
    assert settled.approval == Approval(
        answer=ApprovalAnswer.APPROVED,
        by="jane",
        at=ANSWERED_AT,
        chosen=(HELD[0].observable.key,),
        comment="seen it before",
    )
    assert [(r.observable, r.layer) for r in settled.refusals] == [(HELD[1].observable, "approval")]


def test_who_answered_what_is_in_the_ledger(supervisor: Supervisor) -> None:
    decision = plan(*HELD)
    task = Task(decision)
    task.resume(task.ask(), option(2, decision), params_input={"comment": "seen it before"})
    told = "1 approved by jane at 2026-11-24 12:30:00 UTC, 1 rejected: seen it before"
    first, second = (one.observable.key for one in HELD)
    assert answers() == [(first, "approved", "jane", told), (second, "declined", "jane", told)]


def test_all_of_it_goes_to_the_controls(supervisor: Supervisor) -> None:
    task = Task(plan(*HELD))
    settled = task.resume(task.ask(), ALL)
    assert set(settled.indicators) == set(HELD)
    assert settled.approval is not None
    assert settled.approval.chosen is None


def test_what_did_not_have_to_wait_is_not_given_once_more(supervisor: Supervisor) -> None:
    """It has been acted on; were it given again, what a person lifts meanwhile would come back."""
    task = Task(plan(HELD[0], indicators=HELD[1:]))
    assert task.resume(task.ask(), ALL).indicators == (HELD[0],)
    assert task.resume(task.ask(), NONE).indicators == ()


def test_what_has_expired_by_then_is_not_acted_on(supervisor: Supervisor) -> None:
    task = Task(plan(HELD[0], indicator("ipv4-addr", "203.0.113.8", days=-0.01)))
    settled = task.resume(task.ask(), ALL)
    assert settled.indicators == (HELD[0],)
    assert [(r.observable.value, r.entry) for r in settled.refusals] == [("203.0.113.8", "expired")]


def test_rejected_it_is_refused_and_the_task_is_done(supervisor: Supervisor) -> None:
    task = Task(plan(*HELD))
    settled = task.resume(task.ask(), NONE)
    assert settled.indicators == ()
    assert {(r.layer, r.entry) for r in settled.refusals} == {("approval", "rejected")}
    assert all("rejected by jane" in r.reason for r in settled.refusals)


def test_without_an_answer_it_is_refused_and_the_task_is_red_at_once(supervisor: Supervisor) -> None:
    task = Task(plan(*HELD))
    waiting = task.ask()
    # Not an error that is tried again: that would ask for another twelve hours.
    with pytest.raises(AirflowFailException, match="nobody answered"):
        task.resume(waiting, NONE, user=None)
    last = task.published[-1]
    assert last.indicators == last.held == ()
    assert {(r.layer, r.entry) for r in last.refusals} == {("approval", "unanswered")}
    assert {(outcome, by) for _, outcome, by, _ in answers()} == {("declined", "")}


def test_without_an_answer_each_rung_gets_what_the_policy_says(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "own.yaml").write_text("response: {approval: {unanswered: {block_short: act}}}", encoding="utf-8")
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", f"{POLICY}:{tmp_path}/own.yaml")
    end = HELD[0].expires_at
    short, long = (
        one.model_copy(update={"steps": (Step(rung=rung, expires_at=end),), "expires_at": end})
        for one, rung in zip(HELD, (Rung.BLOCK_SHORT, Rung.BLOCK_LONG), strict=True)
    )
    task = Task(plan(short, long))
    with pytest.raises(AirflowFailException):
        task.resume(task.ask(), NONE, user=None)
    last = task.published[-1]
    assert last.indicators == (short,)
    assert last.approval is not None
    assert last.approval.chosen == (short.observable.key,)
    assert "what waits for block short is acted on" in supervisor.sent[0].body


@pytest.mark.parametrize("chosen", [ALL, NONE])
def test_nobody_approves_nothing(supervisor: Supervisor, chosen: str) -> None:
    task = Task(plan(*HELD))
    with pytest.raises(AirflowFailException):
        task.resume(task.ask(), chosen, user=None)
    assert task.published[-1].indicators == ()


def test_an_answer_that_was_not_offered_or_contradicts_itself_approves_nothing(supervisor: Supervisor) -> None:
    task = Task(plan(*HELD))
    with pytest.raises(ValueError, match="Certainly"):
        task.resume(task.ask(), "Certainly")
    assert task.resume(task.ask(), ALL, NONE).indicators == ()
    assert task.published[-1].indicators == ()


def test_a_comment_that_is_none_is_asked_again(supervisor: Supervisor) -> None:
    """Airflow's API does not look at it."""
    task = Task(plan(*HELD))
    with pytest.raises(ParamValidationError):
        task.resume(task.ask(), ALL, params_input={"comment": 7})
    assert answers() == []


def test_an_answer_about_another_plan_is_asked_again(supervisor: Supervisor) -> None:
    """Somebody cleared ``decide`` while the question stood: what was approved is not what there is now."""
    before, after = Task(plan(*HELD)), Task(plan(*HELD, indicator("ipv4-addr", "203.0.113.9")))
    with pytest.raises(PlanChanged) as changed:
        after.resume(before.ask(), ALL)
    assert after.published == []
    assert VendorRetryPolicy().evaluate(changed.value, 1, 6).action is not RetryAction.FAIL
    again = after.ask()
    assert len(after.resume(again, ALL).indicators) == 3


def test_the_answer_is_bound_to_what_the_plan_changes_at_the_controls(supervisor: Supervisor) -> None:
    """``plan_blocks`` was cleared, and the control holds something else by now."""

    def planned(change: Change) -> dict[str, Any]:
        entry = PlanEntry(observable=HELD[0].observable, change=change, expires_at=HELD[0].expires_at)
        return plan(*HELD, plan=Plan(controls=(ControlPlan(control="waf", entries=(entry,)),)))

    before, after = Task(planned(Change.ADD)), Task(planned(Change.PROLONG))
    with pytest.raises(PlanChanged):
        after.resume(before.ask(), ALL)
    assert Task(planned(Change.ADD)).resume(before.ask(), ALL).indicators


def test_foreign_text_is_neither_a_template_nor_markup_nor_a_log_line(supervisor: Supervisor) -> None:
    assert {"subject", "body"}.isdisjoint(ApproveBlocks.template_fields)
    hostile = indicator(
        "url",
        "https://evil.example/[x](javascript:alert(1))|{{ 7*7 }}<img src=x onerror=alert(1)>`a`\n# big",
        roles=(Role.DESTINATION,),
    )
    task = Task(plan(hostile))
    waiting = task.ask()
    body = supervisor.sent[0].body
    assert "hxxps://evil" in body
    assert "https://evil" not in body
    rows = [line for line in body.splitlines() if "evil" in line]
    assert len(rows) == 1  # a line end in a value makes no line
    for sign in "[]()|<>`{}":
        assert rows[0].count(sign) == rows[0].count("\\" + sign), sign
    (option,) = supervisor.sent[0].options[2:]
    assert "\n" not in option
    assert "https://" not in option
    user = {"id": "7", "name": "jane\n2026-01-01 INFO all is well" + "x" * 500}
    settled = task.resume(waiting, ALL, user=user, params_input={"comment": "fine\n2026-01-01 INFO" + "y" * 500})
    assert settled.approval is not None
    assert "\n" not in settled.approval.by
    assert len(settled.approval.by) <= 100
    assert "\n" not in settled.approval.comment
