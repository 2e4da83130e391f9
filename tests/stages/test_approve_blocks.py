"""The task that lets a plan through or asks a person, try by try, with what Airflow gives to it and takes from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import AirflowFailException, TaskAwaitingInput
from airflow.sdk.execution_time import task_runner

from include.soar.model import ApprovalAnswer, Decision, Indicator, Role
from tests.stages.controls import POLICY, indicator
from threat_response.stages.approve_blocks import ApproveBlocks, PlanChanged
from threat_response.transport.retry import VendorRetryPolicy

ANSWERED_AT = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)
HELD = (indicator("ipv4-addr", "203.0.113.7"), indicator("domain-name", "evil.example", confidence=95))
REASON = "2 indicators in one run: block.maximum_per_run is 1"


class Supervisor:
    """What a task's process talks to. Keeps the messages."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, msg: Any) -> None:
        self.sent.append(msg)


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    supervisor = Supervisor()
    monkeypatch.setenv("THREAT_RESPONSE_POLICY", POLICY)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor


def plan(*held: Indicator, indicators: tuple[Indicator, ...] = (), remarks: tuple[str, ...] = ()) -> dict[str, Any]:
    return Decision(
        policy_digest="d",
        priorities=(),
        verdicts=(),
        indicators=indicators,
        refusals=(),
        held=held,
        hold_reasons=(REASON,) if held else (),
        remarks=remarks,
    ).to_json()


class Task:
    """One try of the task: its context, and what it published."""

    def __init__(self, decision: dict[str, Any], *, run_type: str = "scheduled", effects: str = "auto") -> None:
        self.operator = ApproveBlocks(task_id="approve_blocks", decision=decision)
        self.published: list[Decision] = []
        ti = SimpleNamespace(
            id=UUID(int=1),
            xcom_push=lambda key, value: self.published.append(Decision.model_validate(value)),
        )
        run = SimpleNamespace(run_type=run_type, run_id="run-1", dag_id="response", run_after=ANSWERED_AT)
        self.context: Any = {"ti": ti, "task_instance": ti, "dag_run": run, "params": {"effects": effects}}

    def start(self) -> dict[str, Any]:
        return self.operator.execute(self.context)

    def ask(self) -> TaskAwaitingInput:
        with pytest.raises(TaskAwaitingInput) as waiting:
            self.start()
        return waiting.value

    def resume(self, waiting: TaskAwaitingInput, chosen: str, user: dict[str, str] | None, **more: Any) -> Decision:
        """As Airflow does: by the name and the arguments that the task left, with the event among them."""
        event = {
            "chosen_options": [chosen],
            "params_input": {},
            "responded_at": ANSWERED_AT,
            "responded_by_user": user,
            "timedout": user is None,
            **more,
        }
        complete = getattr(self.operator, waiting.method_name)
        return Decision.model_validate(complete(self.context, **(waiting.kwargs or {}), event=event))


JANE = {"id": "7", "name": "jane"}


def test_a_plan_within_its_caps_goes_through_unasked(supervisor: Supervisor) -> None:
    decision = plan(indicators=HELD, remarks=("a cap could not be applied",))
    task = Task(decision)
    assert task.start() == decision
    assert (supervisor.sent, task.published) == ([], [])


def test_a_plan_above_a_cap_is_asked_about(supervisor: Supervisor) -> None:
    task = Task(plan(*HELD))
    waiting = task.ask()
    assert waiting.timeout == timedelta(hours=12)
    (question,) = supervisor.sent
    assert question.ti_id == UUID(int=1)
    assert (question.options, question.defaults, question.multiple) == (["Approve", "Reject"], ["Reject"], False)
    assert question.subject == "Block 2 indicators? A cap is exceeded"
    assert REASON.replace("_", r"\_") in question.body
    assert r"203\[.\]0\[.\]113\[.\]7" in question.body
    assert question.body.index("evil") < question.body.index("203")  # the surest first
    # Whatever ends the task now: the controls find nothing to act on.
    (published,) = task.published
    assert (published.indicators, len(published.held)) == ((), 2)


def test_approved_it_goes_to_the_controls(supervisor: Supervisor) -> None:
    task = Task(plan(*HELD))
    settled = task.resume(task.ask(), "Approve", JANE)
    assert settled.indicators == HELD
    assert settled.held == ()
    assert settled.approval is not None
    assert (settled.approval.answer, settled.approval.by, settled.approval.at) == (
        ApprovalAnswer.APPROVED,
        "jane",
        ANSWERED_AT,
    )


