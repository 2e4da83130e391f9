"""
3f: two tries of one run at the same time, as after a worker that was given up for dead and still works, leave what one
undisturbed try leaves. Whatever one of them looks at, the other one may look at the same moment.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from include.soar.incident import marks
from include.soar.model import IncidentBatch, Role
from include.soar.vendor.errors import RateLimited, Rejected, Unavailable
from tests.stages.incidents.incident_examples import ATTACKER, SECOND, actions, case, context, finding
from tests.stages.incidents.incident_products import Product
from tests.stages.incidents.incident_runs import Json, Runs
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.stages import incident_system

#: After each of these a try writes, going by what it saw.
LOOKS = frozenset({"created_since", "get", "comments", "attached", "linked"})
TRIES = 200


class Meeting:
    """A product at which two tries wait for each other after each look: both see the same, and then both write."""

    def __init__(self, system: Any, barrier: threading.Barrier) -> None:
        self.system = system
        self.barrier = barrier

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.system, name)
        if name not in LOOKS:
            return value

        def look(*args: Any) -> Any:
            seen = value(*args)
            # Where the other one is kept from looking nobody comes, and we go on alone.
            with suppress(threading.BrokenBarrierError):
                self.barrier.wait(0.1)
            if self.barrier.broken:
                self.barrier.reset()
            return seen

        return look


@pytest.fixture
def meeting(product: Product, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    barrier = threading.Barrier(2)
    connect = incident_system.incident_system

    def connected(*args: Any, **kwargs: Any) -> Any:
        return Meeting(connect(*args, **kwargs), barrier)

    monkeypatch.setattr(incident_system, "incident_system", connected)
    settings.ledger().close()  # migrated once, before two do it
    yield
    barrier.abort()


def both(attempt: Callable[[Json], Json]) -> list[Json]:
    """Two tries of one task at once, each tried again as Airflow would; what each gave in the end."""
    pause = threading.Event()

    def one(_: int) -> Json:
        for _ in range(TRIES):
            try:
                return attempt(context("one-run"))
            except (Unavailable, RateLimited, Rejected):
                pause.wait(0.02)
        return attempt(context("one-run"))

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(2)))


@pytest.mark.usefixtures("meeting")
def test_two_tries_of_one_run_leave_what_one_leaves(product: Product, runs: Runs) -> None:
    older = product.seed("an older one", ATTACKER)
    seen = {ATTACKER: [("f-1", Role.ATTACKER), ("f-2", Role.ATTACKER)], SECOND: [("f-1", Role.ATTACKER)]}
    batch = case(finding("f-1"), finding("f-2"), seen=seen)

    opened = both(lambda ctx: runs.open(batch, ctx=ctx))
    refs = [[(r.finding_uid, r.unique_id) for r in IncidentBatch.model_validate(one).incidents] for one in opened]
    assert refs[0] == refs[1]
    first, *ours = product.held()
    assert first.id == older
    assert [held.state for held in ours] == ["open", "open"]  # and no twin that was closed again
    by_mark = {marks.marker_in(held.title): held.id for held in ours}
    one, two = by_mark[marks.marker("f-1")], by_mark[marks.marker("f-2")]
    assert (product.attached(one), product.attached(two)) == ([ATTACKER, SECOND], [ATTACKER])

    both(lambda ctx: runs.relate(batch, opened[0], ctx=ctx))
    told = product.comments(older)
    for id in (one, two):
        assert sum(marks.relation_reference(older, id) in comment for comment in told) == 1
    assert len(told) == 2
    assert len(product.links()) == len({frozenset(link) for link in product.links()})

    before = {id: len(product.comments(id)) for id in (one, two)}
    both(lambda ctx: runs.update(batch, opened[0], actions={"waf": actions()}, ctx=ctx))
    for id in (one, two):
        assert len(product.comments(id)) == before[id] + 1


def test_a_try_that_wakes_up_too_late_does_not_write(
    product: Product, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claim has ended and another one has written: what it saw before is old."""
    batch = case(finding("f-1"))
    opened = runs.open(batch)
    id = product.held()[0].id
    connect = incident_system.incident_system

    class Sleeper:
        def __init__(self, system: Any) -> None:
            self.system = system

        def __getattr__(self, name: str) -> Any:
            if name != "comments":
                return getattr(self.system, name)

            def comments(asked: str) -> Any:
                seen = self.system.comments(asked)
                # The lease has ended in the meantime, and another try has done all of it.
                monkeypatch.setattr(incident_system, "incident_system", connect)
                with monkeypatch.context() as later:
                    now = settings.now() + incident_system.COMMENT_LEASE
                    later.setattr(settings, "now", lambda: now)
                    runs.update(batch, opened, actions={"waf": actions()}, ctx=context("one-run"))
                return seen

            return comments

    monkeypatch.setattr(incident_system, "incident_system", lambda *a, **k: Sleeper(connect(*a, **k)))
    with pytest.raises(Unavailable, match="took too long"):
        runs.update(batch, opened, actions={"waf": actions()}, ctx=context("one-run"))
    assert len(product.comments(id)) == 1


def test_each_try_has_a_name_of_its_own() -> None:
    one, two = Run.of(context("one-run")), Run.of(context("one-run"))
    assert one.name == two.name
    assert one.claimant != two.claimant
    assert one.claimant == one.claimant
    assert one.claimant.startswith(f"{one.name}#")
    assert len(one.claimant) <= 512
