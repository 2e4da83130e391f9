"""
Killed at any call to the outside, in any task of a run, of a lift or of a reconcile, and tried again as Airflow would:
every simulator, the ledger and each incident's comments are as an undisturbed run leaves them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import crash
from tests.stages.crashing.day import TASKS, Day
from tests.support import SimServer

#: In ``make test``: so many of the tasks, each killed at so many points.
SOME, POINTS = 8, 1
Left = dict[str, Any]


@dataclass
class Undisturbed:
    """By task: the points that it passed, and all that there was after it."""

    passed: dict[str, int] = field(default_factory=dict)
    after: dict[str, Left] = field(default_factory=dict)
    left: Left = field(default_factory=dict)


@pytest.fixture
def begin(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[], Day]]:
    numbers = itertools.count()
    with monkeypatch.context() as patch:
        yield lambda: Day(sim, patch, tmp_path / str(next(numbers)), request)


@pytest.fixture(scope="module")
def kept() -> dict[str, Undisturbed]:
    """What the first test made, for the others."""
    return {}


@pytest.fixture
def undisturbed(begin: Callable[[], Day], kept: dict[str, Undisturbed]) -> Undisturbed:
    if not kept:
        day, whole = begin(), Undisturbed()
        for task in TASKS:
            day.given[task], whole.passed[task] = crash.undisturbed(day.work(task))
            whole.after[task] = day.left() | {"given": day.named(repr(day.given))}
        whole.left = day.left()
        kept["whole"] = whole
    return kept["whole"]


def killed(day: Day, killed_task: str, at: int, whole: Undisturbed) -> Left:
    """What there is in the end when this task is killed once, at this point."""
    for task in TASKS:
        ended = [crash.killed(day.work(task), at)] if task == killed_task else []
        day.given[task], _ = crash.undisturbed(day.work(task), *ended)
        if ended and day.left() | {"given": day.named(repr(day.given))} == whole.after[task]:
            return whole.left  # and so is what follows, which is the same work on the same
    return day.left()


@pytest.fixture(scope="module", autouse=True)
def told(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    crash.tell(request)


@pytest.mark.parametrize("task", crash.chosen(list(TASKS), SOME))
def test_killed_anywhere_it_ends_as_an_undisturbed_run(
    begin: Callable[[], Day], undisturbed: Undisturbed, task: str
) -> None:
    left = undisturbed.left
    assert undisturbed.passed[task] > 0
    assert left["chain"] == []
    different = {}
    for at in crash.chosen(range(undisturbed.passed[task]), POINTS, task):
        crash.TRIED[task] += 1
        found = killed(begin(), task, at, undisturbed)
        if found != left:
            crash.DIFFERENT[task] += 1
            different[at] = [f"{name}: {_apart(left[name], found[name])}" for name in left if left[name] != found[name]]
    assert different == {}


def _apart(left: Any, found: Any) -> str:
    """Where two that are not equal begin to differ."""
    one, other = repr(left), repr(found)
    equal = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    start = max(equal - 60, 0)
    return f"{one[start : start + 160]} | {other[start : start + 160]}"
