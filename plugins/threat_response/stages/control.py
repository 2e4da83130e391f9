"""The stages' contracts: what a vendor's operator takes and gives, and everything that is the same for all of them.

A vendor fills in the small methods; archiving, the ledger, the gate, plan mode, logging and "one item's failure
costs that item only" live here, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

from airflow.sdk import BaseOperator, BaseSensorOperator, Context, PokeReturnValue
from airflow.sdk.exceptions import AirflowSkipException

from include.soar.model import (
    Action,
    ActionBatch,
    Decision,
    IncidentBatch,
    IncidentOutcome,
    Indicator,
    ObservableType,
    Outcome,
    Verb,
)
from include.soar.vendor.errors import (
    Rejected,
    Unexpected,
    VendorError,
    one_line,
)
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.transport.hook import VendorHook

# --- stage 1 ------------------------------------------------------------------------------------------------


# --- stage 3 ------------------------------------------------------------------------------------------------


# --- stages 6, 7, 8 -----------------------------------------------------------------------------------------


@dataclass
class Result:
    """What a control's ``ensure`` achieved: an action per indicator it got to, and what stopped it, if anything."""

    actions: list[Action] = field(default_factory=list)
    error: VendorError | None = None


class ControlOperator(BaseOperator):
    """
    Ask one enforcement point to act on the decision's indicators. Contract of stages 6, 7 and 8.

    Takes a ``Decision`` and an ``IncidentBatch``, gives an ``ActionBatch``. Every indicator passes the
    never-block gate again, here, at the last moment. In plan mode nothing is written and each action says what
    would be done. An item that fails is reported as failed, the others go on, and the task then fails, after
    its batch was published for the incident's update.

    No action without an incident that tells of it: an indicator whose every incident could not be opened is left
    alone and reported as failed; the others go on.

    :param decision: (templated)
    :param incidents: where the findings' incidents are (templated); None: none was opened, the task is skipped
    :param conn_id: the control's connection. Absent: the task is skipped.
    """

    control: ClassVar[str]
    verb: ClassVar[Verb]
    types: ClassVar[frozenset[ObservableType]]
    hook_class: ClassVar[type[VendorHook]]
    #: False for a watchlist: being watched harms nobody, so a protected value may be watched.
    gated: ClassVar[bool] = True

    template_fields: Sequence[str] = ("decision", "incidents", "conn_id")

    def __init__(self, *, decision: Any, incidents: Any, conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.decision = decision
        self.incidents = incidents
        self.conn_id = conn_id or self.hook_class.default_conn_name

    def wants(self, indicator: Indicator) -> bool:
        """Whether this control acts on such an indicator at all. By type; a vendor may narrow it (by role)."""
        return indicator.observable.type in self.types

    def ensure(self, hook: Any, indicators: Sequence[Indicator], incidents: dict[str, list[str]]) -> Result:
        """
        Look, write what is missing, read back. The outcome of each action is what was read back.

        :param hook: writes are allowed
        :param incidents: readable incident ids by observable key, for descriptions
        """
        raise NotImplementedError

    def preview(self, hook: Any, indicators: Sequence[Indicator], incidents: dict[str, list[str]]) -> Result:
        """As ``ensure``, without writing; the hook refuses writes. By default: each would be acted on."""
        return Result([self.action(i, Outcome.PLANNED, f"would be sent to {self.control}") for i in indicators])

    def action(self, indicator: Indicator, outcome: Outcome, detail: str, **more: Any) -> Action:
        return Action(
            control=self.control,
            verb=self.verb,
            observable=indicator.observable,
            outcome=outcome,
            detail=detail,
            expires_at=more.pop("expires_at", indicator.expires_at),
            **more,
        )

    def execute(self, context: Context) -> dict[str, Any]:
        settings.skip_if_absent(self.conn_id, f"control {self.control}")
        if self.decision is None or self.incidents is None:
            # The run is red already, by the stage that gave nothing.
            raise AirflowSkipException(
                f"{self.control} does nothing: there is no decision, or no incident to tell of it"
            )
        decision = Decision.model_validate(self.decision)
        incidents = IncidentBatch.model_validate(self.incidents)
        writes = Run.of(context).may_write(blocks=True)
        gate = settings.gate()
        told = {ref.finding_uid for ref in incidents.incidents if ref.outcome is not IncidentOutcome.FAILED}
        wanted: list[Indicator] = []
        actions: list[Action] = []
        for indicator in decision.indicators:
            if not self.wants(indicator):
                roles = ", ".join(role.value for role in indicator.roles)
                why = f"{self.control} does not act on {indicator.observable.type.value} seen as {roles}"
                actions.append(self.action(indicator, Outcome.UNSUPPORTED, why, expires_at=None))
            elif self.gated and (hit := gate.check(indicator.observable)):
                actions.append(self.action(indicator, Outcome.PROTECTED, hit.reason, expires_at=None))
            elif indicator.expires_at <= settings.now():
                actions.append(self.action(indicator, Outcome.EXPIRED, "its time is over"))
            elif not told.intersection(indicator.finding_uids):
                why = "its incident could not be opened, and nothing is done that no incident tells of"
                actions.append(self.action(indicator, Outcome.FAILED, why, expires_at=None))
            else:
                wanted.append(indicator)
        done = Result()
        if wanted:
            hook = self.hook_class(self.conn_id, writes_allowed=writes)
            attempt = self.ensure if writes else self.preview
            try:
                done = attempt(hook, wanted, _incidents_by_observable(decision, incidents))
            except VendorError as error:
                done = Result(error=error)
        reached = {a.observable for a in done.actions}
        left = [i for i in wanted if i.observable not in reached]
        if left and done.error is None:
            done.error = Unexpected(self.control, "ensure", f"{len(left)} indicators were passed over")
        done.actions += [self.action(i, Outcome.FAILED, str(done.error)) for i in left]
        batch = ActionBatch(
            control=self.control,
            actions=tuple(sorted(actions + done.actions, key=lambda a: a.observable.key)),
        )
        self._tell(batch)
        if writes:
            settings.ledger().actions.record(batch, run_id=Run.of(context).name, now=settings.now())
        if done.error is None:
            done.error = next((_as_error(a) for a in batch.actions if a.outcome is Outcome.FAILED), None)
        if done.error is not None:
            # Published although the task fails: the incident must be able to tell what was and was not done.
            context["ti"].xcom_push(key="return_value", value=batch.to_json())
            raise done.error
        return batch.to_json()

    def _tell(self, batch: ActionBatch) -> None:
        """One line per item: what, outcome, why, proof."""
        for action in batch.actions:
            self.log.info(
                "%s %s %s: %s%s; %s%s%s",
                self.control,
                self.verb.value,
                one_line(action.observable.key),
                action.outcome.value,
                " (changed now)" if action.changed else "",
                one_line(action.detail),
                f"; until {action.expires_at:%Y-%m-%dT%H:%MZ}" if action.expires_at else "",
                "".join(f"; {k}={one_line(v, 100)}" for k, v in action.proof.items()),
            )


def _as_error(action: Action) -> VendorError:
    return Rejected(action.control, action.verb.value, f"{one_line(action.observable.key)}: {action.detail}")


def _incidents_by_observable(decision: Decision, incidents: IncidentBatch) -> dict[str, list[str]]:
    names = {r.finding_uid: r.readable_id or r.unique_id for r in incidents.incidents}
    return {
        i.observable.key: sorted({name for uid in i.finding_uids if (name := names.get(uid))})
        for i in decision.indicators
    }


class ConfirmSensor(BaseSensorOperator):
    """
    Wait until a control's environment says that pending actions are in force. Frees its slot between looks.

    Takes and gives an ``ActionBatch``. When the patience ends the actions stay ``pending`` and the task
    succeeds: the incident says so, and nothing claims a block that is not there yet.

    :param actions: the control's batch (templated)
    :param patience: how long to wait
    """

    control: ClassVar[str]
    hook_class: ClassVar[type[VendorHook]]

    template_fields: Sequence[str] = ("actions", "conn_id")

    def __init__(
        self,
        *,
        actions: Any,
        conn_id: str | None = None,
        patience: timedelta = timedelta(minutes=30),
        poke_interval: float = 30,
        **kwargs: Any,
    ) -> None:
        # The sensor's own time-out would fail the task; ours, below, ends it with what is true.
        super().__init__(mode="reschedule", poke_interval=poke_interval, timeout=patience.total_seconds() * 2, **kwargs)
        self.actions = actions
        self.conn_id = conn_id or self.hook_class.default_conn_name
        self.patience = patience

    def look(self, hook: Any, actions: Sequence[Action]) -> list[Action]:
        """The same actions, with the outcome that the environment confirms now. Writes nothing."""
        raise NotImplementedError

    def poke(self, context: Context) -> PokeReturnValue:
        settings.skip_if_absent(self.conn_id, f"control {self.control}")
        batch = ActionBatch.model_validate(self.actions)
        pending = [a for a in batch.actions if a.outcome is Outcome.PENDING]
        if not pending:
            return PokeReturnValue(True, batch.to_json())
        hook = self.hook_class(self.conn_id, writes_allowed=False)
        confirmed = {a.observable: a for a in self.look(hook, pending)}
        batch = batch.model_copy(update={"actions": tuple(confirmed.get(a.observable, a) for a in batch.actions)})
        waiting = sum(a.outcome is Outcome.PENDING for a in batch.actions)
        started_at = context["ti"].get_first_reschedule_date(context) or settings.now()
        if waiting and settings.now() - started_at < self.patience:
            self.log.info("%s: %d of %d not in force yet", self.control, waiting, len(pending))
            return PokeReturnValue(False)
        for action in batch.actions:
            if action.observable in confirmed:
                self.log.info(
                    "%s %s: %s; %s", self.control, one_line(action.observable.key), action.outcome.value, action.detail
                )
        if waiting:
            self.log.warning(
                "%s: %d still pending after %s; the incident says so", self.control, waiting, self.patience
            )
        settings.ledger().actions.record(batch, run_id=Run.of(context).name, now=settings.now())
        return PokeReturnValue(True, batch.to_json())