def test_what_is_over_by_then_is_not(supervisor: Supervisor) -> None:
    task = Task(plan(HELD[0], indicator("ipv4-addr", "203.0.113.8", days=-0.01)))
    settled = task.resume(task.ask(), "Approve", JANE)
    assert settled.indicators == (HELD[0],)
    assert [(r.observable.value, r.entry) for r in settled.refusals] == [("203.0.113.8", "expired")]


def test_rejected_it_is_refused_and_the_task_is_done(supervisor: Supervisor) -> None:
    task = Task(plan(*HELD))
    settled = task.resume(task.ask(), "Reject", JANE)
    assert settled.indicators == ()
    assert {(r.layer, r.entry) for r in settled.refusals} == {("approval", "rejected")}
    assert all("rejected by jane" in r.reason for r in settled.refusals)


def test_without_an_answer_it_is_refused_and_the_task_is_red_at_once(supervisor: Supervisor) -> None:
    task = Task(plan(*HELD))
    waiting = task.ask()
    # Not an error that is tried again: that would ask for another twelve hours.
    with pytest.raises(AirflowFailException, match="nobody answered"):
        task.resume(waiting, "Reject", None)
    last = task.published[-1]
    assert last.indicators == last.held == ()
    assert {(r.layer, r.entry) for r in last.refusals} == {("approval", "unanswered")}


@pytest.mark.parametrize("chosen", ["Approve", "Reject"])
def test_nobody_approves_nothing(supervisor: Supervisor, chosen: str) -> None:
    task = Task(plan(*HELD))
    with pytest.raises(AirflowFailException):
        task.resume(task.ask(), chosen, None)
    assert task.published[-1].indicators == ()


def test_an_answer_that_is_none_of_the_two_approves_nothing(supervisor: Supervisor) -> None:
    task = Task(plan(*HELD))
    with pytest.raises(ValueError, match="Certainly"):
        task.resume(task.ask(), "Certainly", JANE)
    assert task.resume(task.ask(), "Approve", JANE, chosen_options=["Approve", "Reject"]).indicators == ()
    assert task.published[-1].indicators == ()


def test_an_answer_about_another_plan_is_asked_again(supervisor: Supervisor) -> None:
    """Somebody cleared ``decide`` while the question stood: what was approved is not what there is now."""
    before, after = Task(plan(*HELD)), Task(plan(*HELD, indicator("ipv4-addr", "203.0.113.9")))
    with pytest.raises(PlanChanged) as changed:
        after.resume(before.ask(), "Approve", JANE)
    assert after.published == []
    assert VendorRetryPolicy().evaluate(changed.value, 1, 6).action is not RetryAction.FAIL
    again = after.ask()
    assert len(after.resume(again, "Approve", JANE).indicators) == 3


def test_a_repeated_try_asks_the_same_again(supervisor: Supervisor) -> None:
    first, second = Task(plan(*HELD)).ask(), Task(plan(*HELD)).ask()
    assert first.kwargs == second.kwargs
    assert supervisor.sent[0] == supervisor.sent[1]


@pytest.mark.parametrize(
    ("run_type", "effects", "asks"),
    [
        ("scheduled", "auto", True),
        ("backfill", "auto", False),
        ("backfill", "apply", True),
        ("manual", "plan", False),
    ],
)
def test_a_run_that_only_plans_asks_nobody_and_holds_on(
    supervisor: Supervisor, run_type: str, effects: str, asks: bool
) -> None:
    task = Task(plan(*HELD), run_type=run_type, effects=effects)
    if asks:
        task.ask()
        return
    decision = Decision.model_validate(task.start())
    assert (decision.indicators, decision.held) == ((), HELD)
    assert supervisor.sent == []


def test_the_wait_is_the_policys(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("block: {approval: {wait_hours: 0.5}}", encoding="utf-8")
    monkeypatch.setenv("THREAT_RESPONSE_POLICY", f"{POLICY}:{tmp_path}/own.yaml")
    assert Task(plan(*HELD)).ask().timeout == timedelta(minutes=30)
    assert "within 0.5 hours" in supervisor.sent[0].body


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
    for sign in "[]()|<>`*{}":
        cells = rows[0].replace("| ", "").replace(" |", "")
        assert cells.count(sign) == cells.count("\\" + sign), sign
    settled = task.resume(waiting, "Approve", {"id": "7", "name": "jane\n2026-01-01 INFO all is well" + "x" * 500})
    assert settled.approval is not None
    assert "\n" not in settled.approval.by
    assert len(settled.approval.by) <= 100
