"""Which window a run reads. The facts about Airflow are in ``window.py``; ``tests/dags`` holds Airflow to them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from include.soar.model import Window
from include.soar.window import WindowError, parse_instant, resolve_window
from tests.soar.examples import at

TEN, ELEVEN, TWELVE = at("2026-11-24T10:00"), at("2026-11-24T11:00"), at("2026-11-24T12:00")


def resolve(**given: Any) -> Window:
    """A scheduled run of 10 to 11, with ``given`` changed."""
    run: dict[str, Any] = {
        "params": {},
        "run_type": "scheduled",
        "run_after": ELEVEN,
        "logical_date": TEN,
        "interval_start": TEN,
        "interval_end": ELEVEN,
    }
    return resolve_window(**(run | given))


@pytest.mark.parametrize("run_type", ["scheduled", "backfill"])
def test_a_run_of_the_schedule_reads_its_interval(run_type: str) -> None:
    window = resolve(run_type=run_type)
    assert (window.start_at, window.end_at) == (TEN, ELEVEN)
    assert run_type in window.chosen_by


def test_a_manual_run_off_the_grid_reads_the_last_whole_interval() -> None:
    window = resolve(run_type="manual", logical_date=at("2026-11-24T11:20"))
    assert (window.start_at, window.end_at) == (TEN, ELEVEN)


def test_a_manual_run_on_the_grid_reads_the_interval_whose_key_it_takes() -> None:
    """Airflow will never make the scheduled run of 11 to 12 any more: were 10 to 11 read, 11 to 12 were lost."""
    window = resolve(run_type="manual", logical_date=ELEVEN)
    assert (window.start_at, window.end_at) == (ELEVEN, TWELVE)
    assert "manual" in window.chosen_by


@pytest.mark.parametrize("params", [{}, {"lookback_minutes": None}, {"lookback_minutes": 60}, {"lookback_minutes": ""}])
def test_a_run_without_a_logical_date_looks_back_from_when_it_ran(params: dict[str, Any]) -> None:
    run_after = datetime.fromisoformat("2026-11-24T12:34:56.789+01:00")
    window = resolve(
        params=params,
        run_type="manual",
        run_after=run_after,
        logical_date=None,
        interval_start=None,
        interval_end=None,
    )
    assert (window.start_at, window.end_at) == (at("2026-11-24T10:34"), at("2026-11-24T11:34"))


def test_an_empty_interval_is_no_interval() -> None:
    """What a cron string gives instead of CronDataIntervalTimetable."""
    window = resolve(interval_end=TEN, params={"lookback_minutes": 15})
    assert window.end_at - window.start_at == timedelta(minutes=15)


def test_explicit_parameters_win_over_everything() -> None:
    params = {"window_start": "2026-01-31T08:00:00Z", "window_end": "2026-01-31T11:30:00+02:00"}
    window = resolve(params=params, run_type="manual")
    assert (window.start_at, window.end_at) == (at("2026-01-31T08:00"), at("2026-01-31T09:30"))
    assert "window_start" in window.chosen_by


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({"window_start": "2026-01-31T08:00:00Z"}, "window_end"),
        ({"window_end": "2026-01-31T08:00:00Z"}, "window_start"),
        ({"window_start": "yesterday", "window_end": "2026-01-31T08:00:00Z"}, "window_start.*'yesterday'"),
        ({"window_start": "2026-01-31T08:00:00", "window_end": "2026-01-31T09:00:00Z"}, "window_start.*time zone"),
        ({"window_start": "2026-01-31T08:00:00Z", "window_end": "2026-01-31T09:00"}, "window_end.*time zone"),
        ({"window_start": "2026-01-31T08:00:00Z", "window_end": "2026-01-31T08:00:00Z"}, "window_end.*not after"),
        ({"window_start": "2026-01-31T09:00:00Z", "window_end": "2026-01-31T08:00:00Z"}, "window_end.*not after"),
    ],
)
def test_a_wrong_explicit_window_is_refused_by_name(params: dict[str, Any], names: str) -> None:
    with pytest.raises(WindowError, match=names):
        resolve(params=params, run_type="manual")


@pytest.mark.parametrize("run_type", ["scheduled", "backfill"])
def test_n20_an_explicit_window_is_refused_where_each_run_stands_for_its_own_hour(run_type: str) -> None:
    """A backfill of N hours would read the same window N times, be green, and read none of its hours."""
    params = {"window_start": "2026-01-31T08:00:00Z", "window_end": "2026-01-31T09:00:00Z"}
    with pytest.raises(WindowError, match=f"window_start, window_end: a {run_type} run"):
        resolve(params=params, run_type=run_type)
    half = {"window_start": "2026-01-31T08:00:00Z"}
    with pytest.raises(WindowError, match="window_end"):
        resolve(params=half, run_type=run_type)


@pytest.mark.parametrize("minutes", [0, -5, "many", [60]])
def test_a_wrong_look_back_is_refused_by_name(minutes: Any) -> None:
    with pytest.raises(WindowError, match="lookback_minutes"):
        resolve(params={"lookback_minutes": minutes}, logical_date=None, interval_start=None, interval_end=None)


def test_instants_become_utc() -> None:
    assert parse_instant(" 2026-01-31T10:00:00+02:00 ", "x") == at("2026-01-31T08:00")


def test_a_date_means_its_beginning_in_utc() -> None:
    assert parse_instant("2026-01-31", "x") == at("2026-01-31T00:00")


@pytest.mark.parametrize("text", ["2026-01-31T08:00", "2026-01-31 08:00:00", "yesterday", "2026-13-01", "", "08:00Z"])
def test_a_time_without_a_zone_is_refused_and_not_guessed(text: str) -> None:
    with pytest.raises(WindowError, match=r"^--from: .*(zone|not an ISO 8601 time)"):
        parse_instant(text, "--from")


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_outside_of_the_calendar_is_refused_by_name(text: str) -> None:
    with pytest.raises(WindowError, match=r"^window_start: .* lies outside of the calendar"):
        parse_instant(text, "window_start")
