"""The sensor that waits until a control's environment has taken over what was written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseSensorOperator, Context, PokeReturnValue, TriggerRule

from include.soar.model import Action, ActionBatch, Outcome, Verb
from include.soar.vendor.errors import one_line
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.stages.base import StageOperator
from threat_response.stages.control.operator import as_error, skip_if_off


class Confirm(StageOperator, BaseSensorOperator):
    """
    Wait until a control's environment says that pending actions are in force. Frees its slot between two looks.

    Takes and gives an ``ActionBatch``. What is not in force when the patience ends has ``failed``, "not in force", with
    what the environment said last; what the environment says has failed is not waited for. Either way the task fails,
    after its batch was published for the incident, and no retry of the sensor can mend it. The item is still written
    there, and the ledger goes on to know it: it may come into force later, and is lifted at its end.

    :param actions: the control's batch (templated); where the connection is absent the task is skipped
    :param patience: how long to wait
    """

    template_fields: Sequence[str] = ("actions", "conn_id")

    def __init__(
        self,
        *,
        actions: Any = None,
        patience: timedelta = timedelta(minutes=30),
        poke_interval: float = 30,
        **kwargs: Any,
    ) -> None:
        # It goes on with what a control that failed could still publish.
        kwargs.setdefault("trigger_rule", TriggerRule.ALL_DONE)
        # The sensor's own time-out would fail the task; ours ends it with what is true.
        super().__init__(mode="reschedule", poke_interval=poke_interval, timeout=patience.total_seconds() * 2, **kwargs)
        self.actions = actions
        self.patience = patience

    def confirm(self, hook: Any, actions: Sequence[Action]) -> list[Action]:
        """
        The same actions, with the outcome that the environment confirms now. Writes nothing.

        :return: ``pending`` only what may still come true; ``failed`` what will not, unless the control acts again
        """
        raise NotImplementedError

    def poke(self, context: Context) -> PokeReturnValue:
        settings.skip_if_absent(self.conn_id, f"control {self.vendor}")
        skip_if_off(self.vendor)
        if self.actions is None:
            settings.skip(f"{self.vendor}: nothing to wait for, since the control gave no action")
        batch = ActionBatch.model_validate(self.actions)
        pending = [a for a in batch.actions if a.outcome is Outcome.PENDING]
        if not pending:
            return PokeReturnValue(True, batch.to_json())
        confirmed = {a.observable: a for a in self.confirm(self.hook(writes_allowed=False), pending)}
        batch = batch.model_copy(update={"actions": tuple(confirmed.get(a.observable, a) for a in batch.actions)})
        waiting = sum(a.outcome is Outcome.PENDING for a in batch.actions)
        started_at = context["ti"].get_first_reschedule_date(context) or settings.now()
        if waiting and settings.now() - started_at < self.patience:
            self.log.info("%s: %d of %d not in force yet", self.vendor, waiting, len(pending))
            return PokeReturnValue(False)
        if waiting:
            confirmed = {key: self._not_in_force(action) for key, action in confirmed.items()}
            confirmed |= {a.observable: self._not_in_force(a) for a in pending if a.observable not in confirmed}
            batch = batch.model_copy(update={"actions": tuple(confirmed.get(a.observable, a) for a in batch.actions)})
        self._tell(confirmed.values())
        settings.ledger().actions.record(batch, run_id=Run.of(context).name, now=settings.now())
        failed = [as_error(a) for a in confirmed.values() if a.outcome is Outcome.FAILED]
        return PokeReturnValue(True, self.finish(context, batch.to_json(), failed))

    def _not_in_force(self, action: Action) -> Action:
        """What is still pending when the patience ends, as failed; any other as it is."""
        if action.outcome is not Outcome.PENDING:
            return action
        what = "still in force" if action.verb is Verb.LIFT else "not in force"
        minutes = self.patience.total_seconds() / 60
        ends = action.expires_at if action.verb is Verb.LIFT else None
        why = f"{what} after {minutes:.0f} minutes: {action.detail or 'the control does not say why'}"
        return action.model_copy(update={"outcome": Outcome.FAILED, "detail": why, "expires_at": ends})

    def _tell(self, actions: Iterable[Action]) -> None:
        for action in actions:
            key, detail = one_line(action.observable.key), one_line(action.detail)
            self.log.info("%s %s: %s; %s", self.vendor, key, action.outcome.value, detail)
