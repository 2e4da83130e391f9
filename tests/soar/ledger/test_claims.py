"""A claim is won once, and by one run; and the incident that it was taken for is remembered."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from sqlalchemy import create_engine, text

from include.soar.ledger import Ledger
from tests.soar.examples import NOW
from tests.soar.ledger.postgres import Postgres
from tests.soar.ledger.records import HOUR


def test_the_last_word_about_an_incident_is_kept(ledger: Ledger) -> None:
    assert ledger.incidents.get("mark") is None
    ledger.incidents.record("mark", "f1", unique_id="u-1", readable_id=None, now=NOW)
    ledger.incidents.record("mark", "f1", unique_id="u-2", readable_id="INC-2", now=NOW + HOUR)
    row = ledger.incidents.get("mark")
    assert row is not None
    assert (row.unique_id, row.readable_id, row.updated_at) == ("u-2", "INC-2", NOW + HOUR)


def test_a_longer_id_or_name_than_the_columns_have_costs_itself_only(ledger: Ledger) -> None:
    """Postgres refuses what is too long, and the task died with an incident just opened."""
    ledger.incidents.record("mark", "f1", unique_id="u" * 65, readable_id=None, now=NOW)
    assert ledger.incidents.get("mark") is None
    ledger.incidents.record("mark", "f1", unique_id="u-1", readable_id="I" * 65, now=NOW)
    row = ledger.incidents.get("mark")
    assert row is not None
    assert (row.unique_id, row.readable_id) == ("u-1", "I" * 64)
    first, second = (f"comment:{'x' * 300}{n}" for n in (1, 2))
    assert ledger.claims.take(first, by="try-a", now=NOW, lease=HOUR)
    assert not ledger.claims.take(first, by="try-b", now=NOW, lease=HOUR)
    assert ledger.claims.take(second, by="try-b", now=NOW, lease=HOUR)
    assert ledger.claims.renew(first, by="try-a", now=NOW, lease=HOUR)
    ledger.claims.release(first, by="try-a")
    assert ledger.claims.take(first, by="try-b", now=NOW, lease=HOUR)


def test_when_an_incident_was_created_is_known_for_each_product_apart(ledger: Ledger) -> None:
    many = {f"id-{n}": NOW + timedelta(microseconds=n) for n in range(1200)}
    ledger.incidents.remember_created("one", many | {"long" * 100: NOW})
    ledger.incidents.remember_created("one", {"id-1": NOW + timedelta(microseconds=1)})
    ledger.incidents.remember_created("other", {"id-1": NOW + HOUR, "id-5000": NOW})
    ledger.incidents.remember_created("other", {})
    assert ledger.incidents.created_at("one", [*many, "id-5000", "long" * 100]) == many
    assert ledger.incidents.created_at("other", ["id-1"]) == {"id-1": NOW + HOUR}
    assert ledger.incidents.created_at("one", []) == {}


def test_of_many_claims_at_once_one_wins(url: str) -> None:
    Ledger(url).close()

    def claim(number: int) -> list[str]:
        with contextlib.closing(Ledger(url)) as ledger:
            return [
                mark
                for mark in map(str, range(25))
                if ledger.claims.take(mark, by=f"run-{number}", now=NOW, lease=HOUR)
            ]

    with ThreadPoolExecutor(4) as pool:
        won = [mark for marks in pool.map(claim, range(4)) for mark in marks]
    assert sorted(won, key=int) == [str(n) for n in range(25)]


def test_a_named_claim_is_one_runs_until_released_or_over(ledger: Ledger) -> None:
    def claim(by: str, now: datetime) -> bool:
        return ledger.claims.take("comment:1", by=by, now=now, lease=HOUR)

    assert claim("run-a", NOW)
    assert claim("run-a", NOW)
    assert not claim("run-b", NOW)
    ledger.claims.release("comment:1", by="run-b")  # not run-b's to release
    assert not claim("run-b", NOW)
    ledger.claims.release("comment:1", by="run-a")
    assert claim("run-b", NOW)
    assert not claim("run-a", NOW + HOUR - timedelta(seconds=1))
    assert claim("run-a", NOW + HOUR)  # run-b is taken for dead


def test_a_claim_is_renewed_only_while_it_is_ours(ledger: Ledger) -> None:
    def take(by: str, now: datetime) -> bool:
        return ledger.claims.take("comment:1", by=by, now=now, lease=HOUR)

    def renew(by: str, now: datetime) -> bool:
        return ledger.claims.renew("comment:1", by=by, now=now, lease=HOUR)

    assert not renew("try-a", NOW)
    assert take("try-a", NOW)
    assert renew("try-a", NOW + HOUR)  # nobody has taken it although it had ended
    assert not take("try-b", NOW + HOUR)
    assert take("try-b", NOW + 2 * HOUR)
    assert not renew("try-a", NOW + 2 * HOUR)
    ledger.claims.release("comment:1", by="try-b")
    assert not renew("try-a", NOW + 2 * HOUR)  # what try-a saw is from before try-b's write


def test_a_claim_of_a_clock_that_was_years_ahead_keeps_nobody_away(ledger: Ledger) -> None:
    def take(by: str, now: datetime) -> bool:
        return ledger.claims.take("comment:1", by=by, now=now, lease=HOUR)

    assert take("try-a", NOW + HOUR)  # a worker's clock may be somewhat ahead
    assert not take("try-b", NOW)
    ledger.claims.release("comment:1", by="try-a")
    assert take("try-a", NOW + timedelta(days=36_500))
    assert take("try-b", NOW)
    assert not ledger.claims.renew("comment:1", by="try-a", now=NOW, lease=HOUR)


def test_a_release_does_not_end_the_claim_that_another_one_makes_at_that_moment(postgres: Postgres) -> None:
    """On Postgres: SQLite lets one in at a time."""
    url = postgres.new_database()
    engine = create_engine(url)
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with contextlib.closing(Ledger(url)) as ledger, ThreadPoolExecutor(1) as pool, engine.connect() as other:
        ledger.claims.take("comment:1", by="try-a", now=NOW, lease=HOUR)
        other.execute(text("UPDATE claims SET claimed_by = 'try-b'"))
        released = pool.submit(ledger.claims.release, "comment:1", by="try-a")
        with engine.connect() as watching:
            while not watching.execute(waiting).scalar():
                watching.rollback()
        other.commit()
        released.result(30)
        assert not ledger.claims.take("comment:1", by="try-c", now=NOW, lease=HOUR)
    engine.dispose()
