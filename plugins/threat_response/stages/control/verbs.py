"""The contract of a control: what a vendor fills in, and what it is given for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar

from include.soar.model import Action, Indicator, Observable, ObservableType, Outcome, Reached, Verb
from threat_response.runtime import settings
from threat_response.stages.base import StageOperator
from threat_response.stages.control.survey import Incidents, Ours, Result, Survey

#: The rung of the ladder of proof that an outcome stands for, where the vendor does not say more.
REACHED = {
    Outcome.BLOCKED: Reached.ACTIVE,
    Outcome.DETECT_ONLY: Reached.ACTIVE,
    Outcome.WATCHED: Reached.ACTIVE,
    Outcome.PENDING: Reached.LISTED,
    Outcome.LIFTED: Reached.GONE,
    Outcome.GONE: Reached.GONE,
}


class Verbs(StageOperator):
    """
    The verbs of a control. Each but ``survey`` and ``preview`` is idempotent: look, write what is missing, read back.
    """

    verb: ClassVar[Verb]
    types: ClassVar[frozenset[ObservableType]]
    #: False for a watchlist: being watched harms nobody, so a protected value may be watched.
    gated: ClassVar[bool] = True
    #: Under which name the ledger notes what is done: ``dag/run``. Whoever calls a verb outside of the stage sets it.
    run_id: str = ""
    #: Readable ids of the incidents that tell of it, by observable key.
    told: Incidents = MappingProxyType({})

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        #: Called before each write: raises where another one may be changing what is in force by now (``alone_at``).
        self.hold: Callable[[], None] = _nobody_else

    def wants(self, indicator: Indicator) -> bool:
        """Whether this control acts on such an indicator at all. By type; a vendor may narrow it (by role)."""
        return indicator.observable.type in self.types

    def ensure(self, hook: Any, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours) -> Result:
        """
        Look, write what is missing, read back. The outcome of each action is what was read back.

        Right before it writes it calls :meth:`intend`. An item of ours that a person has removed or changed since is
        left so: see ``decided_by_a_person`` and :meth:`by_a_person`. Where there is no room, items of ours past their
        end make it, and are in ``swept``.

        :param hook: writes are allowed
        :param ours: what we did here before
        """
        raise NotImplementedError

    def preview(self, hook: Any, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours) -> Result:
        """
        As ``ensure``, without writing; the hook refuses writes. By default: each would be acted on.

        :return: ``planned`` for what may be done, ``changed`` where ``ensure`` would write, with the end that is there
            afterwards; else the outcome that it would come to (``not_ours``, ``failed``…)
        """
        would = f"would be sent to {self.vendor}"
        return Result([self.action(i, Outcome.PLANNED, would, changed=True) for i in indicators])

    def survey(self, hook: Any, ours: Ours, now: datetime, also: Iterable[Observable] = ()) -> Survey:
        """
        What is held. Reads only.

        :param ours: what the ledger knows of ours here: by it is told what a person changed
        :param also: other values whose item is wanted, whoever made it
        """
        raise NotImplementedError

    def lift(self, hook: Any, actions: Sequence[Action]) -> Result:
        """
        Undo: look, remove what is ours, read back. Idempotent, and ``ensure`` works again afterwards.

        An item that is not ours, or that a person has changed since, stays and is reported as ``not_ours``. One that is
        not there is ``gone``, one that this call removed ``lifted``, and one that is removed but still enforced
        ``pending``, with the proof that a :class:`Confirm` looks for.

        :param hook: writes are allowed; one that refuses them raises ``WriteInPlanMode``
        Right before it removes something it calls :meth:`intend`.

        :param actions: what the ledger knows, with the proof of each
        """
        raise NotImplementedError

    def sweep(self, hook: Any, ours: Ours, now: datetime) -> Result:
        """
        Remove what of ours is past its end and still there, and see what the ledger says has ended gone. What is not
        ours, or what a person has changed, stays.
        """
        survey = self.survey(hook, ours, now)
        wanted = {one.observable.key: (one.observable, one.expires_at, one.proof) for one in survey.ended()}
        for key, known in ours.items():
            ended = known.expires_at is not None and known.expires_at <= now
            if ended and key not in survey.held and (observable := Observable.of_key(key)):
                wanted[key] = observable, known.expires_at, known.proof
        actions = [
            Action(
                control=self.vendor,
                verb=Verb.LIFT,
                observable=observable,
                outcome=Outcome.EXPIRED,
                expires_at=ends,
                proof=dict(ours[key].proof if key in ours else proof),
            )
            for key, (observable, ends, proof) in sorted(wanted.items())
        ]
        return self.lift(hook, actions) if actions else Result()

    # --- actions ------------------------------------------------------------------------------------------

    def action(self, indicator: Indicator, outcome: Outcome, detail: str, **more: Any) -> Action:
        ends = more.pop("expires_at", indicator.expires_at)
        reached = more.pop("reached", REACHED.get(outcome))
        return Action(
            control=self.vendor,
            verb=self.verb,
            observable=indicator.observable,
            outcome=outcome,
            detail=detail,
            # What was not done has no end.
            expires_at=None if outcome is Outcome.FAILED else ends,
            rung=indicator.rung,
            reached=reached,
            **more,
        )

    @staticmethod
    def lifted(action: Action, outcome: Outcome, detail: str, **more: Any) -> Action:
        """What became of an action that was to be lifted."""
        fields = {"verb": Verb.LIFT, "outcome": outcome, "detail": detail, "changed": False}
        fields["reached"] = REACHED.get(outcome)
        return action.model_copy(update=fields | more)

    def by_a_person(self, indicator: Indicator, why: str) -> Action:
        """Ours that a person removed or changed, and that is left so."""
        return self.action(indicator, Outcome.NOT_OURS, why, expires_at=None)

    def intend(self, items: Iterable[Indicator | Action]) -> None:
        """Note in the ledger, before the vendor is asked, what it is going to be asked: to act on, or to lift."""
        about = [
            self.action(item, Outcome.PLANNED, "about to be written", reached=Reached.INTENDED)
            if isinstance(item, Indicator)
            else self.lifted(item, Outcome.PLANNED, "about to be removed", reached=Reached.INTENDED)
            for item in items
        ]
        if about:
            self.hold()
            settings.ledger().actions.intend(
                self.vendor, about, run_id=self.run_id, now=settings.now(), incidents=self.told
            )


def _nobody_else() -> None:
    """Of a control that is called by itself."""
