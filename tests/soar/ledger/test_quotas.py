"""Quotas, breakers, answers with their times, and what a later run finishes: the ledger on SQLite and on Postgres."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from include.soar.enrich.quota import Account, Quota, QuotaSeen, Reservation, backfills_part, shut_for
from include.soar.enrich.sift import Unfinished
from include.soar.ledger import Ledger
from include.soar.ledger.tables import Table
from include.soar.model import FetchBatch
from tests.soar.examples import NOW, address, at, finding, reputation, window
from tests.soar.ledger.postgres import Postgres

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
CHECKS = Quota("check", 1000, DAY)
BURST = (Quota("lookup", 4, MINUTE), Quota("lookup", 50, DAY))
ACCOUNT = Account("abuseipdb", "0123456789ab", "check")
LOOKUPS = Account("virustotal", "0123456789ab", "lookup")
MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> str:
    return postgres.new_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty ledger."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    url: str = request.getfixturevalue("database")
    with contextlib.closing(Ledger(url)) as ledger, ledger.database.engine.begin() as connection:
        # One database for all: making and migrating one takes longer than any test here.
        connection.execute(text(f"TRUNCATE {', '.join(Table.metadata.tables)}"))
    return url


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with contextlib.closing(Ledger(url)) as ledger:
        yield ledger


def reserve(ledger: Ledger, wanted: int, *, backfill: bool = False, now: datetime = NOW, **more: Any) -> Reservation:
    fields = {"account": ACCOUNT, "quotas": (CHECKS,), "live_share": 0.3} | more
    return ledger.quotas.reserve(
        fields["account"], fields["quotas"], wanted, backfill=backfill, live_share=fields["live_share"], now=now
    )


# --- the periods -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "now", "start", "end"),
    [
        (DAY, "2026-11-24T23:59:59", "2026-11-24T00:00", "2026-11-25T00:00"),
        (DAY, "2026-11-25T00:00", "2026-11-25T00:00", "2026-11-26T00:00"),
        (MINUTE, "2026-11-24T12:00:59", "2026-11-24T12:00", "2026-11-24T12:01"),
        (7 * DAY, "2026-11-29T23:00", "2026-11-23T00:00", "2026-11-30T00:00"),  # from Monday to Monday
    ],
)
def test_a_period_ends_when_the_providers_does(period: timedelta, now: str, start: str, end: str) -> None:
    quota = Quota("q", 1, period)
    assert (quota.period_start(at(now)), quota.renews_at(at(now))) == (at(start), at(end))


def test_how_long_a_provider_is_left_alone() -> None:
    assert shut_for((CHECKS,), 29_241) == timedelta(seconds=29_242)
    assert shut_for((CHECKS,), 10**12) == DAY  # by then everything is renewed, whatever it says
    assert shut_for(BURST, None) == MINUTE  # nobody says which of the two is spent
    assert shut_for((), 7) == timedelta(seconds=8)
    assert shut_for((), None) is None


def test_a_backfills_part_is_whole_calls() -> None:
    assert [backfills_part(n, 0.3) for n in (1000, 10, 4, 1)] == [700, 7, 2, 0]
    assert [backfills_part(1000, share) for share in (0, 0.9, 1)] == [1000, 100, 0]


# --- reserving ---------------------------------------------------------------------------------------------------


def test_what_is_granted_once_is_granted_to_nobody_else(ledger: Ledger) -> None:
    assert reserve(ledger, 990).granted == 990
    last = reserve(ledger, 24)
    assert (last.granted, last.again_at) == (10, MIDNIGHT)
    none = reserve(ledger, 1)
    assert (none.granted, none.why, none.again_at) == (0, "1,000 check a day are used up", MIDNIGHT)
    # Another key, another kind of call, and the next day are counted by themselves.
    assert reserve(ledger, 1, account=replace(ACCOUNT, key="another")).granted == 1
    assert reserve(ledger, 1, account=replace(ACCOUNT, name="block"), quotas=(Quota("block", 1, DAY),)).granted == 1
    assert reserve(ledger, 1001, now=MIDNIGHT).granted == 1000


def test_a_backfill_leaves_the_live_runs_their_share(ledger: Ledger) -> None:
    first = reserve(ledger, 1000, backfill=True)
    assert (first.granted, first.why) == (700, "the backfills' 700 of 1,000 check a day are used up")
    assert reserve(ledger, 1, backfill=True).granted == 0
    assert reserve(ledger, 1000).granted == 300
    # What the live runs have used before is not the backfill's either.
    assert reserve(ledger, 900, now=MIDNIGHT).granted == 900
    assert reserve(ledger, 500, backfill=True, now=MIDNIGHT).granted == 100


def test_a_burst_and_a_day_hold_both(ledger: Ledger) -> None:
    def lookups(wanted: int, now: datetime) -> Reservation:
        return reserve(ledger, wanted, account=LOOKUPS, quotas=BURST, now=now)

    assert lookups(3, at("2026-11-24T12:00:10")).granted == 3
    assert lookups(3, at("2026-11-24T12:00:58")).granted == 1
    none = lookups(1, at("2026-11-24T12:00:59"))
    assert (none.granted, none.why) == (0, "4 lookup a minute are used up")
    # Not at 12:01: nobody says where the provider's minute begins, and this would be the fifth within two seconds.
    assert lookups(4, at("2026-11-24T12:01:00")).granted == 0
    assert lookups(4, at("2026-11-24T12:01:57")).again_at == at("2026-11-24T12:01:58") == none.again_at
    assert lookups(9, at("2026-11-24T12:01:58")).granted == 4
    granted = 8
    for n in range(1, 12):
        granted += lookups(9, at("2026-11-24T12:01:58") + n * MINUTE).granted
    assert granted == 50
    spent = lookups(9, at("2026-11-24T20:00"))
    assert (spent.granted, spent.why, spent.again_at) == (0, "50 lookup a day are used up", MIDNIGHT)


def test_without_a_quota_everything_is_granted(ledger: Ledger) -> None:
    assert reserve(ledger, 10**6, quotas=()) == Reservation(10**6)
    assert ledger.quotas.left(ACCOUNT, (), backfill=False, live_share=0.3, now=NOW) is None


def test_what_is_left_can_be_asked_without_taking_it(ledger: Ledger) -> None:
    def left(**more: Any) -> int | None:
        return ledger.quotas.left(ACCOUNT, (CHECKS,), **({"backfill": False, "live_share": 0.3, "now": NOW} | more))

    reserve(ledger, 400)
    assert (left(), left(), left(backfill=True), left(now=MIDNIGHT)) == (600, 600, 600, 1000)


# --- settling ----------------------------------------------------------------------------------------------------


def settle(ledger: Ledger, reservation: Reservation, seen: QuotaSeen | None = None, **more: Any) -> None:
    fields: dict[str, Any] = {"unused": 0, "backfill": False, "now": NOW} | more
    ledger.quotas.give_back(ACCOUNT, reservation, seen=seen, **fields)


def left(ledger: Ledger, *, backfill: bool = False, now: datetime = NOW) -> int | None:
    return ledger.quotas.left(ACCOUNT, (CHECKS,), backfill=backfill, live_share=0.3, now=now)


def test_what_was_not_used_is_given_back(ledger: Ledger) -> None:
    settle(ledger, reserve(ledger, 700, backfill=True), unused=200, backfill=True)
    assert (left(ledger), left(ledger, backfill=True)) == (500, 200)


def test_the_answers_headers_win(ledger: Ledger) -> None:
    mine = reserve(ledger, 10)
    settle(ledger, mine, QuotaSeen(limit=1000, remaining=300))  # somebody else uses the key too
    assert left(ledger) == 300
    settle(ledger, mine, QuotaSeen(limit=1000, remaining=800))  # an older answer that came later
    assert left(ledger) == 300
    settle(ledger, mine, QuotaSeen(limit=3000, remaining=2300))  # a better plan
    assert left(ledger) == 2300
    settle(ledger, mine, QuotaSeen(remaining=0))
    assert left(ledger) == 0
    settle(ledger, mine, unused=10)  # does not undo what the provider has told
    assert left(ledger) == 0


def test_a_header_says_nothing_about_another_period(ledger: Ledger) -> None:
    """An answer of yesterday's last second that is settled today must not cost today's calls."""
    yesterday = reserve(ledger, 10)
    assert reserve(ledger, 1, now=MIDNIGHT).granted == 1
    settle(ledger, yesterday, QuotaSeen(limit=1000, remaining=0), now=MIDNIGHT)
    assert left(ledger, now=MIDNIGHT) == 999


def test_a_day_that_ends_at_another_hour_is_learnt(ledger: Ledger) -> None:
    five = at("2026-11-25T05:00")
    settle(ledger, reserve(ledger, 1), QuotaSeen(limit=1000, remaining=0, resets_at=five))
    assert reserve(ledger, 1, now=MIDNIGHT).again_at == five
    assert reserve(ledger, 1000, now=five).granted == 1000
    assert reserve(ledger, 1, now=five + DAY - MINUTE).again_at == five + DAY
    # What cannot be is not believed.
    settle(ledger, reserve(ledger, 1, now=five + DAY), QuotaSeen(resets_at=five + 90 * DAY), now=five + DAY)
    assert reserve(ledger, 2000, now=five + DAY).again_at == five + 2 * DAY


def test_numbers_that_no_column_holds(ledger: Ledger) -> None:
    """Postgres refuses them: an answer with such a header cost the task, and with it the round's answers."""
    settle(ledger, reserve(ledger, 1), QuotaSeen(limit=99_999_999_999, remaining=99_999_999_990))
    assert left(ledger) == 2**31 - 2
    endless = (Quota("check", 10**12, DAY),)
    assert reserve(ledger, 5, account=replace(ACCOUNT, key="another"), quotas=endless).granted == 5


