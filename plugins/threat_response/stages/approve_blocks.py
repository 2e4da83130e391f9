"""The only stage that waits for a person: a run that would block more than its caps allow is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException, TaskAwaitingInput

from include.soar.model import Approval, ApprovalAnswer, Decision, digest
from include.soar.vendor.errors import one_line
from threat_response.runtime import settings
from threat_response.runtime.run import Run

APPROVE, REJECT = "Approve", "Reject"


class PlanChanged(RuntimeError):
    """The answer is about another plan than the present one. The task's next try asks again."""


class ApproveBlocks(HITLOperator):
    """
    Let a decision through, or ask first. It stands between ``decide`` and the controls.

    Takes and gives a ``Decision``. One that holds nothing comes back at once as it is. Else a person is asked (*Browse,
    Required Actions*, or the REST API) and the task waits without a slot, in the state ``awaiting_input``: approved,
    what was held is acted on; rejected, it is refused, and the run goes on. Without an answer in time it is refused
    as well, and the task fails, so that the run turns red: an attack went on and nobody looked at it.

    Nothing is acted on unless a person said *Approve* to this very plan. While the task waits its XCom is the decision
    that holds everything, so that a task that is marked or fails in between leaves the controls without indicators.

    A run that only plans its blocks asks nobody: what is held stays held.

    :param decision: (templated)
    """

    # Not the subject and the body: they hold foreign text, which must never be rendered as a template.
    template_fields: Sequence[str] = ("decision",)

    def __init__(self, *, decision: Any, execution_timeout: timedelta | None = None, **kwargs: Any) -> None:
        # Set afterwards: Airflow's operator would take it for the time that a person has to answer.
        super().__init__(subject="Block?", options=[APPROVE, REJECT], defaults=REJECT, execution_timeout=None, **kwargs)
        self.execution_timeout = execution_timeout
        self.decision = decision

    def execute(self, context: Context) -> dict[str, Any]:
        from include.soar.incident.texts import question

        decision = Decision.model_validate(self.decision)
        for remark in decision.remarks:
            self.log.warning("%s", one_line(remark))
        if not decision.held:
            self.log.info("No cap is exceeded: %d indicators go to the controls", len(decision.indicators))
            return decision.to_json()
        self.log.warning(
            "STOPPED BEFORE BLOCKING: %d indicators are held, since a cap is exceeded: %s",
            len(decision.held),
            "; ".join(map(one_line, decision.hold_reasons)),
        )
        if not Run.of(context).may_write(blocks=True):
            self.log.info("This run only plans its blocks: nobody is asked, and they stay held")
            return decision.to_json()
        context["ti"].xcom_push(key="return_value", value=decision.to_json())
        self.response_timeout = timedelta(hours=settings.policy().block.approval.wait_hours)
        self.subject, self.body = question(
            decision, wait=self.response_timeout, templates=settings.incident_templates()
        )
        try:
            super().execute(context)
        except TaskAwaitingInput as waiting:
            waiting.kwargs = {"asked": _digest_of(decision)}
            raise
        raise RuntimeError("Airflow did not wait for the answer")

    def execute_complete(self, context: Context, event: dict[str, Any], asked: str = "") -> dict[str, Any]:
        from include.soar.incident.texts import answer_words
        from include.soar.judge.caps import settle

        decision = Decision.model_validate(self.decision)
        if _digest_of(decision) != asked:
            raise PlanChanged("the plan has changed since the question was asked: asking again")
        answer = super().execute_complete(context, event)
        user = answer["responded_by_user"]
        approval = Approval(
            answer=_answered(answer["chosen_options"], by_a_person=user is not None),
            by=one_line(str(user["name"] or user["id"]), 100) if user else "",
            at=answer["responded_at"],
        )
        settled = settle(decision, approval, now=settings.now()).to_json()
        told = f"{len(decision.held)} held indicators: {one_line(answer_words(approval))}"
        if approval.answer is ApprovalAnswer.APPROVED:
            self.log.info("%s; %d of them have not expired and go to the controls", told, len(settled["indicators"]))
            return settled
        self.log.warning("NOTHING OF THIS RUN IS BLOCKED. %s", told)
        if approval.answer is ApprovalAnswer.NOBODY:
            # Published although the task fails: the incidents must say so. Not tried again, which would ask again.
            context["ti"].xcom_push(key="return_value", value=settled)
            raise AirflowFailException(f"nobody answered in time: {told}")
        return settled


def _digest_of(decision: Decision) -> str:
    """Identifies the plan that a question is about: what is held, until when."""
    return digest([i.to_json() for i in decision.held])


def _answered(chosen: Sequence[str], *, by_a_person: bool) -> ApprovalAnswer:
    if not by_a_person:
        return ApprovalAnswer.NOBODY
    return ApprovalAnswer.APPROVED if list(chosen) == [APPROVE] else ApprovalAnswer.REJECTED
