"""Between the decision and the controls: what the run would change there, read from each control, shown as a diff."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context

from include.soar.model import ControlPlan, Decision, Indicator, Plan
from include.soar.vendor.errors import VendorError, WriteInPlanMode, one_line
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.stages.base import StageOperator

if TYPE_CHECKING:
    from include.soar.policy.response import ResponsePolicy
    from threat_response.stages.control import Control


class PlanBlocks(StageOperator):
    """
    Read every control that the decision concerns, and plan what to change there. Takes a ``Decision``, gives it with
    its ``plan``: to add, to prolong, to lift, unchanged, held, refused, each with its end. Writes nothing.

    A control without a connection, or one that the policy switches off, is not in the plan. One that cannot be read is,
    with its problem, and its entries are unknown: the run goes on, and that control's own task says why it fails.

    A run that only plans its blocks ends here: nobody is asked, and the controls write nothing.

    :param decision: (templated)
    :param controls: what makes the operator of each control, by vendor (``groups.controls``)
    """

    template_fields: Sequence[str] = ("decision",)

    def __init__(self, *, decision: Any, controls: Mapping[str, Callable[[], Control]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.decision = decision
        self.controls = dict(controls)

    def execute(self, context: Context) -> dict[str, Any]:
        if self.decision is None:
            # The run is red already, by the stage that gave nothing.
            settings.skip("nothing is planned: there is no decision")
        decision = Decision.model_validate(self.decision)
        response, now = settings.policy().response, settings.now()
        plans = []
        for vendor, make in self.controls.items():
            control = make()
            if not settings.connection_exists(control.conn_id):
                self.log.info("%s is not in the plan: there is no connection %r", vendor, control.conn_id)
            elif response.is_off(vendor):
                self.log.info("%s is not in the plan: response.switched_off names it", vendor)
            else:
                plans.append(self._planned(control, decision, response, now))
        plan = Plan(controls=tuple(plans))
        self._tell(decision, plan, writes=Run.of(context).may_write(blocks=True))
        return decision.model_copy(update={"plan": plan}).to_json()

    def _planned(self, control: Control, decision: Decision, response: ResponsePolicy, now: datetime) -> ControlPlan:
        from include.soar.judge.plan import Standing, Wanted, plan_for_control

        act, held = (_concerning(control, some, response) for some in (decision.indicators, decision.held))
        ours = settings.ledger().actions.in_force(control.vendor)
        reading, problem = None, ""
        if act or held:  # else there is nothing to compare, and no need to ask
            try:
                also = [one.observable for one in (*act, *held)]
                reading = control.survey(control.hook(writes_allowed=False), ours, now, also)
            except WriteInPlanMode:
                raise
            except VendorError as error:
                problem = str(error)
            except Exception as bug:
                # Whatever it is, the other controls can be planned, and this one's own task meets it again.
                place = traceback.extract_tb(bug.__traceback__)[-1]
                problem = f"{type(bug).__name__} at {Path(place.filename).name}:{place.lineno}"
        standing = Standing(
            control=control.vendor,
            now=now,
            reading=reading,
            ours=ours,
            gate=settings.gate(now) if control.gated else None,
            refuse_others_changes=response.refuse_others_changes,
            problem=one_line(problem),
        )
        return plan_for_control(Wanted(act, held), standing)

    def _tell(self, decision: Decision, plan: Plan, *, writes: bool) -> None:
        """A line for each control and for each of its entries."""
        from include.soar.incident.diff import line, summary

        for control in plan.controls:
            told = self.log.warning if control.problem else self.log.info
            told("%s", one_line(summary(control)))
            for entry in control.entries:
                self.log.info("%s %s", control.control, one_line(line(entry)))
        if not plan.controls:
            self.log.info("No control is connected: nothing is planned")
        if decision.refusals:
            layers = Counter(one_line(refusal.layer) for refusal in decision.refusals)
            reasons = ", ".join(f"{layer} {number}" for layer, number in layers.most_common())
            self.log.info("The decision refused %d observables: %s", len(decision.refusals), reasons)
        end = "" if writes else "; this run ends with its plan: nobody is asked, and nothing is written"
        self.log.info("Plan %s%s", plan.digest[:16], end)


def _concerning(control: Control, indicators: Sequence[Indicator], response: ResponsePolicy) -> list[Indicator]:
    """What the control acts on, with the steps that it acts on."""
    rungs = response.rungs_of(control.place)
    found = []
    for indicator in indicators:
        # A batch of an older release has no steps.
        mine = indicator.only(rungs) if indicator.steps else indicator
        if mine is not None and control.wants(mine):
            found.append(mine)
    return found
