"""What the ledger tells about actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from include.soar.model import Action, Observable, Outcome, Reached, Rung, Verb


class Kind(StrEnum):
    """What an event of an action is."""

    INTENDED = "intended"  # before the call
    REPORTED = "reported"  # by the control
    ANSWERED = "answered"  # by the person who was asked
    CANCELLED = "cancelled"  # an entry of the gate that was added later protects it
    LIFTED = "lifted"  # a person wants it gone, everywhere
    REMOVED = "removed"  # at the control, by somebody else
    EARLIER = "earlier"  # the state that a release before the events knew


@dataclass(frozen=True)
class KnownAction:
    """
    What of ours is in force at a control, and where a person can check.

    :param outcome: ``pending`` where it is not proved to be in force
    :param expires_at: the end that was last proved
    :param reached: ``intended``: a call was begun and its end is not known, so a person need not have removed what is
        not there
    :param intended_verb: of a write that was begun and is not proved: the control may hold the entry as it was, or as
        that write left it; None: there is none
    :param intended_until: the end which that write gives it
    :param updated_at: when the control last reported it: a sighting after that is newer than what is known
    :param lifting: it was removed by us, and may still be enforced
    """

    outcome: Outcome
    expires_at: datetime | None
    run_id: str
    proof: Mapping[str, str | int | None]
    verb: Verb = Verb.DENY
    rung: Rung | None = None
    reached: Reached | None = None
    since: datetime | None = None
    incidents: tuple[str, ...] = ()
    intended_verb: Verb | None = None
    intended_until: datetime | None = None
    updated_at: datetime = datetime(1, 1, 1, tzinfo=UTC)
    lifting: bool = False

    @property
    def ends(self) -> frozenset[datetime | None]:
        """The ends that our own writes can have left there. Another one was set by somebody else."""
        if self.intended_verb is None or self.intended_verb is Verb.LIFT:
            return frozenset({self.expires_at})
        return frozenset({self.expires_at, self.intended_until})


@dataclass(frozen=True)
class InForce:
    """
    What of ours is in force at one control, or may be.

    :param since: the start of the present time in force
    :param ended: its end is past. It stays until it was seen gone: not every control ends its entries itself
    :param cancelled: which entry of the gate protects it now; empty: none was seen to
    :param lifting: it was removed, and may still be enforced
    """

    control: str
    observable: Observable
    verb: Verb
    outcome: Outcome
    rung: Rung | None
    reached: Reached | None
    since: datetime
    expires_at: datetime | None
    incidents: tuple[str, ...]
    run_id: str
    proof: Mapping[str, str | int | None]
    detail: str = ""
    ended: bool = False
    cancelled: str = ""
    lifting: bool = False

    @property
    def key(self) -> str:
        return self.observable.key

    def action(self) -> Action:
        """It as an action, such as ``Control.lift`` takes."""
        return Action(
            control=self.control,
            verb=self.verb,
            observable=self.observable,
            outcome=self.outcome,
            detail=self.detail,
            expires_at=self.expires_at,
            proof=dict(self.proof),
            rung=self.rung,
            reached=self.reached,
        )


@dataclass(frozen=True)
class ActionEvent:
    """
    One row of the append-only log.

    :param number: its place in the chain, from 1
    :param control: empty: about all of them
    :param observable: its key
    :param outcome: for ``answered``: ``approved`` or ``declined``
    :param changed: this try wrote it; False: it was so already
    :param by: the person; empty: the workflow by itself
    :param detected_at: when the vendor detected the finding that it answers, as far as known; likewise when it was
        read, judged and approved
    """

    number: int
    at: datetime
    kind: Kind
    control: str
    observable: str
    verb: str
    outcome: str
    rung: Rung | None
    reached: Reached | None
    changed: bool
    detail: str
    proof: Mapping[str, str | int | None]
    expires_at: datetime | None
    incidents: tuple[str, ...]
    run_id: str
    by: str
    reason: str
    detected_at: datetime | None = None
    read_at: datetime | None = None
    judged_at: datetime | None = None
    approved_at: datetime | None = None
    hash: str = field(default="", repr=False)


@dataclass(frozen=True)
class Lifted:
    """
    That a person lifted or removed it, and no new sighting acted since.

    :param control: where; empty: everywhere
    """

    at: datetime
    by: str
    reason: str
    control: str = ""
