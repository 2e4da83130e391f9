"""Ours is lifted because a person wants it: at every control where the ledger or the control itself has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context

from include.soar.model import Action, ActionBatch, Observable, Outcome
from include.soar.vendor.errors import Rejected, VendorError, one_line
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.stages.base import StageOperator
from threat_response.stages.in_force.at_control import AtControl, Lifting, is_off
from threat_response.stages.in_force.reconcile import done_by

if TYPE_CHECKING:
    from threat_response.stages.control import Control


def lift_at(at: AtControl, observables: Sequence[Observable], *, by: str, reason: str) -> Lifting:
    """
    Remove ours at one control, read back, write it down. Idempotent. What is not ours stays.

    :return: one action for each value of which something of ours is there, or was until now; and what stopped the
        removing, if anything
    :raises VendorError: the control cannot be read, or another one is changing it at this moment
    """
    with at.alone():
        survey = at.survey(observables)
        doomed = []
        for observable in observables:
            held = survey.held.get(observable.key)
            if observable.key in at.entries or (held is not None and held.is_ours):
                doomed.append(at.known(observable, held))
        return at.lift(doomed, by=by, reason=reason)


class Lift(StageOperator):
    """
    Lift at one control what a person asked to lift. Gives an ``ActionBatch``.

    It also works at a control that the policy switches off: that ends writing by runs, and this is a person.

    :param control: makes the control's operator
    :param asked: who wants what lifted, and why (``asked.py``); templated
    """

    template_fields: Sequence[str] = ("asked",)

    def __init__(self, *, control: Callable[[], Control], asked: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.control = control
        self.asked = asked

    def execute(self, context: Context) -> dict[str, Any]:
        settings.skip_if_absent(self.conn_id, f"control {self.vendor}")
        observables = [Observable.model_validate(one) for one in self.asked["observables"]]
        if not observables:
            settings.skip(f"{self.vendor}: nothing is to be lifted")
        if is_off(self.vendor):
            self.log.info("%s is switched off in the policy; what is there of ours is lifted all the same", self.vendor)
        run, ledger = Run.of(context), settings.ledger()
        try:
            at = AtControl(self.control(), ledger, run.name, run.claimant)
            before = [action for action in done_by(at, run.started_at) if action.observable in observables]
            actions, error = lift_at(at, observables, by=self.asked["by"], reason=self.asked["reason"])
        finally:
            ledger.close()
        there = {action.observable for action in actions}
        actions += [action for action in before if action.observable not in there]
        for action in actions:
            told = self.log.info if action.outcome in _DONE else self.log.warning
            told("%s %s: %s; %s", self.vendor, one_line(action.observable.key), action.outcome.value, action.detail)
        for observable in observables:
            if observable not in {action.observable for action in actions}:
                self.log.info("%s %s: nothing of ours is there", self.vendor, one_line(observable.key))
        batch = ActionBatch(control=self.vendor, actions=tuple(actions))
        errors = [error] if error else [stays(a) for a in actions if a.outcome is Outcome.FAILED]
        return self.finish(context, batch.to_json(), errors)


_DONE = (Outcome.LIFTED, Outcome.GONE, Outcome.PENDING)


def stays(action: Action) -> VendorError:
    return Rejected(action.control, action.verb.value, f"{one_line(action.observable.key)}: {action.detail}")
