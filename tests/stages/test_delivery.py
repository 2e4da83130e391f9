"""
R16: a finding is claimed when it is delivered, so that a fetch that dies at any point loses none and gives none twice.

The process is really killed, at each of its steps; then come the retry of the same window, or only the next hour.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.soar.ledger.windows import CLAIM_LASTS, Windows
from include.soar.model import CaseBatch
from tests.soar.examples import at
from tests.stages.test_fetch import TinyFetch, event, serve
from tests.stages.tiny import TinyServer, context
from threat_response.runtime import settings
from threat_response.stages.extract import Extract

TEN, ELEVEN = ("2026-01-02T10:00", "2026-01-02T11:00"), ("2026-01-02T11:00", "2026-01-02T12:00")
LATE, FIRST, SECOND = event("late", "09:30"), event("first", "10:10"), event("second", "10:50")
KILLED = 9


class Flow:
    """Runs of the first two stages, with what Airflow keeps of each: what a task gave."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch

    def at(self, time: str) -> None:
        self.monkeypatch.setattr(settings, "now", lambda: at(time))

    def fetch(self, window: tuple[str, str], push: Callable[..., None] | None = None) -> None:
        kept = self.folder / f"{window[0]}.json"
        kept.unlink(missing_ok=True)  # as Airflow does before each try

        def keep(key: str, value: Any) -> None:
            kept.write_text(json.dumps(value), "utf-8")

        ti = SimpleNamespace(xcom_push=push or keep)
        given = TinyFetch(task_id="fetch").execute(context(*window) | {"ti": ti})
        (push or keep)(key="return_value", value=given)

    def killed_fetch(self, window: tuple[str, str], place: Any, name: str, *, after: bool) -> None:
        """The process dies before or after the first call of ``place.name``."""
        whole = getattr(place, name)

        def die(*args: Any, **kwargs: Any) -> Any:
            if after:
                whole(*args, **kwargs)
            os._exit(KILLED)

        def child() -> None:
            setattr(place, name, die)
            self.fetch(window)

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(60)
        assert process.exitcode == KILLED

    def extract(self, window: tuple[str, str]) -> list[str]:
        """Uids of the run's findings; none where nothing was given."""
        kept = self.folder / f"{window[0]}.json"
        if not kept.exists():
            return []
        task = Extract(task_id="extract", batches=[json.loads(kept.read_text("utf-8"))])
        return [f.uid for f in CaseBatch.model_validate(task.execute(context(*window))).findings]


@pytest.fixture
def flow(server: TinyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flow:
    serve(server, [LATE, FIRST, SECOND])
    settings.ledger().close()
    flow = Flow(tmp_path, monkeypatch)
    flow.at("2026-01-02T11:05")
    return flow


POINTS = [
    pytest.param(TinyFetch, "read", False, id="before it reads"),
    pytest.param(TinyFetch, "parse_all", False, id="before it parses"),
    pytest.param(settings, "ledger", False, id="before the ledger is opened"),
    pytest.param(Windows, "free_findings", False, id="before it looks which are free"),
    pytest.param(Windows, "free_findings", True, id="after it"),
    pytest.param(TinyFetch, "publish", False, id="before it gives them"),
    pytest.param(TinyFetch, "publish", True, id="between giving and claiming"),
    pytest.param(Windows, "_insert", True, id="in the middle of the claim"),
    pytest.param(Windows, "claim_findings", True, id="after the claim"),
    pytest.param(Windows, "record", False, id="before the window is recorded"),
    pytest.param(Windows, "record", True, id="after it"),
    pytest.param(TinyFetch, "execute", True, id="when all is done"),
]


@pytest.mark.parametrize(("place", "name", "after"), POINTS)
def test_a_retry_of_a_fetch_that_was_killed_gets_all(flow: Flow, place: Any, name: str, after: bool) -> None:
    flow.killed_fetch(TEN, place, name, after=after)
    flow.fetch(TEN)
    assert flow.extract(TEN) == ["late", "first", "second"]
    assert flow.extract(TEN) == ["late", "first", "second"]  # a retried extract
    flow.at("2026-01-02T12:05")
    flow.fetch(ELEVEN)
    assert flow.extract(ELEVEN) == []


@pytest.mark.parametrize(("place", "name", "after"), POINTS)
def test_the_next_hour_gets_what_a_fetch_that_was_killed_did_not_give(
    flow: Flow, place: Any, name: str, after: bool
) -> None:
    """Nobody reads the window again, but a batch that was given goes on (``extract`` runs when all are done)."""
    flow.killed_fetch(TEN, place, name, after=after)
    first = flow.extract(TEN)
    flow.at("2026-01-02T12:05")
    flow.fetch(ELEVEN)
    assert sorted(first + flow.extract(ELEVEN)) == ["first", "late", "second"]


def test_a_batch_that_the_database_refuses_is_claimed_by_nobody(flow: Flow) -> None:
    """As reported: JSONB refused the batch, and the hour's other attackers were never seen again."""

    def refuse(**_: Any) -> None:
        raise RuntimeError("Value rejected by database")

    flow.at("2026-01-02T12:05")
    with pytest.raises(RuntimeError):
        flow.fetch(TEN, push=refuse)
    # Not even a claim that must end: the next window may come at once.
    flow.fetch(ELEVEN)
    assert flow.extract(ELEVEN) == ["late", "first", "second"]


def test_a_claim_that_was_never_delivered_ends(flow: Flow) -> None:
    flow.at("2026-01-02T12:05")
    flow.fetch(TEN)  # and its run is never heard of again
    flow.fetch(ELEVEN)
    assert flow.extract(ELEVEN) == []
    later = at("2026-01-02T12:05") + CLAIM_LASTS
    flow.at((later - timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%S"))
    flow.fetch(ELEVEN)
    assert flow.extract(ELEVEN) == []
    flow.at(later.strftime("%Y-%m-%dT%H:%M:%S"))
    flow.fetch(ELEVEN)
    assert flow.extract(ELEVEN) == ["late", "first", "second"]
    # Its own hour is read again by whoever asks for it; what was late there belongs to the other one now.
    assert flow.extract(TEN) == ["first", "second"]


def test_of_two_windows_that_fetched_the_same_late_finding_the_first_to_deliver_has_it(flow: Flow) -> None:
    flow.at("2026-01-02T12:05")
    looked: datetime = settings.now()
    windows = settings.ledger().windows
    flow.fetch(TEN)
    # Both had looked before either of them claimed.
    flow.monkeypatch.setattr(Windows, "free_findings", lambda self, findings, **_: {f.uid for f in findings})
    flow.fetch(ELEVEN)
    assert flow.extract(ELEVEN) == ["late", "first", "second"]
    assert flow.extract(TEN) == ["first", "second"]
    assert flow.extract(ELEVEN) == ["late", "first", "second"]
    late = TinyFetch(task_id="x").parse(LATE)
    assert windows.claim_findings([late], window_key="another", now=looked) == {
        "late": "20260102T110000Z-20260102T120000Z"
    }