def test_a_clock_that_was_years_ahead_does_not_end_the_quota_until_then(ledger: Ledger) -> None:
    assert reserve(ledger, 1000, now=NOW + timedelta(days=36_500)).granted == 1000
    assert reserve(ledger, 600).granted == 600
    assert (left(ledger), left(ledger, now=MIDNIGHT)) == (400, 1000)
    pauses = {"pause": None, "first_pause": HOUR, "longest_pause": HOUR}
    ledger.quotas.open_breaker(ACCOUNT, reason="down", now=NOW + timedelta(days=36_500), **pauses)
    assert ledger.quotas.admit(ACCOUNT, now=NOW).probe


# --- at the same time --------------------------------------------------------------------------------------------


def test_two_workers_and_a_backfill_never_exceed_a_free_key(url: str) -> None:
    """Each with a ledger of its own, as processes have; reserving in pieces, and giving some back."""
    Ledger(url).close()

    def work(who: int) -> int:
        used, backfill = 0, who == 2
        with contextlib.closing(Ledger(url)) as ledger:
            for turn in range(60):
                mine = reserve(ledger, 17, backfill=backfill)
                if not mine.granted:
                    break
                unused = mine.granted // 5 if turn % 3 == 0 else 0
                settle(ledger, mine, unused=unused, backfill=backfill)
                used += mine.granted - unused
        return used

    with ThreadPoolExecutor(3) as pool:
        used = list(pool.map(work, range(3)))
    assert sum(used) == 1000
    assert used[2] <= 700
    with contextlib.closing(Ledger(url)) as ledger:
        assert left(ledger) == 0


