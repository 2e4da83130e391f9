"""What the reputation sources said, and how long it counts."""

from __future__ import annotations

from datetime import timedelta

from include.soar.ledger import Ledger
from include.soar.model import (
    Observable,
    ObservableType,
)
from tests.soar.examples import NOW, address, reputation
from tests.soar.ledger.records import EVIL, HOUR


def test_an_answer_is_good_for_its_time_only_and_for_its_provider(ledger: Ledger) -> None:
    answer = reputation(EVIL, 90)
    ledger.answers.store([(answer, HOUR)])
    assert ledger.answers.known("abuseipdb", [EVIL], now=NOW) == {EVIL.key: answer}
    assert ledger.answers.known("abuseipdb", [EVIL], now=NOW + HOUR - timedelta(seconds=1)) != {}
    assert ledger.answers.known("abuseipdb", [EVIL], now=NOW + HOUR) == {}
    assert ledger.answers.known("list_feed", [EVIL], now=NOW) == {}
    assert ledger.answers.known("abuseipdb", [address("203.0.113.8")], now=NOW) == {}
    assert ledger.answers.known("abuseipdb", [], now=NOW) == {}


def test_a_newer_answer_replaces_the_older_one(ledger: Ledger) -> None:
    ledger.answers.store([(reputation(EVIL, 90), HOUR)])
    newer = reputation(EVIL, 0, known_at=NOW + HOUR)
    ledger.answers.store([(reputation(EVIL, 50), HOUR), (newer, HOUR)])  # the last of one batch wins
    assert ledger.answers.known("abuseipdb", [EVIL], now=NOW + HOUR) == {EVIL.key: newer}
    ledger.answers.store([])


def test_many_answers_and_very_long_values(ledger: Ledger) -> None:
    urls = [Observable(type=ObservableType.URL, value=f"https://a.example/{'ü' * 2000}/{n}") for n in range(2)]
    many = [*urls, *(address(f"10.0.{n >> 8}.{n & 255}") for n in range(1100))]
    ledger.answers.store([(reputation(o, 1), HOUR) for o in many])
    found = ledger.answers.known("abuseipdb", many, now=NOW)
    assert {r.observable for r in found.values()} == set(many)
