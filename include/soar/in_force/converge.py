"""
What becomes of each block: what the ledger believes is in force, against what a control really holds.

Ours converge to what the ledger wants. What is not ours is never touched, and what a person did to ours is respected.
Pure: two pictures in, one fate for each value out; the stages carry it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

#: How long after a write a control may not show it yet, and a run that wrote down its intent may still be at work.
#: A task ends within the hour (dags/, ``execution_timeout``).
SETTLES = timedelta(hours=1)


class Memory(StrEnum):
    """What the ledger says of one value at one control."""

    IN_FORCE = "in_force"
    INTENDED = "intended"  # a write was to be made, and nobody wrote down what became of it
    LIFTING = "lifting"  # a removal was to be made, and nobody wrote down what became of it
    ENDED = "ended"  # lifted, or seen gone
    LEFT_TO_PERSON = "left_to_person"  # a person removed or changed it, and it is theirs since


@dataclass(frozen=True)
class Believed:
    """
    :param since: when the ledger last learned of it
    :param by: of a removal: who wanted it; empty: the project itself
    """

    memory: Memory
    since: datetime
    expires_at: datetime | None = None
    by: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Seen:
    """
    What a control holds of one value, as read.

    :param is_ours: it bears our mark
    :param altered: what a person changed of ours since we wrote it; empty: nothing
    :param expires_at: None: it has no end
    :param ended: the control says that it is past its end, whether or not it still enforces it
    """

    is_ours: bool
    altered: str = ""
    expires_at: datetime | None = None
    ended: bool = False


class Fate(StrEnum):
    """What is done about one value at one control."""

    KEEP = "keep"
    ADOPT = "adopt"  # ours, and the ledger does not know it: it is written down
    LIFT = "lift"  # ours is removed; where it is absent already, the control proves that, and that nothing enforces it
    LEFT_TO_PERSON = "left_to_person"  # a person removed or changed ours before its end: respected, and told
    STRAY = "stray"  # bears our mark, but nothing says that it may be removed: left alone, and logged


@dataclass(frozen=True)
class Move:
    """
    One value's fate, and why.

    :param expires_at: the end that the item or the ledger gives it
    :param by: who wanted it; empty: the project itself
    :param reason: why they did
    :param finishes: it reached its end, or its removal was begun: not to be decided, only to be carried out
    """

    fate: Fate
    why: str
    expires_at: datetime | None = None
    by: str = ""
    reason: str = ""
    finishes: bool = False

    @property
    def changes(self) -> bool:
        """Whether the control or the ledger is written to."""
        return self.fate not in (Fate.KEEP, Fate.STRAY)


PAST_ITS_END = "past its end"
#: Why a value is protected now; None: it is not.
Protected = Callable[[str], str | None]


def converge(
    believed: Mapping[str, Believed], seen: Mapping[str, Seen], protected: Protected, now: datetime
) -> dict[str, Move]:
    """
    The fate of each value that the ledger knows or that bears our mark, by observable key.

    :param believed: by observable key, all that the ledger knows at this control
    :param seen: by observable key, all that the control holds
    """
    moves: dict[str, Move] = {}
    for key in sorted({*believed, *seen}):
        known, item = believed.get(key), seen.get(key)
        if known is None:
            move = _unknown(item, protected(key), now) if item is not None and item.is_ours else None
        elif item is None or not item.is_ours:
            move = _absent(known, item, now)
        else:
            move = _there(known, item, protected(key), now)
        if move is not None:
            moves[key] = move
    return moves


def expired_only(moves: Mapping[str, Move]) -> dict[str, Move]:
    """Those that only end what has expired, or finish a removal that was begun."""
    return {key: move for key, move in moves.items() if move.fate is Fate.LIFT and move.finishes}


def is_over(expires_at: datetime | None, now: datetime) -> bool:
    return expires_at is not None and expires_at <= now


def _unknown(item: Seen, why_protected: str | None, now: datetime) -> Move:
    """Ours by its mark, of which the ledger knows nothing: it was lost."""
    if item.altered:
        return Move(Fate.STRAY, f"bears our mark, and a person changed it ({item.altered})", item.expires_at)
    if item.ended or is_over(item.expires_at, now):
        return Move(Fate.LIFT, PAST_ITS_END, item.expires_at, finishes=True)
    if item.expires_at is None:
        return Move(Fate.STRAY, "bears our mark and has no end, so a person took it off")
    if why_protected:
        return Move(Fate.LIFT, f"is protected: {why_protected}", item.expires_at)
    return Move(Fate.ADOPT, "ours by its mark, and unknown to the ledger", item.expires_at)


def _absent(known: Believed, item: Seen | None, now: datetime) -> Move | None:
    """Nothing of ours is there."""
    if known.memory in (Memory.ENDED, Memory.LEFT_TO_PERSON):
        return None
    ends = known.expires_at
    if known.memory is Memory.LIFTING:
        return Move(Fate.LIFT, "its removal was begun", ends, known.by, known.reason, finishes=True)
    if is_over(ends, now):
        return Move(Fate.LIFT, PAST_ITS_END, ends, finishes=True)
    if now - known.since < SETTLES:
        return Move(Fate.KEEP, "not there yet", ends)
    if known.memory is Memory.INTENDED:
        return Move(Fate.LIFT, "was to be written, and is not there", ends)
    what = "removed it before its end" if item is None else "put an item of their own in its place"
    return Move(Fate.LEFT_TO_PERSON, f"somebody {what}", ends)


def _there(known: Believed, item: Seen, why_protected: str | None, now: datetime) -> Move | None:
    """An item with our mark is there."""
    if known.memory is Memory.LEFT_TO_PERSON:
        return None
    if item.altered:
        if known.memory is Memory.ENDED:
            return None
        return Move(Fate.LEFT_TO_PERSON, f"somebody changed it: {item.altered}", item.expires_at)
    if known.memory is Memory.LIFTING:
        return Move(Fate.LIFT, "its removal was begun", item.expires_at, known.by, known.reason, finishes=True)
    if known.memory is Memory.ENDED:
        return Move(Fate.LIFT, "was lifted, and is there again", item.expires_at, known.by, known.reason)
    if item.ended or is_over(item.expires_at, now) or is_over(known.expires_at, now):
        return Move(Fate.LIFT, PAST_ITS_END, item.expires_at or known.expires_at, finishes=True)
    if why_protected:
        return Move(Fate.LIFT, f"is protected now: {why_protected}", item.expires_at)
    if known.memory is Memory.INTENDED:
        return Move(Fate.ADOPT, "was written, and what became of it was not", item.expires_at)
    return Move(Fate.KEEP, "as the ledger has it", item.expires_at)
