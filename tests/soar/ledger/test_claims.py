"""A claim is won once, and by one run; and the incident that it was taken for is remembered."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from include.soar.ledger import Ledger
from tests.soar.examples import NOW
from tests.soar.ledger.records import HOUR


def test_the_last_word_about_an_incident_is_kept(ledger: Ledger) -> None:
    assert ledger.incidents.get("mark") is None
    ledger.incidents.record("mark", "f1", unique_id="u-1", readable_id=None, now=NOW)
    ledger.incidents.record("mark", "f1", unique_id="u-2", readable_id="INC-2", now=NOW + HOUR)
    row = ledger.incidents.get("mark")
    assert row is not None
    assert (row.unique_id, row.readable_id, row.updated_at) == ("u-2", "INC-2", NOW + HOUR)


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
