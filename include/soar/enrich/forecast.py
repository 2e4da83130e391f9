"""What the questions of a backfill would cost. Pure: ``include/ops/plan_enrichment.py`` counts, this works out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from include.soar.enrich.quota import Quota, backfills_part, longest
from include.soar.enrich.sift import PRIVATE, PROTECTED, RESTRICTED, TYPE
from include.soar.model import Observable

#: What becomes of a value at a provider, from what counts most to what counts least: in one window it may be asked
#: about, and in another be too restricted.
ASKED, STORED, UNKNOWN = "asked", "stored", "not known"
_LEFT_OUT = (STORED, PRIVATE, PROTECTED, RESTRICTED, TYPE, UNKNOWN)
_FATES = (ASKED, UNKNOWN, STORED, RESTRICTED, PROTECTED, PRIVATE, TYPE)


@dataclass(frozen=True)
class Cost:
    """
    Calls of one kind at one provider.

    :param quotas: each of this kind, with what a backfill may still use of it now
    :param live_share: what backfills leave of each period
    """

    kind: str
    calls: int
    quotas: tuple[tuple[Quota, int], ...] = ()
    live_share: float = 0

    @property
    def left(self) -> int | None:
        """What the longest quota has left: a shorter one only makes the calls take their time. None: no quota."""
        left = dict(self.quotas)
        quota = longest(list(left))
        return None if quota is None else left[quota]

    @property
    def now(self) -> int:
        """What can be asked before the longest quota renews."""
        return self.calls if self.left is None else min(self.calls, self.left)

    @property
    def takes(self) -> timedelta | None:
        """Until the last call is made at the quotas' pace, whole periods; None: backfills have no part in a quota."""
        longest_time = timedelta(0)
        for quota, left in self.quotas:
            if self.calls > left:
                part = backfills_part(quota.calls, self.live_share)
                if not part:
                    return None
                longest_time = max(longest_time, math.ceil((self.calls - left) / part) * quota.period)
        return longest_time


@dataclass
class Forecast:
    """
    One provider's part of a plan.

    :param fates: what becomes of each value there
    :param high: the values of high-priority findings: they are asked about first
    :param problem: why nothing can be said, or why there are no calls
    """

    provider: str
    fates: dict[Observable, str] = field(default_factory=dict)
    high: set[Observable] = field(default_factory=set)
    costs: tuple[Cost, ...] = ()
    problem: str = ""

    def meets(self, observables: Iterable[Observable], fate: str) -> None:
        for observable in observables:
            known = self.fates.setdefault(observable, fate)
            if _FATES.index(fate) < _FATES.index(known):
                self.fates[observable] = fate

    def count(self, fate: str) -> int:
        return sum(one == fate for one in self.fates.values())

    @property
    def asked_for_high(self) -> int:
        return sum(self.fates.get(observable) == ASKED for observable in self.high)

    @property
    def calls(self) -> int:
        return sum(cost.calls for cost in self.costs)


@dataclass(frozen=True)
class BackfillPlan:
    """:param findings: how many of each source; :param remarks: what a person must know to read the numbers"""

    start_at: datetime
    end_at: datetime
    findings: Counter[str]
    observables: int
    forecasts: tuple[Forecast, ...]
    remarks: tuple[str, ...] = ()

    def render(self) -> str:
        sources = ", ".join(f"{name} {number:,}" for name, number in sorted(self.findings.items())) or "none"
        hours = int((self.end_at - self.start_at) / timedelta(hours=1))
        parts = [
            f"Backfill of {hours:,} hourly windows, {self.start_at:%Y-%m-%d %H:%M} to {self.end_at:%Y-%m-%d %H:%M} UTC."
            f" Findings: {sources}. Observables: {self.observables:,}. No provider was asked.",
            _table(
                ("provider", "kind", "values to ask", "of high findings", "calls", "left now", "now", "the rest takes"),
                [row for one in self.forecasts for row in _rows(one)]
                + [("total", "", "", "", f"{sum(one.calls for one in self.forecasts):,}", "", "", "")],
            ),
            "Not asked, values by reason:\n\n"
            + _table(
                ("provider", "stored answer", "private or ours", "never blocked", "TLP", "type", "frozen, not known"),
                [
                    (one.provider, *(f"{one.count(fate):,}" for fate in _LEFT_OUT))
                    for one in self.forecasts
                    if one.fates
                ],
            ),
            "Left now: what backfills may still use of the longest quota's period; now: the calls that this allows.\n"
            "A value that comes again is counted once, as its stored answer will do.",
            *self.remarks,
        ]
        return "\n\n".join(parts)


def _rows(one: Forecast) -> list[tuple[str, ...]]:
    if one.problem:
        return [(one.provider, "", f"{one.count(ASKED):,}", "", "0", "", "", one.problem)]
    rows: list[tuple[str, ...]] = []
    for place, cost in enumerate(one.costs):
        name = (one.provider, f"{one.count(ASKED):,}", f"{one.asked_for_high:,}") if place == 0 else ("", "", "")
        left = "no limit" if cost.left is None else f"{cost.left:,}"
        rows.append(
            (name[0], cost.kind or "-", name[1], name[2], f"{cost.calls:,}", left, f"{cost.now:,}", _words(cost.takes))
        )
    return rows


def _words(time: timedelta | None) -> str:
    if time is None:
        return "for ever: no part for backfills"
    if not time:
        return "-"
    for unit, length in (("day", timedelta(days=1)), ("hour", timedelta(hours=1))):
        if time >= length:
            number = math.ceil(time / length)
            return f"{number:,} {unit}{'s' if number > 1 else ''}"
    return f"{math.ceil(time / timedelta(minutes=1))} min"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain text: the first column to the left, the others to the right."""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    lines = []
    for first, *others in (head, ["-" * width for width in widths], *rows):
        right = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *right]).rstrip())
    return "\n".join(lines)
