"""The only stage that waits for a person: what is held is asked about, value by value."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NoReturn

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context, Param, TriggerRule
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped, TaskAwaitingInput

from include.soar.incident.choices import ALL, NONE, answered, options
from include.soar.model import Approval, ApprovalAnswer, Decision, IncidentBatch, digest
from include.soar.vendor.errors import one_line
from threat_response.runtime import settings
from threat_response.runtime.run import Run

#: The group of the tasks that act on what was approved. They are skipped where nobody is asked.
APPROVED = "approved"
COMMENT = "comment"


class PlanChanged(RuntimeError):
    """The answer is about another plan than the present one. The task's next try asks again."""


class ApproveBlocks(HITLOperator):
    """
    Ask a person about what is held, and give what was approved. What is not held does not wait for it.

    Takes a ``Decision`` with its plan. Where it holds nothing, or the run only plans its blocks, nobody is asked and
    the tasks that would act on the answer are skipped. Else the question (*Browse, Required Actions*, or the REST API)
    shows each value with its evidence, sources, incident, and what would change where; the person picks some, all or
    none, and may comment. The task waits without a slot, in the state ``awaiting_input``.

    Gives a ``Decision`` that acts on what was approved and on nothing else; what was rejected is refused in it. Without
    an answer in time each value gets what ``response.approval.unanswered`` says for its rung, and the task fails, so
    that the run turns red: an attack went on and nobody looked at it.

    Nothing is acted on unless a person approved it in this very plan. While the task waits its XCom is a decision that
    acts on nothing, so that a task that is marked or fails in between leaves the controls without indicators.

    :param decision: (templated)
    :param incidents: ``IncidentBatch``, to which the question links; None: none was opened (templated)
    """

    # Not the subject and the body: they hold foreign text, which must never be rendered as a template.
    template_fields: Sequence[str] = ("decision", "incidents")

    def __init__(
        self, *, decision: Any, incidents: Any = None, execution_timeout: timedelta | None = None, **kwargs: Any
    ) -> None:
        # An incident that could not be opened must not keep the others' blocks from being asked about.
        kwargs.setdefault("trigger_rule", TriggerRule.ALL_DONE)
        kwargs.pop("params", None)  # the DAG's, which are no fields of the question
        super().__init__(
            subject="Block?",
            options=[ALL, NONE],
            defaults=NONE,
            multiple=True,
            params={COMMENT: Param(None, type=["null", "string"], title="Comment", maxLength=1000)},
            # Set afterwards: Airflow's operator would take it for the time that a person has to answer.
            execution_timeout=None,
            **kwargs,
        )
        self.execution_timeout = execution_timeout
        self.decision = decision
        self.incidents = incidents

    def execute(self, context: Context) -> dict[str, Any]:
        from include.soar.incident.texts import Asking, question

        if self.decision is None:
            # The run is red already, by the stage that gave nothing.
            settings.skip("nobody is asked: there is no plan")
        decision = Decision.model_validate(self.decision)
        for remark in decision.remarks:
            self.log.warning("%s", one_line(remark))
        if not decision.held:
            self._skip_the_rest("Nothing is held: nobody is asked")
        reasons = "; ".join(map(one_line, decision.hold_reasons))
        self.log.warning("HELD: %d values wait for a person: %s", len(decision.held), reasons)
        if not Run.of(context).may_write(blocks=True):
            self._skip_the_rest("This run only plans its blocks: nobody is asked, and they stay held")
        context["ti"].xcom_push(key="return_value", value=decision.model_copy(update={"indicators": ()}).to_json())
        rules = settings.policy().response.approval
        self.response_timeout = timedelta(hours=rules.wait_hours)
        self.options = list(options(decision))
        refs = IncidentBatch.model_validate(self.incidents).incidents if self.incidents is not None else ()
        asking = Asking(self.response_timeout, refs, rules.acts_unanswered)
        self.subject, self.body = question(decision, asking, templates=settings.incident_templates())
        try:
            super().execute(context)
        except TaskAwaitingInput as waiting:
            waiting.kwargs = {"asked": _digest_of(decision)}
            raise
        raise RuntimeError("Airflow did not wait for the answer")

    def execute_complete(self, context: Context, event: dict[str, Any], asked: str = "") -> dict[str, Any]:
        decision = Decision.model_validate(self.decision)
        if _digest_of(decision) != asked:
            raise PlanChanged("the plan has changed since the question was asked: asking again")
        self.options = list(options(decision))
        approval = _approval(decision, super().execute_complete(context, event))
        settled = self._settled(decision, approval)
        self._remember(decision, settled, approval, run_id=Run.of(context).name)
        batch = settled.to_json()
        if approval.answer is ApprovalAnswer.NOBODY:
            # Published although the task fails: the incidents must say so. Not tried again, which would ask again.
            context["ti"].xcom_push(key="return_value", value=batch)
            raise AirflowFailException(f"nobody answered in time about {len(decision.held)} held values")
        return batch

    def _settled(self, decision: Decision, approval: Approval) -> Decision:
        """The decision that acts on what was approved and nothing else: the rest has been acted on already."""
        from include.soar.incident.texts import answer_words
        from include.soar.judge.caps import settle

        acts_unanswered = settings.policy().response.approval.acts_unanswered
        whole = settle(decision, approval, now=settings.now(), acts_unanswered=acts_unanswered)
        taken = tuple(i for i in whole.indicators if i not in decision.indicators)
        if approval.answer is ApprovalAnswer.NOBODY and taken:
            approval = approval.model_copy(update={"chosen": tuple(sorted(i.observable.key for i in taken))})
        settled = whole.model_copy(update={"indicators": taken, "approval": approval})
        self.log.info(
            "%d held values: %s%s; %d go to the controls",
            len(decision.held),
            one_line(answer_words(settled)),
            f" ({one_line(approval.comment, 200)})" if approval.comment else "",
            len(settled.indicators),
        )
        return settled

    @staticmethod
    def _remember(decision: Decision, settled: Decision, approval: Approval, *, run_id: str) -> None:
        """In the ledger: who answered what about which value, and when."""
        from include.soar.incident.texts import answer_words

        taken = {i.observable.key for i in settled.indicators}
        comment = f": {approval.comment}" if approval.comment else ""
        about = {"run_id": run_id, "by": approval.by, "reason": f"{answer_words(settled)}{comment}"}
        for approved in (True, False):
            some = [i.observable for i in decision.held if (i.observable.key in taken) is approved]
            if some:
                settings.ledger().actions.answered(some, approved=approved, now=settings.now(), **about)

    def _skip_the_rest(self, why: str) -> NoReturn:
        """End here, and skip what would act on an answer."""
        self.log.info("%s", why)
        after = self.get_flat_relative_ids(upstream=False) if self.has_dag() else set()
        raise DownstreamTasksSkipped(tasks=sorted(id for id in after if id.startswith(f"{APPROVED}.")))


def _digest_of(decision: Decision) -> str:
    """Identifies what a question is about: the plan, and what is held, by what evidence, until when."""
    return digest([decision.plan.digest if decision.plan else "", [i.to_json() for i in decision.held]])


def _approval(decision: Decision, answer: Any) -> Approval:
    """:param answer: as Airflow's operator gives it"""
    user = answer["responded_by_user"]
    given, chosen = answered(decision, answer["chosen_options"]) if user else (ApprovalAnswer.NOBODY, None)
    return Approval(
        answer=given,
        by=one_line(str(user["name"] or user["id"]), 100) if user else "",
        at=answer["responded_at"],
        chosen=chosen,
        comment=one_line(str((answer["params_input"] or {}).get(COMMENT) or ""), 1000) if user else "",
    )
