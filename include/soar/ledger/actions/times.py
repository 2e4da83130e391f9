"""How long it took from the vendor's detection to the block in force, by part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import quantiles

from include.soar.ledger.actions.entries import ACTIVE
from include.soar.ledger.actions.records import ActionEvent, Kind
from include.soar.model import Reached

#: The parts in order, each ending with the instant that it is named after, and the whole.
PARTS = ("read", "judged", "approved", "written", "active", "total")


@dataclass(frozen=True)
class Timing:
    """
    When one value came into force at one control in one run. An instant is None where it is not known, or did not
    happen (``approved_at``: nobody was asked).

    :param written_at: when the ledger first had the control's answer
    """

    control: str
    observable: str
    run_id: str
    detected_at: datetime | None
    read_at: datetime | None
    judged_at: datetime | None
    approved_at: datetime | None
    written_at: datetime
    active_at: datetime

    @property
    def seconds(self) -> dict[str, float]:
        """By part of ``PARTS``, those that are known. A part that did not happen belongs to none; the next has it."""
        known = [
            (name, at) for name in ("detected", *PARTS[:-1]) if isinstance(at := getattr(self, f"{name}_at"), datetime)
        ]
        parts = {name: (at - before).total_seconds() for (_, before), (name, at) in pairwise(known)}
        if self.detected_at is not None:
            parts["total"] = (self.active_at - self.detected_at).total_seconds()
        return parts


def timings(events: Iterable[ActionEvent]) -> list[Timing]:
    """
    What came into force, in order. What a run found in force already did not.

    :param events: in order
    """
    written: dict[tuple[str, str, str], ActionEvent] = {}
    begun: set[tuple[str, str, str]] = set()
    found: list[Timing] = []
    for event in events:
        place = (event.control, event.observable, event.run_id)
        if event.kind is Kind.INTENDED:
            begun.add(place)
        if event.kind is not Kind.REPORTED or event.verb == "lift":
            continue
        if event.changed:
            begun.add(place)
        if place not in begun or event.reached in (None, Reached.INTENDED, Reached.GONE):
            continue
        first = written.setdefault(place, event)
        if event.outcome in ACTIVE and event.reached is Reached.ACTIVE:
            begun.discard(place)
            found.append(_timing(first, event))
            del written[place]
    return found


def _timing(written: ActionEvent, active: ActionEvent) -> Timing:
    return Timing(
        control=active.control,
        observable=active.observable,
        run_id=active.run_id,
        detected_at=active.detected_at,
        read_at=active.read_at,
        judged_at=active.judged_at,
        approved_at=active.approved_at,
        written_at=written.at,
        active_at=active.at,
    )


def percentiles(timings: Sequence[Timing], at: Sequence[int] = (50, 90, 99)) -> dict[str, dict[int, float]]:
    """
    Seconds by part and percentile, of the timings that know the part.

    :param at: percentiles, 1 to 99
    """
    by_part: dict[str, list[float]] = {}
    for timing in timings:
        for part, seconds in timing.seconds.items():
            by_part.setdefault(part, []).append(seconds)
    found: dict[str, dict[int, float]] = {}
    for part in PARTS:
        if values := by_part.get(part):
            cuts = quantiles(values, n=100, method="inclusive") if len(values) > 1 else values * 99
            found[part] = {percent: cuts[percent - 1] for percent in at}
    return found