def test_of_many_who_may_probe_one_does(url: str) -> None:
    with contextlib.closing(Ledger(url)) as ledger:
        trip(ledger, pause=MINUTE)

    def probe(_: int) -> bool:
        with contextlib.closing(Ledger(url)) as ledger:
            return ledger.quotas.admit(ACCOUNT, now=NOW + MINUTE).probe

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(probe, range(4))) == 1


# --- the breaker -------------------------------------------------------------------------------------------------


def trip(ledger: Ledger, pause: timedelta | None = None, now: datetime = NOW) -> datetime:
    return ledger.quotas.open_breaker(
        ACCOUNT, reason="down", pause=pause, first_pause=5 * MINUTE, longest_pause=HOUR, now=now
    )


def test_an_open_breaker_lets_nobody_through_and_then_one(ledger: Ledger) -> None:
    assert ledger.quotas.admit(ACCOUNT, now=NOW).closed_until is None
    until = trip(ledger)
    assert until == NOW + 5 * MINUTE
    closed = ledger.quotas.admit(ACCOUNT, now=until - timedelta(seconds=1))
    assert (closed.closed_until, closed.why) == (until, "down")
    assert ledger.quotas.admit(replace(ACCOUNT, name="blacklist"), now=NOW).closed_until is None
    assert ledger.quotas.admit(ACCOUNT, now=until).probe
    assert ledger.quotas.admit(ACCOUNT, now=until).closed_until == until + 2 * MINUTE  # the probe is under way
    assert ledger.quotas.admit(ACCOUNT, now=until + 2 * MINUTE).probe  # whose task seems to be dead
    ledger.quotas.close_breaker(ACCOUNT)
    assert ledger.quotas.admit(ACCOUNT, now=until + 2 * MINUTE) == ledger.quotas.admit(ACCOUNT, now=NOW)


