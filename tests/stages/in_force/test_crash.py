"""
Killed at any call to a vendor or to the ledger, before it or after it: the retry ends where an undisturbed run does,
nobody is taken for having removed what we removed ourselves, and the incidents are told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from include.soar.model import Observable
from tests import crash
from tests.stages.controls import POLICY
from tests.stages.in_force.conftest import IP, Held
from tests.support import SimServer
from threat_response import groups

EVIL, WORSE = "198.51.100.7", "198.51.100.8"
#: Points of each in ``make test``.
POINTS = 2
#: A control with both addresses in force, by a name.
Begin = Callable[[str], Held]


@pytest.fixture(scope="module", autouse=True)
def told(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    crash.tell(request)


@pytest.fixture
def begin(sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> Iterator[Begin]:
    kind = import_module(f"tests.vendors.{name}.contract").SUBJECT
    with monkeypatch.context() as patch:

        def made(folder: str) -> Held:
            patch.undo()
            patch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
            patch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path / folder))
            sim.world.reset()
            held = Held(kind(sim, patch), patch)
            held.blocked(EVIL, WORSE)
            return held

        yield made


def expire(held: Held, context: Any) -> dict[str, str]:
    return held.reconcile(context, only_expired=True)


def lift(held: Held, context: Any) -> dict[str, str]:
    return held.lift(EVIL, WORSE, context=context)


def prepared(begin: Begin, work: Callable[..., dict[str, str]], folder: str) -> tuple[Held, Callable[[], Any]]:
    held = begin(folder)
    if work is expire:
        held.put_forward(days=8)
    context = held.context(run_id="the-run")
    return held, lambda: work(held, context)


@pytest.mark.parametrize("work", [expire, lift], ids=lambda work: work.__name__)
@pytest.mark.parametrize("name", list(groups.controls()))
def test_killed_anywhere_the_retry_ends_where_an_undisturbed_run_does(
    begin: Begin, name: str, work: Callable[..., dict[str, str]]
) -> None:
    _, points = crash.undisturbed(prepared(begin, work, "undisturbed")[1])
    assert points > 10
    for at in crash.chosen(range(points), POINTS, f"{name} {work.__name__}"):
        crash.TRIED[f"{work.__name__}, {name}"] += 1
        held, attempt = prepared(begin, work, str(at))
        ended = crash.killed(attempt, at)
        told = {**crash.undisturbed(attempt, ended)[0], **crash.undisturbed(attempt)[0]}
        where = f"killed at point {at}"
        assert held.subject.held() == set(), where
        assert held.subject.enforced() == set(), where
        assert held.in_force() == {}, where
        assert set(told) == {EVIL, WORSE}, where
        assert "not_ours" not in told.values(), where
        persons = held.ledger.actions.lifted([Observable(type=IP, value=v) for v in (EVIL, WORSE)])
        assert {one.control for one in persons.values()} <= {""}, where


@pytest.mark.parametrize("name", list(groups.controls()))
def test_killed_while_a_lost_ledger_fills_up_again(begin: Begin, name: str) -> None:
    def lost(folder: str) -> Held:
        held = begin(folder)
        held.subject.lose_ledger()
        held.in_force()  # its tables are made
        return held

    _, points = crash.undisturbed(lost("undisturbed").reconcile)
    for at in crash.chosen(range(points), POINTS, name):
        crash.TRIED[f"lost ledger, {name}"] += 1
        held = lost(str(at))
        ended = crash.killed(held.reconcile, at)
        crash.undisturbed(held.reconcile, ended)
        assert held.subject.held() == set(held.in_force()) == {EVIL, WORSE}, f"killed at point {at}"
