"""Timing, and tables of plain text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from statistics import median


def seconds(work: Callable[[], object], repeats: int, *, before: Callable[[], object] | None = None) -> float:
    """The median duration of ``repeats`` runs, in seconds. ``before`` runs ahead of each, untimed."""
    durations = []
    for _ in range(repeats):
        if before is not None:
            before()
        started_at = time.perf_counter()
        work()
        durations.append(time.perf_counter() - started_at)
    return median(durations)


def number(value: float) -> str:
    """Three digits that mean something: ``12,300``, ``4.56``, ``0.00123``."""
    if abs(value) >= 999.5:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def times(value: float, base: float) -> str:
    """``value`` as a multiple of ``base``; a dash where there is nothing to compare with."""
    return f"{number(value / base)} x" if base else "-"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *notes: str) -> str:
    """Plain text: the first column to the left, the others to the right; floats with three digits."""
    cells = [[cell if isinstance(cell, str) else _shown(cell) for cell in row] for row in rows]
    widths = [max(len(row[place]) for row in [list(columns), *cells]) for place in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        first, *others = (
            text.ljust(width) if place == 0 else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    parts = [title, "", line(columns), "  ".join("-" * width for width in widths), *map(line, cells)]
    return "\n".join([*parts, *([""] if notes else []), *notes]) + "\n"


def _shown(cell: object) -> str:
    if isinstance(cell, float):
        return number(cell)
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
