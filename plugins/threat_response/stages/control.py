"""Stages 6, 7 and 8: an enforcement point acts on the decision's indicators, and a sensor waits until it does."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseSensorOperator, Context, PokeReturnValue, TriggerRule
from airflow.sdk.exceptions import AirflowException

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
from include.soar.vendor.errors import Rejected, Unexpected, VendorError, WriteInPlanMode, one_line
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.stages.base import StageOperator

if TYPE_CHECKING:
    from include.soar.ledger.actions import KnownAction

#: Readable incident ids by observable key, for descriptions.
Incidents = Mapping[str, Sequence[str]]
#: What the ledger knows of ours at a control, by observable key.
Ours = Mapping[str, "KnownAction"]


@dataclass
class Result:
    """What a control achieved: an action for each item that it got to, and what stopped it, if anything."""

    actions: list[Action] = field(default_factory=list)
    error: VendorError | None = None


class Control(StageOperator):
    """
    Have one enforcement point act on the decision's indicators. Takes a ``Decision`` and an ``IncidentBatch``, gives an
    ``ActionBatch``.

    Every indicator passes the never-block gate again, here, at the last moment. In plan mode nothing is written and
    each action says what would be done. An item that fails is reported as failed, the others go on, and the task then
    fails, after its batch was published for the incident's update.

    No action without an incident that tells of it: an indicator whose every incident could not be opened is left alone
    and reported as failed; the others go on.

    :param decision: (templated)
    :param incidents: where the findings' incidents are (templated); None: none was opened, the task is skipped
    """

    verb: ClassVar[Verb]
    types: ClassVar[frozenset[ObservableType]]
    #: False for a watchlist: being watched harms nobody, so a protected value may be watched.
    gated: ClassVar[bool] = True

    template_fields: Sequence[str] = ("decision", "incidents", "conn_id")

    def __init__(self, *, decision: Any = None, incidents: Any = None, **kwargs: Any) -> None:
        # One incident that cannot be opened turns its task red, but it has published the others, and one bad item must
        # not keep every block of the night from being made.
        kwargs.setdefault("trigger_rule", TriggerRule.ALL_DONE)
        super().__init__(**kwargs)
        self.decision = decision
        self.incidents = incidents

    # --- what a vendor fills in ---------------------------------------------------------------------------

    def wants(self, indicator: Indicator) -> bool:
        """Whether this control acts on such an indicator at all. By type; a vendor may narrow it (by role)."""
        return indicator.observable.type in self.types

    def ensure(self, hook: Any, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours) -> Result:
        """
        Look, write what is missing, read back. The outcome of each action is what was read back.

        :param hook: writes are allowed
        :param ours: what we did here before, for a vendor that keeps neither an end nor an owner with an item
        """
        raise NotImplementedError

    def preview(self, hook: Any, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours) -> Result:
        """As ``ensure``, without writing; the hook refuses writes. By default: each would be acted on."""
        return Result([self.action(i, Outcome.PLANNED, f"would be sent to {self.vendor}") for i in indicators])

    def lift(self, hook: Any, actions: Sequence[Action]) -> Result:
        """
        Undo: look, remove what is ours, read back. Idempotent, and ``ensure`` works again afterwards.

        An item that is not ours, or that a person has changed since, stays and is reported as ``not_ours``. One that is
        not there is ``gone``, one that this call removed ``lifted``, and one that is removed but still enforced
        ``pending``, with the proof that a :class:`Confirm` looks for.

        :param hook: writes are allowed; one that refuses them raises ``WriteInPlanMode``
        :param actions: what the ledger knows, with the proof of each
        """
        raise NotImplementedError

    # --- actions ------------------------------------------------------------------------------------------

    def action(self, indicator: Indicator, outcome: Outcome, detail: str, **more: Any) -> Action:
        ends = more.pop("expires_at", indicator.expires_at)
        return Action(
            control=self.vendor,
            verb=self.verb,
            observable=indicator.observable,
            outcome=outcome,
            detail=detail,
            # What was not done has no end.
            expires_at=None if outcome is Outcome.FAILED else ends,
            **more,
        )

    @staticmethod
    def lifted(action: Action, outcome: Outcome, detail: str, **more: Any) -> Action:
        """What became of an action that was to be lifted."""
        fields = {"verb": Verb.LIFT, "outcome": outcome, "detail": detail, "changed": False}
        return action.model_copy(update=fields | more)

    # --- the stage ----------------------------------------------------------------------------------------

    def execute(self, context: Context) -> dict[str, Any]:
        settings.skip_if_absent(self.conn_id, f"control {self.vendor}")
        if self.decision is None or self.incidents is None:
            # The run is red already, by the stage that gave nothing.
            settings.skip(f"{self.vendor} does nothing: there is no decision, or no incident to tell of it")
        decision = Decision.model_validate(self.decision)
        incidents = IncidentBatch.model_validate(self.incidents)
        run = Run.of(context)
        writes = run.may_write(blocks=True)
        wanted, refused = self._sort(decision, incidents)
        done = self._act(wanted, _incidents_by_observable(decision, incidents), writes=writes)
        actions = sorted([*refused, *done.actions], key=lambda action: action.observable.key)
        batch = ActionBatch(control=self.vendor, actions=tuple(actions))
        self._tell(batch)
        if writes:
            settings.ledger().actions.record(batch, run_id=run.name, now=settings.now())
        # What stopped the control explains the items that it did not get to.
        errors = [done.error] if done.error else [_as_error(a) for a in actions if a.outcome is Outcome.FAILED]
        return self.finish(context, batch.to_json(), errors)

    def _sort(self, decision: Decision, incidents: IncidentBatch) -> tuple[list[Indicator], list[Action]]:
        """The indicators to act on, and an action for each other one that says why not."""
        now = settings.now()
        gate = settings.gate(now)
        told = {ref.finding_uid for ref in incidents.incidents if ref.outcome is not IncidentOutcome.FAILED}
        wanted: list[Indicator] = []
        refused: list[Action] = []
        for indicator in decision.indicators:
            if not self.wants(indicator):
                roles = ", ".join(role.value for role in indicator.roles)
                why = f"{self.vendor} does not act on {indicator.observable.type.value} seen as {roles}"
                refused.append(self.action(indicator, Outcome.UNSUPPORTED, why, expires_at=None))
            elif self.gated and (hit := gate.check(indicator.observable)):
                refused.append(self.action(indicator, Outcome.PROTECTED, hit.reason, expires_at=None))
            elif indicator.expires_at <= now:
                refused.append(self.action(indicator, Outcome.EXPIRED, "expired"))
            elif not told.intersection(indicator.finding_uids):
                why = "its incident could not be opened, and nothing is done that no incident tells of"
                refused.append(self.action(indicator, Outcome.FAILED, why, expires_at=None))
            else:
                wanted.append(indicator)
        return wanted, refused

    def _act(self, wanted: Sequence[Indicator], incidents: Incidents, *, writes: bool) -> Result:
        """An action for each indicator: those that the vendor did not get to have failed."""
        if not wanted:
            return Result()
        ours = settings.ledger().actions.in_force(self.vendor)
        attempt = self.ensure if writes else self.preview
        try:
            done = attempt(self.hook(writes_allowed=writes), wanted, incidents, ours)
        except VendorError as error:
            done = Result(error=error)
        except (WriteInPlanMode, AirflowException):
            raise
        except Exception as bug:
            # One value that nobody thought of must not keep the incident from telling of all the others.
            done = Result(error=Unexpected(self.vendor, "ensure", _bug(bug)))
        reached = {action.observable for action in done.actions}
        left = [indicator for indicator in wanted if indicator.observable not in reached]
        if left and done.error is None:
            done.error = Unexpected(self.vendor, "ensure", f"{len(left)} indicators were passed over")
        done.actions += [self.action(indicator, Outcome.FAILED, str(done.error)) for indicator in left]
        return done

    def _tell(self, batch: ActionBatch) -> None:
        """One line for each item: what, outcome, why, proof."""
        for action in batch.actions:
            self.log.info(
                "%s %s %s: %s%s; %s%s%s",
                self.vendor,
                action.verb.value,
                one_line(action.observable.key),
                action.outcome.value,
                " (changed now)" if action.changed else "",
                one_line(action.detail),
                f"; until {action.expires_at:%Y-%m-%dT%H:%MZ}" if action.expires_at else "",
                "".join(f"; {k}={one_line(v, 100)}" for k, v in action.proof.items()),
            )


def _bug(bug: Exception) -> str:
    """Its kind and place; never its text, which may hold anything."""
    place = traceback.extract_tb(bug.__traceback__)[-1]
    return f"{type(bug).__name__} at {Path(place.filename).name}:{place.lineno}; what was written is not known"


def _as_error(action: Action) -> VendorError:
    return Rejected(action.control, action.verb.value, f"{one_line(action.observable.key)}: {action.detail}")


def _incidents_by_observable(decision: Decision, incidents: IncidentBatch) -> dict[str, list[str]]:
    names = {r.finding_uid: r.readable_id or r.unique_id for r in incidents.incidents}
    return {
        i.observable.key: sorted({name for uid in i.finding_uids if (name := names.get(uid))})
        for i in decision.indicators
    }


class Confirm(StageOperator, BaseSensorOperator):
    """
    Wait until a control's environment says that pending actions are in force. Frees its slot between two looks.

    Takes and gives an ``ActionBatch``. When the patience ends the actions stay ``pending`` and the task succeeds: the
    incident says so, and nothing claims a block that is not there yet. What the environment says has failed is not
    waited for: the task fails at once, after its batch was published, and no retry of the sensor can mend it.

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
        self._tell(confirmed.values(), waiting)
        settings.ledger().actions.record(batch, run_id=Run.of(context).name, now=settings.now())
        failed = [_as_error(a) for a in confirmed.values() if a.outcome is Outcome.FAILED]
        return PokeReturnValue(True, self.finish(context, batch.to_json(), failed))

    def _tell(self, actions: Iterable[Action], waiting: int) -> None:
        for action in actions:
            key, detail = one_line(action.observable.key), one_line(action.detail)
            self.log.info("%s %s: %s; %s", self.vendor, key, action.outcome.value, detail)
        if waiting:
            message = "%s: %d still pending after %s; the incident says so"
            self.log.warning(message, self.vendor, waiting, self.patience)
