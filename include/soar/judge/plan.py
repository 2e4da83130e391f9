"""What a run would change at one control, and what of a plan must not be applied any more. Pure.

A control's part is to say what is there (:class:`Reading`); that is compared here with what the decision wants. The
same comparison, made again right before the write, shows what has drifted since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from include.soar.gate.gate import Gate
from include.soar.model import Change, ControlPlan, Indicator, Observable, PlanEntry, Reached

#: The rules by which an entry of the plan is refused, beside the layers of the never-block gate.
EXPIRED, CAPACITY, OTHERS = "expired", "capacity", "others_changes"
REMOVED, ALTERED = "lifted by a person", "altered by a person"
UNSEEN = "it was not seen since we had written it"
#: In the order in which a person reads a plan: what changes comes first.
ORDER = (Change.ADD, Change.PROLONG, Change.LIFT, Change.UNKNOWN, Change.HELD, Change.REFUSED, Change.UNCHANGED)
#: What a plan does not do. What was held is done once a person has approved it.
NOT_DONE = frozenset({Change.REFUSED, Change.LIFT})


class Item(Protocol):
    """
    One value as it is at a control.

    ``is_ours``: our mark was read back. ``altered``: what a person changed of ours, in words. ``ended``: it has no
    effect any more, though it is still there.
    """

    @property
    def expires_at(self) -> datetime | None: ...
    @property
    def is_ours(self) -> bool: ...
    @property
    def altered(self) -> str: ...
    @property
    def ended(self) -> bool: ...


class Reading(Protocol):
    """What is at a control now: its items by observable key, how many it holds and can hold."""

    @property
    def held(self) -> Mapping[str, Item]: ...
    @property
    def size(self) -> int | None: ...
    @property
    def capacity(self) -> int | None: ...
    @property
    def others_changes(self) -> int | None: ...


class Known(Protocol):
    """What the ledger knows of ours at a control."""

    @property
    def expires_at(self) -> datetime | None: ...
    @property
    def reached(self) -> Reached | None: ...
    @property
    def updated_at(self) -> datetime: ...
    @property
    def lifting(self) -> bool: ...


@dataclass(frozen=True)
class Wanted:
    """
    What a decision wants of one control.

    :param act: with their steps at this control alone, and only what the control acts on
    :param held: the same of what waits for a person
    """

    act: Sequence[Indicator]
    held: Sequence[Indicator] = ()


@dataclass(frozen=True)
class Standing:
    """
    What holds at a control now.

    :param reading: None: the control could not be read, and ``problem`` says why
    :param ours: what the ledger knows to be in force there, by observable key; what has ended may be among it
    :param gate: None: the control's effect harms nobody, so a protected value may get it
    :param refuse_others_changes: whether nothing is written where other people's changes would go with it
    """

    control: str
    now: datetime
    reading: Reading | None = None
    ours: Mapping[str, Known] = field(default_factory=dict)
    gate: Gate | None = None
    refuse_others_changes: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Drift:
    """
    What must not be written.

    :param values: by observable key, why: what the plan does not do, or what changed since (``drift: …``)
    :param persons: keys of those that a person removed or altered
    :param whole: why nothing at all may be written there; empty: no such reason
    """

    values: Mapping[str, str] = field(default_factory=dict)
    persons: frozenset[str] = frozenset()
    whole: str = ""


def plan_for_control(wanted: Wanted, standing: Standing) -> ControlPlan:
    """What would change at a control: one entry for each value that is wanted, that waits or that is to be lifted."""
    entries = [_entry(one, standing) for one in wanted.act]
    entries += [_held(one, standing) for one in wanted.held]
    named = {entry.observable.key for entry in entries}
    entries += _to_lift([key for key in standing.ours if key not in named], standing)
    confidence = {one.observable.key: one.confidence for one in wanted.act}
    entries = _within_limits(entries, confidence, standing)
    reading = standing.reading
    return ControlPlan(
        control=standing.control,
        entries=tuple(sorted(entries, key=lambda e: (ORDER.index(e.change), e.observable.key))),
        size=reading.size if reading else None,
        capacity=reading.capacity if reading else None,
        others_changes=reading.others_changes if reading else None,
        problem=standing.problem,
    )


def drift(planned: ControlPlan, indicators: Sequence[Indicator], standing: Standing) -> Drift:
    """
    Compare a plan with what holds right before it is applied.

    What only makes the plan easier is no drift: that another run has added the value meanwhile, say. An entry that
    could not be planned, since the control could not be read, may be written. Without a reading only what the plan
    itself does not do is found.

    :param indicators: what the control is about to write
    """
    present = plan_for_control(Wanted(indicators), standing)
    before = {e.observable.key: e for e in planned.entries if e.change is not Change.HELD}
    approved = {e.observable.key for e in planned.entries if e.change is Change.HELD}
    values, persons = {}, set()
    for now in present.entries:
        entry, key = now, now.observable.key
        was = before.get(key)
        if entry.change is Change.LIFT and was is None:
            continue  # nothing that is to be written
        if was is None and key not in approved:
            values[key] = "drift: the plan has nothing about it at this control; run plan_blocks again"
        elif was is not None and was.change in NOT_DONE:
            entry, values[key] = was, f"{was.change.value} in the plan: {_why(was)}"
        elif entry.change in NOT_DONE:
            values[key] = f"drift: {_why(entry)}"
        elif was is not None and was.change is Change.UNCHANGED and entry.change is Change.ADD:
            values[key] = "drift: what was in force there was removed after the plan was made"
        if key in values and entry.rule in (REMOVED, ALTERED):
            persons.add(key)
    return Drift(values, frozenset(persons), _grown(planned, present) if standing.refuse_others_changes else "")


def _why(entry: PlanEntry) -> str:
    return f"{entry.rule}: {entry.detail}" if entry.detail else entry.rule


def _grown(planned: ControlPlan, present: ControlPlan) -> str:
    before, now = planned.others_changes or 0, present.others_changes or 0
    if now <= before:
        return ""
    return f"drift: {now} changes of other people would go with ours, {before} when the plan was made"


# --- one entry ----------------------------------------------------------------------------------------------


def _entry(one: Indicator, standing: Standing) -> PlanEntry:
    refused = _refused(one, standing)
    if refused is not None:
        return refused
    reading, key = standing.reading, one.observable.key
    if reading is None:
        return _of(one, Change.UNKNOWN, rule="unread", detail=standing.problem, ends=False)
    item = reading.held.get(key)
    theirs = _is_a_persons(one, standing)
    if item is None:
        # What we were removing ourselves was removed by nobody else.
        if theirs and not standing.ours[key].lifting:
            return _of(one, Change.REFUSED, rule=REMOVED, detail=f"it is not there any more, and {UNSEEN}")
        return _of(one, Change.ADD)
    if item.is_ours and item.altered and theirs:
        return _of(one, Change.REFUSED, item=item, rule=ALTERED, detail=f"{item.altered}, and {UNSEEN}")
    if item.ended:
        return _of(one, Change.ADD)
    if not item.is_ours:
        return _of(one, Change.UNCHANGED, item=item, detail="by an item that is not ours, which is left alone")
    # The controls keep whole seconds: what was written with a fraction would be prolonged by it for ever.
    if item.expires_at is None or item.expires_at >= one.expires_at.replace(microsecond=0):
        return _of(one, Change.UNCHANGED, item=item)
    return _of(one, Change.PROLONG, item=item)


def _held(one: Indicator, standing: Standing) -> PlanEntry:
    item = standing.reading.held.get(one.observable.key) if standing.reading else None
    if item is not None and item.ended:
        item = None
    because = "; ".join(one.hold_reasons)
    return _refused(one, standing) or _of(one, Change.HELD, item=item, rule="held", detail=because)


def _refused(one: Indicator, standing: Standing) -> PlanEntry | None:
    hit = standing.gate.check(one.observable) if standing.gate else None
    if hit is not None:
        lifts = one.observable.key in standing.ours
        change = Change.LIFT if lifts else Change.REFUSED
        return _of(one, change, rule=hit.layer, detail=hit.reason, ends=False, was=_was(one.observable, standing))
    if one.expires_at <= standing.now:
        return _of(one, Change.REFUSED, rule=EXPIRED, detail="it has expired", ends=False)
    return None


def _to_lift(keys: Iterable[str], standing: Standing) -> list[PlanEntry]:
    """Of ours: what became protected, and what has ended and still is there."""
    entries = []
    for key in keys:
        observable = Observable.of_key(key)
        if observable is None:
            continue
        hit = standing.gate.check(observable) if standing.gate else None
        was = _was(observable, standing)
        if hit is not None:
            entry = PlanEntry(observable=observable, change=Change.LIFT, rule=hit.layer, detail=hit.reason)
        elif was is not None and was <= standing.now and _is_left_over(key, standing.reading):
            entry = PlanEntry(observable=observable, change=Change.LIFT, rule=EXPIRED, detail="it has ended")
        else:
            continue
        entries.append(entry.model_copy(update={"was_until": was, "in_force": was is None or was > standing.now}))
    return entries


def _is_left_over(key: str, reading: Reading | None) -> bool:
    item = reading.held.get(key) if reading else None
    return item is not None and item.is_ours and not item.altered


def _was(observable: Observable, standing: Standing) -> datetime | None:
    known = standing.ours.get(observable.key)
    return known.expires_at if known else None


def _is_a_persons(one: Indicator, standing: Standing) -> bool:
    """
    Whether a value that we left there, and that is gone or changed, is a person's to decide about: it was not seen
    since. What was only intended may never have been written.
    """
    known = standing.ours.get(one.observable.key)
    if known is None or known.reached is Reached.INTENDED or one.last_seen_at > known.updated_at:
        return False
    return known.expires_at is None or known.expires_at > standing.now


def _of(
    one: Indicator,
    change: Change,
    *,
    item: Item | None = None,
    rule: str = "",
    detail: str = "",
    ends: bool = True,
    was: datetime | None = None,
) -> PlanEntry:
    """:param ends: whether the plan gives it an end; what stays keeps its own"""
    until = one.expires_at if ends else None
    if change is Change.UNCHANGED and item is not None:
        until = item.expires_at
    elif change is Change.REFUSED:
        until = None
    return PlanEntry(
        observable=one.observable,
        change=change,
        rung=one.rung,
        expires_at=until,
        was_until=item.expires_at if item is not None else was,
        rule=rule,
        detail=detail,
        in_force=item is not None,
    )


# --- the limits of the whole control ------------------------------------------------------------------------


def _within_limits(entries: Sequence[PlanEntry], confidence: Mapping[str, int], standing: Standing) -> list[PlanEntry]:
    """Where not all fits, the surest go first. Where others' changes would go along, nothing is written."""
    reading = standing.reading
    if reading is None:
        return list(entries)
    refused: dict[str, tuple[str, str]] = {}
    others = reading.others_changes or 0
    if standing.refuse_others_changes and others:
        why = f"{others} changes of other people would go with it, and refuse_others_changes is set"
        refused = {e.observable.key: (OTHERS, why) for e in entries if e.change in (Change.ADD, Change.PROLONG)}
    elif reading.capacity is not None and reading.size is not None:
        added = [e.observable.key for e in entries if e.change is Change.ADD]
        added.sort(key=lambda key: (-confidence.get(key, 0), key))
        why = f"it is full: {reading.size:,} of {reading.capacity:,} entries"
        room = reading.capacity - reading.size + _to_make_room(reading)
        refused = dict.fromkeys(added[max(0, room) :], (CAPACITY, why))
    return [_refuse(e, *refused[e.observable.key]) if _is_one_of(e, refused) else e for e in entries]


def _to_make_room(reading: Reading) -> int:
    """Items of ours past their end, which a control removes before it refuses one."""
    return sum(item.is_ours and item.ended and not item.altered for item in reading.held.values())


def _is_one_of(entry: PlanEntry, refused: Mapping[str, object]) -> bool:
    return entry.change in (Change.ADD, Change.PROLONG) and entry.observable.key in refused


def _refuse(entry: PlanEntry, rule: str, detail: str) -> PlanEntry:
    return entry.model_copy(update={"change": Change.REFUSED, "rule": rule, "detail": detail, "expires_at": None})
