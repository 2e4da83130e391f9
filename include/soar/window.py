"""Which window of time a run reads. All sources use the same resolver, so that no window is lost or read twice.

Verified on Airflow 3.3.2 with ``CronDataIntervalTimetable``:

* A scheduled or backfilled run has a data interval whose start is its logical date.
* A manual run off the grid (the UI's default: now) has the last complete interval before it.
* A manual run exactly on the grid has the interval *before* its logical date, yet occupies the logical date that
  is the key of the interval *after* it: Airflow will never create the scheduled run of that key. So such a run
  reads the interval after, which is the one it stands for.
* A run without a logical date has no data interval at all: it reads the last complete intervals up to its
  ``run_after``, as long as ``lookback_minutes`` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from include.soar.model import Window


class WindowError(ValueError):
    """The parameters do not name a window."""


def parse_instant(text: str, name: str) -> datetime:
    """
    The one reader of times that people write: ``2026-01-31T08:00Z``, or a date for its beginning in UTC.

    :param name: what the time is for, as the error says it
    :raises WindowError: it is neither, or a time without a zone, which is refused rather than guessed
    """
    text = text.strip()
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        pass
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise WindowError(f"{name}: {text!r} is not an ISO 8601 time such as 2026-01-31T08:00:00Z") from None
    if instant.tzinfo is None:
        raise WindowError(f"{name}: {text!r} has no time zone; write Z for UTC")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise WindowError(f"{name}: {text!r} lies outside of the calendar") from None


def resolve_window(
    *,
    params: Mapping[str, Any],
    run_type: str,
    run_after: datetime,
    logical_date: datetime | None,
    interval_start: datetime | None,
    interval_end: datetime | None,
) -> Window:
    """
    The window of a run, from what Airflow knows about the run.

    :param params: ``window_start`` and ``window_end`` (both or neither, ISO 8601), ``lookback_minutes``. A run of the
        schedule or of a backfill stands for its own interval and is given no other window: each of a backfill's runs
        would read the same one, and none the hour that it was made for
    :param run_type: Airflow's: ``scheduled``, ``backfill``, ``manual``, ``asset_triggered``
    :raises WindowError: naming the parameter that is wrong
    """
    if explicit := _explicit(params):
        if run_type in ("scheduled", "backfill"):
            raise WindowError(
                f"window_start, window_end: a {run_type} run reads the hour that it stands for. Leave both empty; for "
                "this one window trigger a single run"
            )
        return explicit
    if interval_start and interval_end and interval_end > interval_start:
        if run_type == "manual" and logical_date == interval_end:
            length = interval_end - interval_start
            return Window(
                start_at=interval_end,
                end_at=interval_end + length,
                chosen_by="a manual run on the schedule's grid: it stands for the interval that its date begins",
            )
        return Window(
            start_at=interval_start, end_at=interval_end, chosen_by=f"the data interval of this {run_type} run"
        )
    return _looking_back(params, run_after)


def _explicit(params: Mapping[str, Any]) -> Window | None:
    """The window that the parameters state, if any."""
    start_text, end_text = params.get("window_start"), params.get("window_end")
    if bool(start_text) != bool(end_text):
        missing = "window_end" if start_text else "window_start"
        raise WindowError(f"{missing}: give window_start and window_end together, or neither")
    if not (start_text and end_text):
        return None
    start, end = parse_instant(start_text, "window_start"), parse_instant(end_text, "window_end")
    if start >= end:
        raise WindowError(f"window_end: {end_text!r} is not after window_start {start_text!r}")
    return Window(start_at=start, end_at=end, chosen_by="the parameters window_start and window_end")


def _looking_back(params: Mapping[str, Any], run_after: datetime) -> Window:
    """The last minutes before the run, as many as ``lookback_minutes`` says."""
    given = params.get("lookback_minutes")
    try:
        minutes = 60 if given in (None, "") else int(given)
    except (TypeError, ValueError):
        minutes = 0
    if minutes < 1:
        raise WindowError(f"lookback_minutes: {given!r} is not a whole number of at least 1")
    # Whole minutes: two runs triggered within one minute then share a window instead of overlapping oddly.
    end = run_after.astimezone(UTC).replace(second=0, microsecond=0)
    return Window(
        start_at=end - timedelta(minutes=minutes),
        end_at=end,
        chosen_by=f"no logical date: the last {minutes} minutes before the run",
    )