def test_a_breaker_that_opens_again_stays_open_twice_as_long(ledger: Ledger) -> None:
    assert [(trip(ledger) - NOW) // MINUTE for _ in range(6)] == [5, 10, 20, 40, 60, 60]
    assert trip(ledger, pause=MINUTE) == NOW + MINUTE  # the provider's own word counts
    ledger.quotas.close_breaker(ACCOUNT)
    assert trip(ledger) == NOW + 5 * MINUTE


# --- answers and their times -------------------------------------------------------------------------------------

EVIL, OTHER = address("203.0.113.7"), address("203.0.113.8")


def test_what_was_known_at_any_time_can_be_asked(ledger: Ledger) -> None:
    before, after = reputation(EVIL, 20), reputation(EVIL, 90, known_at=NOW + 6 * HOUR)
    ledger.answers.store([(before, 6 * HOUR), (after, DAY), (reputation(OTHER, 1, provider="list_feed"), HOUR)])

    def known(now: datetime, *, stale: bool = False) -> Any:
        return ledger.answers.known("abuseipdb", [EVIL, OTHER], now=now, stale=stale).get(EVIL.key)

    assert known(NOW - MINUTE) is None
    assert known(NOW) == known(NOW + 5 * HOUR) == before
    assert known(NOW + 6 * HOUR) == known(NOW + DAY) == after
    assert known(NOW + 30 * HOUR) is None
    assert known(NOW + 30 * HOUR, stale=True) == after


def test_what_changed_between_two_times(ledger: Ledger) -> None:
    first, second, third = (reputation(EVIL, n, known_at=NOW + n * HOUR) for n in (1, 2, 3))
    new = reputation(OTHER, 50, known_at=NOW + 2 * HOUR)
    ledger.answers.store((r, HOUR) for r in (first, second, third, new))
    assert ledger.answers.changes(NOW + HOUR, NOW + 3 * HOUR) == [(first, third), (None, new)]
    assert ledger.answers.changes(NOW + HOUR, NOW + 2 * HOUR) == [(first, second), (None, new)]
    assert ledger.answers.changes(NOW, NOW + HOUR) == [(None, first)]
    assert ledger.answers.changes(NOW + 3 * HOUR, NOW + 9 * HOUR) == []


def test_a_window_is_first_decided_once(ledger: Ledger) -> None:
    batch = FetchBatch(source="s", window=window(), pages=1, records=0, archive=(), digest="d", findings=())
    ledger.windows.record_decided(window(), now=NOW)  # nobody read it: nothing to remember
    assert ledger.windows.first_decided_at(window()) is None
    ledger.windows.record(batch, run_id="r", now=NOW)
    ledger.windows.record_decided(window(), now=NOW)
    ledger.windows.record_decided(window(), now=NOW + HOUR)
    ledger.windows.record(batch, run_id="again", now=NOW + HOUR)
    assert ledger.windows.first_decided_at(window()) == NOW


# --- unfinished --------------------------------------------------------------------------------------------------


def test_what_is_unfinished_is_taken_up_when_its_time_has_come_until_it_is_done(ledger: Ledger) -> None:
    def left(uid: str, retry_at: datetime) -> Unfinished:
        return Unfinished(finding(uid), ("abuseipdb",), retry_at)

    def due(now: datetime, limit: int = 9) -> list[str]:
        return [f.uid for f in ledger.unfinished.due(now=now, since=now - 3 * DAY, limit=limit)]

    def record(*unfinished: Unfinished, now: datetime, done: tuple[str, ...] = ()) -> int:
        return ledger.unfinished.record(unfinished, done=done, give_up_before=now - 3 * DAY, now=now)

    record(left("a", NOW + HOUR), left("b", NOW + 2 * HOUR), now=NOW, done=("c",))
    assert (due(NOW), due(NOW + HOUR), due(NOW + 2 * HOUR)) == ([], ["a"], ["a", "b"])
    assert due(NOW + 2 * HOUR, limit=1) == ["a"]
    record(left("a", NOW + DAY), now=NOW + HOUR, done=("b",))
    assert (due(NOW + 2 * HOUR), due(NOW + DAY)) == ([], ["a"])
    # Not for ever; and it counts from the first time.
    record(left("a", NOW + 4 * DAY), now=NOW + 2 * DAY)
    assert due(NOW + 4 * DAY) == []
    assert record(now=NOW + 3 * DAY) == 0
    assert record(now=NOW + 3 * DAY + MINUTE) == 1
    assert ledger.unfinished.due(now=NOW + 9 * DAY, since=NOW - DAY, limit=9) == []
