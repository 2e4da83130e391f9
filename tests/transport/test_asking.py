"""A round of questions over a real HTTP server and a real ledger, with a clock that only waiting moves."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection

from include.soar.enrich.quota import Account, Quota, QuotaSeen
from include.soar.ledger import Ledger
from include.soar.model import Answer, Observable, Reputation
from include.soar.policy.rules import EnrichmentPolicy
from include.soar.vendor.errors import RateLimited, Unauthorized, Unavailable
from include.soar.vendor.wire import Request, Response
from tests.soar.examples import NOW, address, policy
from tests.stages import tiny
from tests.stages.tiny import TinyServer
from tests.vendors.support import connect
from threat_response.transport.asking import Meter, NoAnswer, Round, metered
from threat_response.transport.form import Vendor
from threat_response.transport.hook import VendorHook

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
ACCOUNT = Account("tiny", "0123456789ab", "lookup")
DAILY = (Quota("lookup", 1000, DAY),)
VALUES = [address(f"203.0.113.{n}") for n in range(200)]


class AskingHook(VendorHook):
    declared = Vendor("tiny", "Tiny", "TinyHook", host="https://tiny.example")
    read: list[str] = []

    @classmethod
    def get_connection(cls, conn_id: str) -> Connection:
        cls.read.append(threading.current_thread().name)
        return super().get_connection(conn_id)

    def quota_seen(self, response: Response) -> QuotaSeen | None:
        left = response.headers.get("x-left")
        return QuotaSeen(limit=int(response.headers["x-limit"]), remaining=int(left)) if left else None

    def ask(self, observables: Sequence[Observable]) -> list[Reputation]:
        values = ",".join(o.value for o in observables)
        answer = self.send(Request("GET", "/ask", operation="ask", params=(("values", values),), timeout_seconds=5))
        return [
            Reputation(observable=o, provider="tiny", answer="listed", score=90, known_at=NOW)
            for o in observables
            if o.value not in json.loads(answer.body)
        ]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[TinyServer]:
    server = TinyServer()
    connect(monkeypatch, "tiny_default", "tiny", server.url, password="a-tiny-key")
    server.always = tiny.Answer(body=b"[]")
    yield server
    server.stop()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    yield ledger
    ledger.close()


class Scene:
    """A clock that only waiting moves, the rules, and what was stored."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.now = NOW
        self.waits: list[float] = []
        self.stored: dict[str, Reputation] = {}
        self.backfill = False

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += timedelta(seconds=seconds)

    def meter(self, quotas: Sequence[Quota] = DAILY, **rules: Any) -> Meter:
        chosen: EnrichmentPolicy = policy().enrichment.model_copy(update=rules)
        return Meter(self.ledger, ACCOUNT, quotas, chosen, self.backfill, now=lambda: self.now, wait=self.wait)

    def round(self, quotas: Sequence[Quota] = DAILY, **rules: Any) -> Round:
        return Round(
            call=lambda hook, some: hook.ask(some),
            hook=AskingHook(),
            meter=self.meter(quotas, **rules),
            known=lambda some: {o.key: self.stored[o.key] for o in some if o.key in self.stored},
            keep=lambda some: self.stored.update({r.observable.key: r for r in some}),
        )

    def left(self, quotas: Sequence[Quota] = DAILY, now: datetime | None = None) -> int | None:
        return self.ledger.quotas.left(ACCOUNT, quotas, backfill=False, live_share=0.3, now=now or self.now)


@pytest.fixture
def scene(ledger: Ledger) -> Scene:
    return Scene(ledger)


def asked(server: TinyServer) -> list[str]:
    return [dict(seen.query)["values"] for seen in server.seen]


def scores(results: dict[Observable, Reputation | NoAnswer]) -> list[int | None]:
    return [r.score if isinstance(r, Reputation) else None for r in results.values()]


def unanswered(results: dict[Observable, Reputation | NoAnswer]) -> list[NoAnswer]:
    return [r for r in results.values() if isinstance(r, NoAnswer)]


def answering(server: TinyServer, table: dict[str, tiny.Answer]) -> None:
    server.always = lambda seen: table.get(dict(seen.query)["values"], tiny.Answer(body=b"[]"))


# --- at the same time --------------------------------------------------------------------------------------------


