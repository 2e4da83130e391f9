"""What a control holds, what it did, and what a person decided about ours there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from include.soar.model import Action, Indicator, Observable, Reached, Verb
from include.soar.vendor.errors import VendorError

if TYPE_CHECKING:
    from include.soar.ledger.actions import KnownAction

#: Readable incident ids by observable key, for descriptions.
Incidents = Mapping[str, Sequence[str]]
#: What the ledger knows of ours at a control, by observable key.
Ours = Mapping[str, "KnownAction"]

#: How a refusal begins that respects a person's decision about an item of ours.
LIFTED_BY_A_PERSON = "lifted by a person"
ALTERED_BY_A_PERSON = "altered by a person"


@dataclass
class Result:
    """
    What a control achieved: an action for each item that it got to, and what stopped it, if anything.

    :param swept: items of ours past their end that were removed on the way, to make room
    """

    actions: list[Action] = field(default_factory=list)
    error: VendorError | None = None
    swept: list[Action] = field(default_factory=list)


@dataclass(frozen=True)
class Held:
    """
    One item as it reads back from a control.

    :param expires_at: its end there; None: it has none
    :param is_ours: it carries our mark
    :param altered: what a person changed of ours since we left it, in words; empty: nothing
    :param ended: it is past its end, whether or not the control still enforces it
    :param reached: how far it is in force; None: it does nothing
    :param proof: where a person can check
    """

    observable: Observable
    expires_at: datetime | None
    is_ours: bool
    altered: str = ""
    ended: bool = False
    reached: Reached | None = Reached.ACTIVE
    proof: Mapping[str, str | int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Survey:
    """
    What a control holds, by observable key: every item of ours that it can list, and what it has for the values asked.

    :param size: entries there now, ours and others'; None: the control does not say
    :param capacity: how many it can hold; None: no limit is known
    :param others_changes: changes of other people that an activation of ours would take along; None: there is no such
        thing at this control
    :param version: of the list, where it has one
    :param place: where that is: the list, the collection
    """

    held: Mapping[str, Held] = field(default_factory=dict)
    size: int | None = None
    capacity: int | None = None
    others_changes: int | None = None
    version: int | None = None
    place: str = ""

    def ended(self) -> list[Held]:
        """Ours that are past their end and that no person has changed: what a sweep removes."""
        return [one for one in self.held.values() if one.is_ours and one.ended and not one.altered]


def left_by_us(known: KnownAction | None, now: datetime) -> bool:
    """Whether the ledger knows that we had it there, and that it should be there still."""
    if known is None or known.reached is Reached.INTENDED:
        return False  # whether it was ever written is not known
    return known.expires_at is None or known.expires_at > now


def decided_by_a_person(
    indicator: Indicator, known: KnownAction | None, now: datetime, *, altered: str | None
) -> str | None:
    """
    Why ours is not written again: a person removed or changed it after we had left it there, and it was not seen
    since. None: it is ours to write.

    :param altered: what was changed, in words; None: it is not there any more
    """
    if known is None or not left_by_us(known, now) or indicator.last_seen_at > known.updated_at:
        return None
    if altered is None and (known.lifting or known.intended_verb is Verb.LIFT):
        return None  # it was we who removed it, or how a removal of ours ended is not known
    if altered is None:
        return f"{LIFTED_BY_A_PERSON}: it is not there any more, and was not seen since we had written it"
    return f"{ALTERED_BY_A_PERSON}: {altered}; it was not seen since we had written it" if altered else None
