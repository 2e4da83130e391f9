"""What the log of the actions tells about earlier blocks: which a person lifted, and when each began."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from include.soar.ledger.actions.entries import Entry, advance
from include.soar.ledger.actions.records import Kind, Lifted
from include.soar.model import Outcome, Verb

Event = Mapping[str, Any]


def is_persons_lift(event: Event) -> bool:
    """Whether a person wanted it gone. What the control then said does not matter: the wish is known."""
    if event["kind"] in (Kind.LIFTED, Kind.REMOVED):
        return True
    return (
        event["kind"] in (Kind.INTENDED, Kind.REPORTED)
        and event["verb"] == Verb.LIFT
        and event["by"] != ""
        and event["outcome"] != Outcome.PLANNED
    )


def lifted(events: Iterable[Event], control: str | None) -> Lifted | None:
    """
    The last lift of a person that counts, of one observable. One that counts everywhere goes before one control's.

    A later intent to act undoes it at that control: whoever decided that knew of the lift, and had a new sighting. At
    the others, which perhaps could not be reached when it was to be lifted, it counts on. Anywhere, one that counts
    everywhere is never undone: whoever decides compares its time with the sightings.

    :param events: of the observable, in order
    :param control: without what counts at other controls only; None: what counts anywhere
    """
    everywhere: Lifted | None = None
    acted_since: set[str] = set()
    by_control: dict[str, Lifted] = {}
    for event in events:
        if is_persons_lift(event):
            place = event["control"] if event["kind"] == Kind.REMOVED else ""
            one = Lifted(event["at"], event["by"], event["reason"], place)
            if place:
                by_control[place] = one
            else:
                everywhere = one
                acted_since.clear()
        elif event["kind"] == Kind.INTENDED and event["verb"] != Verb.LIFT:
            acted_since.add(event["control"])
            by_control.pop(event["control"], None)
    if everywhere and control not in acted_since:
        return everywhere
    counting = [one for place, one in by_control.items() if control in (None, place)]
    return max(counting, key=lambda one: one.at, default=None)


@dataclass
class _Block:
    start: datetime
    end: datetime | None
    withdrawn: bool = False


def starts(events: Iterable[Event], *, seen_at: datetime | None = None) -> list[datetime]:
    """
    When each block of one observable began. What several controls do at the same time, or one after the other without
    a gap, is one block. One that was taken back before its end does not count: it was wrong, or was never whole.

    :param events: of the observable, in order
    :param seen_at: without a block that ran at this time: what is seen while it is blocked does not come back
    """
    blocks: list[_Block] = []
    entries: dict[str, Entry | None] = {}
    running: dict[str, _Block] = {}
    for event in events:
        control = event["control"]
        if is_persons_lift(event):
            for place in [control] if event["kind"] == Kind.REMOVED else list(running):
                if block := running.pop(place, None):
                    block.withdrawn = True
        entry = entries[control] = advance(entries.get(control), event)
        if entry is None:
            if block := running.pop(control, None):
                block.withdrawn |= block.end is not None and event["at"] < block.end
                block.end = min(event["at"], block.end or event["at"])
        elif event["outcome"] == Outcome.BLOCKED and entry["outcome"] == Outcome.BLOCKED:
            block = running.get(control)
            if block is None or block.start != entry["since"]:
                block = running[control] = _Block(entry["since"], None)
                blocks.append(block)
            block.end = entry["expires_at"]
    merged = _merged([block for block in blocks if not block.withdrawn])
    return [
        b.start for b in merged if seen_at is None or not (b.start <= seen_at and (b.end is None or seen_at < b.end))
    ]


def _merged(blocks: list[_Block]) -> list[_Block]:
    found: list[_Block] = []
    for block in sorted(blocks, key=lambda one: one.start):
        last = found[-1] if found else None
        if last is None or (last.end is not None and block.start > last.end):
            found.append(_Block(block.start, block.end))
        elif last.end is not None:
            last.end = None if block.end is None else max(last.end, block.end)
    return found