def test_the_first_question_goes_alone_and_the_others_side_by_side_on_kept_connections(
    server: TinyServer, scene: Scene
) -> None:
    """Each answer after the first waits until as many questions are under way as the policy allows."""
    together, under_way, most = threading.Barrier(12), 0, 0
    lock = threading.Lock()

    def answer(seen: tiny.Seen) -> tiny.Answer:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
            alone = len(server.seen) == 1
        if not alone:
            together.wait(timeout=120)
        with lock:
            under_way -= 1
        return tiny.Answer(body=b"[]")

    server.always = answer
    AskingHook.read.clear()
    values = VALUES[:37]
    results = scene.round(connections=12).run([*values, *values])
    assert list(results) == values  # in the order of the questions, whatever the order of the answers
    assert scores(results) == [90] * 37
    assert sorted(asked(server)) == sorted(o.value for o in values)
    assert asked(server)[0] == values[0].value
    assert most == 12
    assert len({seen.port for seen in server.seen}) == 12
    # Airflow's line to the supervisor belongs to the task's own thread.
    assert AskingHook.read == [threading.current_thread().name]
    assert scene.left() == 1000 - 37


def test_a_bug_in_one_thread_ends_the_round_and_keeps_what_was_answered(server: TinyServer, scene: Scene) -> None:
    asking = scene.round(connections=4)

    def call(hook: AskingHook, some: Sequence[Observable]) -> list[Reputation]:
        if some[0] == VALUES[9]:
            raise ZeroDivisionError
        return hook.ask(some)

    asking.call = call
    with pytest.raises(ZeroDivisionError):
        asking.run(VALUES)
    assert len(server.seen) < 100
    assert len(scene.stored) == len(server.seen)
    left = scene.left()
    assert left is not None
    assert left == 1000 - len(server.seen) - 1  # the others were given back


def test_what_another_run_was_told_meanwhile_is_not_asked(server: TinyServer, scene: Scene) -> None:
    values = VALUES[:40]
    other = {
        o.key: Reputation(observable=o, provider="tiny", answer="not_listed", score=0, known_at=NOW) for o in values
    }

    def answer(seen: tiny.Seen) -> tiny.Answer:
        scene.stored.update({key: r for key, r in other.items() if key != values[0].key})
        return tiny.Answer(body=b"[]")

    server.always = answer
    results = scene.round().run(values)
    assert asked(server) == [values[0].value]
    assert scores(results) == [90] + [0] * 39


# --- one value's failure -----------------------------------------------------------------------------------------


def test_what_is_refused_costs_its_value_and_a_list_is_halved_until_it_is_alone(
    server: TinyServer, scene: Scene
) -> None:
    bad = VALUES[5].value
    server.always = lambda seen: tiny.Answer(422 if bad in dict(seen.query)["values"].split(",") else 200, b"[]")
    results = scene.round().run(VALUES[:16], at_once=8)
    assert [o.value for o, r in results.items() if isinstance(r, NoAnswer)] == [bad]
    assert unanswered(results)[0].answer is Answer.ERROR
    assert unanswered(results)[0].retry_at is None  # it would be refused again
    assert len(server.seen) == 2 + 2 + 2 + 2
    assert scene.left() == 1000 - 8


def test_a_value_that_is_passed_over_has_no_answer(server: TinyServer, scene: Scene) -> None:
    server.always = tiny.Answer(body=json.dumps([VALUES[1].value]).encode())
    results = scene.round().run(VALUES[:3], at_once=3)
    assert scores(results) == [90, None, 90]
    assert "passed over" in unanswered(results)[0].why


def test_a_blip_is_tried_again_at_the_end(server: TinyServer, scene: Scene) -> None:
    fails = [tiny.Answer(503)]

    def answer(seen: tiny.Seen) -> tiny.Answer:
        return fails.pop() if fails and dict(seen.query)["values"] == VALUES[2].value else tiny.Answer(body=b"[]")

    server.always = answer
    assert scores(scene.round(connections=1).run(VALUES[:5])) == [90] * 5
    assert asked(server)[-1] == VALUES[2].value


# --- the quota ---------------------------------------------------------------------------------------------------


def test_a_quota_that_renews_soon_is_waited_for_and_one_that_does_not_is_not(server: TinyServer, scene: Scene) -> None:
    """Four a minute, as of a free key of VirusTotal."""
    quotas = (Quota("lookup", 4, MINUTE), *DAILY)
    results = scene.round(quotas, longest_wait_seconds=90).run(VALUES[:12])
    assert scores(results) == [90] * 8 + [None] * 4
    assert scene.waits == [60]
    for one in unanswered(results):
        assert one.answer is Answer.NOT_CHECKED
        assert one.retry_at == scene.now + MINUTE
        assert one.why == "4 lookup a minute are used up; asked again from 2026-11-24 12:02:00 UTC on"
    assert scene.left() == 1000 - 8


def test_the_first_answer_tells_how_many_the_others_may_be(server: TinyServer, scene: Scene) -> None:
    served = iter(range(1000))
    server.always = lambda seen: tiny.Answer(body=b"[]", headers={"X-Limit": "50", "X-Left": str(9 - next(served))})
    results = scene.round(connections=1).run(VALUES)
    assert sum(score is not None for score in scores(results)) == len(server.seen) == 10
    assert {s.why.split(";")[0] for s in unanswered(results)} == {"50 lookup a day are used up"}


