"""One control, for the time of one task or command: what it holds, and the removal of ours, written down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from include.soar.in_force.converge import Believed, Memory, Seen
from include.soar.model import Action, ActionBatch, Indicator, Observable, Outcome, Reached, Role, Verb
from include.soar.vendor.errors import VendorError
from threat_response.runtime import settings
from threat_response.runtime.alone import alone_at

if TYPE_CHECKING:
    from include.soar.ledger import Ledger
    from include.soar.ledger.actions import InForce, KnownAction, Lifted
    from threat_response.stages.control import Control, Held, Survey

#: What became of each action, and what stopped the writing, if anything.
Lifting = tuple[list[Action], VendorError | None]


@dataclass
class AtControl:
    """
    :param control: the vendor's operator, as a tool: it is no task here
    :param run_id: under which the ledger remembers what is done (``Run.name``)
    :param claimant: this very try (``Run.claimant``)
    """

    control: Control
    ledger: Ledger
    run_id: str
    claimant: str

    def __post_init__(self) -> None:
        self.control.run_id = self.run_id
        self._hold: Callable[[], None] = _not_alone

    @property
    def vendor(self) -> str:
        return self.control.vendor

    @cached_property
    def ours(self) -> dict[str, KnownAction]:
        """What the ledger says is in force here, as of the first look at it, by observable key."""
        return self.ledger.actions.in_force(self.vendor)

    @cached_property
    def entries(self) -> dict[str, InForce]:
        """The same with what may be there since the last write failed."""
        rows = self.ledger.actions.rows_in_force(settings.now(), self.vendor, doubtful=True)
        return {row.key: row for row in rows}

    def survey(self, also: Iterable[Observable] = ()) -> Survey:
        """What the control holds. Writes nothing."""
        return self.control.survey(self.control.hook(writes_allowed=False), self.ours, settings.now(), also)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """
        Nobody else changes anything here meanwhile: neither a run beside a command, nor a try beside its orphan.

        :raises Unavailable: another one does
        """
        with alone_at(self.ledger, self.vendor, by=self.claimant) as hold:
            self._hold = self.control.hold = hold
            try:
                yield
            finally:
                self._hold = self.control.hold = _not_alone

    def lift(self, actions: Sequence[Action], *, by: str = "", reason: str = "") -> Lifting:
        """
        Remove ours, read back, and write down what became of it. To be called while :meth:`alone`.

        :return: one action for each, and what stopped the removing, if anything
        """
        if not actions:
            return [], None
        self._hold()
        try:
            done = self.control.lift(self.control.hook(writes_allowed=True), actions)
            lifted, error = list(done.actions), done.error
        except VendorError as problem:
            lifted, error = [], problem
        reached = {action.observable for action in lifted}
        why = str(error or "the control gave no answer about it")
        left = [action for action in actions if action.observable not in reached]
        lifted += [self.control.lifted(action, Outcome.FAILED, f"not removed: {why}") for action in left]
        self.record(lifted, by=by, reason=reason)
        return lifted, error

    def ensure_again(self, actions: Sequence[Action]) -> Lifting:
        """Bring into force what is there and is not, with the end that it has. To be called while :meth:`alone`."""
        self._hold()
        now = settings.now()
        indicators = [
            Indicator(
                observable=action.observable,
                confidence=0,
                reasons=("was written before",),
                roles=(Role.ATTACKER,),
                first_seen_at=now,
                last_seen_at=now,
                expires_at=action.expires_at or now,
                finding_uids=(),
            )
            for action in actions
        ]
        hook = self.control.hook(writes_allowed=True)
        try:
            done = self.control.ensure(hook, indicators, {}, self.ledger.actions.in_force(self.vendor))
            ensured, error = list(done.actions), done.error
        except VendorError as problem:
            ensured, error = [], problem
        self.record(ensured, reason="was written before, and was not in force")
        return ensured, error

    def record(self, actions: Sequence[Action], *, by: str = "", reason: str = "") -> None:
        """Write down what the control says now."""
        if actions:
            batch = ActionBatch(control=self.vendor, actions=tuple(actions))
            self.ledger.actions.record(batch, run_id=self.run_id, now=settings.now(), by=by, reason=reason)

    def known(self, observable: Observable, held: Held | None) -> Action:
        """What is to be lifted, as the ledger has it, else as the control holds it."""
        row, known = self.entries.get(observable.key), self.ours.get(observable.key)
        if row is None:
            return Action(
                control=self.vendor,
                verb=self.control.verb,
                observable=observable,
                outcome=Outcome.PENDING,
                expires_at=held.expires_at if held else None,
                proof=dict(held.proof) if held else {},
                reached=held.reached if held else None,
            )
        action = row.action()
        # A write that was begun may have been carried out or not: either end is ours.
        if held is not None and known is not None and held.expires_at in known.ends:
            action = action.model_copy(update={"expires_at": held.expires_at})
        return action


def _not_alone() -> None:
    raise RuntimeError("a control is written to without the claim on it")


def believed(at: AtControl, keys: Iterable[str]) -> dict[str, Believed]:
    """
    What the ledger says of each value that is in force, and of those of ``keys`` that were.

    :param keys: of items with our mark
    """
    missing = sorted(set(keys) - at.entries.keys())
    observables = [o for key in {*missing, *at.entries} if (o := Observable.of_key(key)) is not None]
    lifts = at.ledger.actions.lifted(observables, at.vendor)
    found = {key: _believed(row, at.ours.get(key), lifts.get(key)) for key, row in at.entries.items()}
    last = {row.observable: row for row in at.ledger.actions.rows(at.vendor)} if missing else {}
    for key in missing:
        lift, row = lifts.get(key), last.get(key)
        if lift is not None and lift.control == at.vendor:
            found[key] = Believed(Memory.LEFT_TO_PERSON, lift.at)
        elif row is not None and row.outcome == Outcome.NOT_OURS:
            found[key] = Believed(Memory.LEFT_TO_PERSON, row.updated_at)
        elif lift is not None:
            found[key] = Believed(Memory.ENDED, lift.at, None, lift.by, lift.reason)
        elif row is not None and row.outcome in (Outcome.LIFTED, Outcome.GONE):
            found[key] = Believed(Memory.ENDED, row.updated_at, row.expires_at)
    return found


def _believed(row: InForce, known: KnownAction | None, lift: Lifted | None) -> Believed:
    memory, who = Memory.IN_FORCE, ("", "")
    if row.lifting or (known is not None and known.intended_verb is Verb.LIFT):
        memory = Memory.LIFTING
        if lift is not None and not lift.control:
            who = (lift.by, lift.reason)
    elif lift is not None and not lift.control:
        # A person wanted it gone, and nobody has removed it: the command died, or could not.
        memory, who = Memory.LIFTING, (lift.by, lift.reason)
    elif row.reached is Reached.INTENDED or row.outcome is Outcome.FAILED:
        memory = Memory.INTENDED
    return Believed(memory, row.since, row.expires_at, *who)


def is_off(vendor: str) -> bool:
    """Whether the policy switches a control off."""
    return settings.policy().response.is_off(vendor)


def seen(survey: Survey) -> dict[str, Seen]:
    return {key: Seen(one.is_ours, one.altered, one.expires_at, one.ended) for key, one in survey.held.items()}


def protected_by(control: Control, now: datetime) -> Callable[[str], str | None]:
    """Why the gate protects a value now, by observable key. A watchlist is not gated: being watched harms nobody."""
    gate = settings.gate(now) if control.gated else None

    def why(key: str) -> str | None:
        observable = Observable.of_key(key) if gate is not None else None
        hit = gate.check(observable) if gate is not None and observable is not None else None
        return f"{hit.layer}: {hit.reason}" if hit else None

    return why
