"""
Killing a task's process at any of its calls to the outside: before a request, after the vendor has done it, before a
transaction of the ledger, and after its commit.

A part of the points is tried, by a fixed seed; ``CRASH=all`` tries every one (minutes).
"""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import pytest
from requests.adapters import HTTPAdapter

from include.soar.ledger.database import Database
from include.soar.vendor.errors import RateLimited, Unavailable
from threat_response.runtime import run as runtime

T = TypeVar("T")
SEED = "crash anywhere"
#: Points tried and those that did not end as an undisturbed run, by what was killed.
TRIED: Counter[str] = Counter()
DIFFERENT: Counter[str] = Counter()

_processes = itertools.count()


class Killed(BaseException):
    """As a process that is killed: nothing in between catches it."""


class Process:
    """
    A process of a worker, which is killed at one of the points that it passes, and does nothing outside from then on:
    what it claimed stays claimed.

    :param at: the point's number, from 0; None: it comes to its end
    """

    def __init__(self, at: int | None = None) -> None:
        self.at, self.passed, self.dead = at, 0, False
        self.name = f"test-process-{next(_processes)}"

    def point(self) -> None:
        self.dead = self.dead or self.passed == self.at
        if self.dead:
            raise Killed
        self.passed += 1


@contextmanager
def _processes_patched(process: Process, ended: set[str]) -> Iterator[None]:
    send, session = HTTPAdapter.send, Database.session

    def sending(*args: Any, **kwargs: Any) -> Any:
        process.point()
        answer = send(*args, **kwargs)
        process.point()
        return answer

    @contextmanager
    def writing(self: Database) -> Iterator[Any]:
        process.point()
        with session(self) as one:
            yield one
        process.point()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HTTPAdapter, "send", sending)
        patch.setattr(Database, "session", writing)
        # Each try is a process of its own; of a killed one the system says that it has ended.
        patch.setattr(runtime, "process_name", lambda: process.name)
        patch.setattr(runtime, "has_ended", lambda name: name in ended)
        yield


def killed(work: Callable[[], Any], at: int) -> str:
    """Do the work in a process that is killed at this point; the process's name."""
    process = Process(at)
    with _processes_patched(process, set()), suppress(Killed):
        work()
    return process.name


def undisturbed(work: Callable[[], Any], *ended: str) -> tuple[Any, int]:
    """What the work gives, tried again as Airflow would after an error that passes, and how many points there were."""
    for last in (False, False, True):
        process = Process()
        with _processes_patched(process, set(ended)):
            try:
                return work(), process.passed
            except (Unavailable, RateLimited):
                if last:
                    raise
    raise AssertionError


def chosen(everything: Sequence[T], most: int, name: str = "") -> list[T]:
    """All of it, or so many by a fixed seed, in their order."""
    if os.environ.get("CRASH") == "all" or len(everything) <= most:
        return list(everything)
    places = random.Random(f"{SEED} {name}").sample(range(len(everything)), most)
    return [everything[place] for place in sorted(places)]


def tell(request: pytest.FixtureRequest) -> None:
    """Print how many points were tried."""
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\nkilled at {sum(TRIED.values())} points, {sum(DIFFERENT.values())} differences: {dict(TRIED)}")
    TRIED.clear()
    DIFFERENT.clear()