def test_a_backfill_stops_at_its_share(server: TinyServer, scene: Scene) -> None:
    quotas = (Quota("lookup", 10, DAY),)
    scene.backfill = True
    results = scene.round(quotas).run(VALUES[:20])
    assert len(server.seen) == 7
    assert unanswered(results)[0].why.startswith("the backfills' 7 of 10 lookup a day are used up")
    scene.backfill = False
    assert len(scene.round(quotas).run(VALUES[:3])) == 3
    assert scene.left(quotas) == 3  # what was known was not asked for again


def test_a_429_ends_the_round_with_a_time_and_nobody_asks_before(server: TinyServer, scene: Scene) -> None:
    until = NOW + timedelta(seconds=29_242)
    answering(server, {VALUES[3].value: tiny.Answer(429, headers={"Retry-After": "29241"})})
    results = scene.round(connections=1).run(VALUES[:30])
    assert scores(results) == [90] * 3 + [None] * 27
    assert {(s.answer, s.retry_at) for s in unanswered(results)} == {(Answer.NOT_CHECKED, until)}
    assert "asked again from 2026-11-24 20:07:22 UTC on" in unanswered(results)[0].why
    assert scene.left() == 1000 - 4  # what had been reserved for the rest was given back
    server.seen.clear()
    again = scene.round().run(VALUES[:30])  # as another task, a minute later
    assert (len(server.seen), scores(again)) == (0, [None] * 30)
    scene.now = until
    server.always = tiny.Answer(body=b"[]")
    assert scores(scene.round().run(VALUES[:30])) == [90] * 30


# --- the breaker -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [503, 302])
def test_failures_in_a_row_open_the_breaker_and_one_probe_closes_it(
    server: TinyServer, scene: Scene, status: int
) -> None:
    server.always = tiny.Answer(status)
    results = scene.round().run(VALUES[:20])
    assert len(server.seen) == 3
    assert [s.answer for s in unanswered(results)] == [Answer.ERROR] * 3 + [Answer.NOT_CHECKED] * 17
    assert unanswered(results)[-1].retry_at == NOW + 5 * MINUTE
    scene.now += 4 * MINUTE
    scene.round().run(VALUES[:20])
    assert len(server.seen) == 3
    scene.now += MINUTE
    still = scene.round().run(VALUES[:20])
    assert len(server.seen) == 4  # one question is enough to see that it is still down
    assert unanswered(still)[-1].retry_at == scene.now + 10 * MINUTE  # twice as long
    scene.now += 10 * MINUTE
    server.always = tiny.Answer(body=b"[]")
    assert scores(scene.round().run(VALUES[:20])) == [90] * 20
    server.always = tiny.Answer(status)
    assert unanswered(scene.round().run(VALUES[20:40]))[-1].retry_at == scene.now + 5 * MINUTE


def test_failures_here_and_there_do_not(server: TinyServer, scene: Scene) -> None:
    answering(server, {VALUES[n].value: tiny.Answer(503) for n in range(2, 20, 2)})
    results = scene.round(connections=1).run(VALUES[:20])
    # Each is tried again at the end, and there they meet.
    assert sum(score is not None for score in scores(results)) == 11
    assert len(server.seen) == 20 + 3


def test_a_wrong_key_is_found_out_with_one_call(server: TinyServer, scene: Scene) -> None:
    server.always = tiny.Answer(401)
    results = scene.round().run(VALUES[:20])
    assert len(server.seen) == 1
    assert {(s.answer, s.retry_at) for s in unanswered(results)} == {(Answer.ERROR, NOW)}
    assert scene.left() == 1000 - 1


# --- a single call -----------------------------------------------------------------------------------------------


def test_a_single_call_is_metered_as_well(scene: Scene) -> None:
    quotas = (Quota("lookup", 2, DAY),)
    for _ in range(2):
        with metered(scene.meter(quotas)):
            pass
    with pytest.raises(RateLimited, match="2 lookup a day are used up") as caught, metered(scene.meter(quotas)):
        raise AssertionError("it was let through")
    assert caught.value.retry_after == 12 * 3600


@pytest.mark.parametrize(
    ("error", "opens"),
    [
        (RateLimited("tiny", "ask", "spent", retry_after=60), True),
        (Unavailable("tiny", "ask", "down"), False),
        (Unauthorized("tiny", "ask", "no"), False),
    ],
)
def test_a_single_call_that_is_refused_opens_the_breaker(
    scene: Scene, error: Exception, opens: bool, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(type(error)), metered(scene.meter()):
        raise error
    closed: Callable[[], NoAnswer | None] = scene.meter().closed
    assert (closed() is not None) == opens
    scene.now += 2 * MINUTE
    with metered(scene.meter()):
        pass
    assert scene.meter().closed() is None
