"""Stages 6, 7 and 8: an enforcement point acts on the decision's indicators."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context, TriggerRule
from airflow.sdk.exceptions import AirflowException

from include.soar.model import (
    Action,
    ActionBatch,
    ControlPlan,
    Decision,
    IncidentBatch,
    IncidentOutcome,
    Indicator,
    Outcome,
    Plan,
)
from include.soar.vendor.errors import Rejected, Unexpected, VendorError, WriteInPlanMode, one_line
from threat_response.runtime import settings
from threat_response.runtime.alone import alone_at
from threat_response.runtime.run import Run
from threat_response.stages.control.survey import LIFTED_BY_A_PERSON, Ours, Result, Survey
from threat_response.stages.control.verbs import Verbs

if TYPE_CHECKING:
    from include.soar.judge.plan import Drift


class Control(Verbs):
    """
    Have one enforcement point act on the decision's indicators. Takes a ``Decision`` and an ``IncidentBatch``, gives an
    ``ActionBatch``.

    Every indicator passes the never-block gate again, here, at the last moment. In plan mode nothing is written and
    each action says what would be done. An item that fails is reported as failed, the others go on, and the task then
    fails, after its batch was published for the incident's update.

    No action without an incident that tells of it: an indicator whose every incident could not be opened is left alone
    and reported as failed; the others go on. Nobody else changes the control between its look and its write: a task
    that finds somebody doing so is tried again (``alone_at``). Where the decision has a plan, what the plan does not do
    here is not done, and the control is read again right before it is written to: what has drifted since in a way that
    matters is not written (``drift: …``), and the task fails.

    What a person removed or changed of ours is not written again until it was seen anew (``not_ours``), and the
    ledger remembers it as a person's decision. A control that the policy switches off is skipped; what it holds of ours
    stays.

    :param decision: (templated)
    :param incidents: where the findings' incidents are (templated); None: none was opened, the task is skipped
    :param place: where it acts, a key of the registry's ``SERVES``: the policy says which rungs that is
    """

    template_fields: Sequence[str] = ("decision", "incidents", "conn_id")

    def __init__(self, *, decision: Any = None, incidents: Any = None, place: str = "", **kwargs: Any) -> None:
        # One incident that cannot be opened turns its task red, but it has published the others, and one bad item must
        # not keep every block of the night from being made.
        kwargs.setdefault("trigger_rule", TriggerRule.ALL_DONE)
        super().__init__(**kwargs)
        self.decision = decision
        self.incidents = incidents
        self.place = place

    def execute(self, context: Context) -> dict[str, Any]:
        settings.skip_if_absent(self.conn_id, f"control {self.vendor}")
        if self.decision is None or self.incidents is None:
            # The run is red already, by the stage that gave nothing.
            settings.skip(f"{self.vendor} does nothing: there is no decision, or no incident to tell of it")
        skip_if_off(self.vendor)
        decision = Decision.model_validate(self.decision)
        incidents = IncidentBatch.model_validate(self.incidents)
        run = Run.of(context)
        self.run_id = run.name
        writes = run.may_write(blocks=True)
        wanted, refused = self._sort(decision, incidents)
        self.told = _incidents_by_observable(decision, incidents)
        with self._alone(run) if writes and wanted else nullcontext():
            # What a person has lifted is looked up while nobody else changes anything.
            wanted, left = self._leave(wanted, decision)
            done = self._act(wanted, decision.plan, writes=writes)
            actions = sorted([*refused, *left, *done.actions], key=lambda action: action.observable.key)
            batch = ActionBatch(control=self.vendor, actions=tuple(actions))
            self._tell([*actions, *done.swept])
            if writes:
                self._remember(batch, done)
        # What stopped the control explains the items that it did not get to.
        errors = [done.error] if done.error else [as_error(a) for a in actions if a.outcome is Outcome.FAILED]
        return self.finish(context, batch.to_json(), errors)

    @contextmanager
    def _alone(self, run: Run) -> Iterator[None]:
        """:raises Unavailable: another one changes what is in force here; the next try finds it done"""
        with alone_at(settings.ledger(), self.vendor, by=run.claimant) as self.hold:
            yield

    def _sort(self, decision: Decision, incidents: IncidentBatch) -> tuple[list[Indicator], list[Action]]:
        """The indicators to act on, and an action for each other one that says why not."""
        now = settings.now()
        gate = settings.gate(now)
        told = {ref.finding_uid for ref in incidents.incidents if ref.outcome is not IncidentOutcome.FAILED}
        wanted: list[Indicator] = []
        refused: list[Action] = []
        for indicator in self._of_our_rungs(decision.indicators):
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

    def _of_our_rungs(self, indicators: Iterable[Indicator]) -> list[Indicator]:
        """With the steps that are taken at this place, and without those that have none here."""
        if not self.place:
            return list(indicators)
        rungs = settings.policy().response.rungs_of(self.place)
        # One of an older release has no steps: what was decided then is done everywhere.
        narrowed = (i.only(rungs) if i.steps else i for i in indicators)
        return [indicator for indicator in narrowed if indicator is not None]

    def _leave(self, wanted: Sequence[Indicator], decision: Decision) -> tuple[list[Indicator], list[Action]]:
        """Without what a person lifted, and was not seen since, and what the plan does not do here."""
        lifted = settings.ledger().actions.lifted([one.observable for one in wanted], self.vendor)
        planned = self._drift(decision.plan, wanted)
        kept: list[Indicator] = []
        left: list[Action] = []
        for indicator in wanted:
            last = lifted.get(indicator.observable.key)
            if last and indicator.last_seen_at <= last.at:
                who = f" by {last.by}" if last.by else ""
                why = f"{LIFTED_BY_A_PERSON}{who} at {last.at:%Y-%m-%dT%H:%MZ}, and not seen since: {last.reason}"
                left.append(self.by_a_person(indicator, why))
            else:
                kept.append(indicator)
        kept, unplanned = self._without(kept, planned)
        return kept, [*left, *unplanned]

    def _drift(
        self, plan: Plan | None, wanted: Sequence[Indicator], reading: Survey | None = None, ours: Ours | None = None
    ) -> Drift:
        """
        What the plan does not do here, or, by a reading, what it must not do any more.

        :param plan: None: a decision of an older release, or one by hand, has none
        """
        from include.soar.judge.plan import Drift, Standing, drift

        if plan is None:
            return Drift()
        now = settings.now()
        standing = Standing(
            control=self.vendor,
            now=now,
            reading=reading,
            ours=ours or {},
            gate=settings.gate(now) if self.gated else None,
            refuse_others_changes=settings.policy().response.refuse_others_changes,
        )
        return drift(plan.of(self.vendor) or ControlPlan(control=self.vendor, entries=()), wanted, standing)

    def _without(self, wanted: Sequence[Indicator], found: Drift) -> tuple[list[Indicator], list[Action]]:
        """What is to be written, and an action for each other one."""
        kept: list[Indicator] = []
        left: list[Action] = []
        for indicator in wanted:
            key = indicator.observable.key
            if key not in found.values:
                kept.append(indicator)
                continue
            outcome = Outcome.NOT_OURS if key in found.persons else Outcome.FAILED
            left.append(self.action(indicator, outcome, found.values[key], expires_at=None))
        return kept, left

    def _remember(self, batch: ActionBatch, done: Result) -> None:
        now, ledger = settings.now(), settings.ledger().actions
        ledger.record(batch, run_id=self.run_id, now=now, incidents=self.told)
        if done.swept:
            swept = ActionBatch(control=self.vendor, actions=tuple(done.swept))
            ledger.record(swept, run_id=self.run_id, now=now, reason="past its end")
        for action in done.actions:
            if action.outcome is Outcome.NOT_OURS:
                ledger.removed_by_person(
                    self.vendor, action.observable.key, at=now, detail=action.detail, run_id=self.run_id
                )

    def _act(self, wanted: Sequence[Indicator], plan: Plan | None, *, writes: bool) -> Result:
        """An action for each indicator: those that the vendor did not get to have failed."""
        if not wanted:
            return Result()
        ours = settings.ledger().actions.in_force(self.vendor)
        attempt = self.ensure if writes else self.preview
        kept, drifted = list(wanted), list[Action]()
        try:
            hook = self.hook(writes_allowed=writes)
            if plan is not None and writes:
                reading = self.survey(hook, ours, settings.now(), [one.observable for one in wanted])
                found = self._drift(plan, wanted, reading, ours)
                if found.whole:
                    raise Rejected(self.vendor, "plan", f"{found.whole}; run plan_blocks again")
                kept, drifted = self._without(wanted, found)
            done = attempt(hook, kept, self.told, ours) if kept else Result()
        except VendorError as error:
            done = Result(error=error)
        except (WriteInPlanMode, AirflowException):
            raise
        except Exception as bug:
            # One value that nobody thought of must not keep the incident from telling of all the others.
            done = Result(error=Unexpected(self.vendor, "ensure", _bug(bug)))
        done.actions += drifted
        reached = {action.observable for action in done.actions}
        left = [indicator for indicator in wanted if indicator.observable not in reached]
        if left and done.error is None:
            done.error = Unexpected(self.vendor, "ensure", f"{len(left)} indicators were passed over")
        done.actions += [self.action(indicator, Outcome.FAILED, str(done.error)) for indicator in left]
        return done

    def _tell(self, actions: Iterable[Action]) -> None:
        """One line for each item: what, outcome, why, proof."""
        for action in actions:
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


def skip_if_off(vendor: str) -> None:
    """A control that the policy switches off does nothing, and what it holds of ours is not lifted either."""
    if settings.policy().response.is_off(vendor):
        ours = "what it holds of ours stays until its end, or is lifted by hand"
        settings.skip(f"{vendor} is switched off in the policy (response.switched_off): {ours}")


def _bug(bug: Exception) -> str:
    """Its kind and place; never its text, which may hold anything."""
    place = traceback.extract_tb(bug.__traceback__)[-1]
    return f"{type(bug).__name__} at {Path(place.filename).name}:{place.lineno}; what was written is not known"


def as_error(action: Action) -> VendorError:
    return Rejected(action.control, action.verb.value, f"{one_line(action.observable.key)}: {action.detail}")


def _incidents_by_observable(decision: Decision, incidents: IncidentBatch) -> dict[str, list[str]]:
    names = {r.finding_uid: r.readable_id or r.unique_id for r in incidents.incidents}
    return {
        i.observable.key: sorted({name for uid in i.finding_uids if (name := names.get(uid))})
        for i in decision.indicators
    }
