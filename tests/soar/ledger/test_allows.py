"""What people allow for a time beside the policy: versioned, checked as the policy's entries are, and told by whom."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from include.soar.ledger import Ledger
from tests.soar.examples import NOW
from tests.soar.ledger.records import HOUR


def add(ledger: Ledger, value: str, **more: Any) -> None:
    fields = {"until": NOW + 24 * HOUR, "owner": "web team", "reason": "load test", "by": "anna", "now": NOW}
    ledger.allows.add(value, **fields | more)


def current(ledger: Ledger, hours: float = 0) -> list[tuple[str, timedelta, str]]:
    entries = ledger.allows.current(NOW + hours * HOUR)
    return [(entry.value, entry.until - NOW, entry.allowance.reason) for entry in entries]


def test_an_entry_counts_at_once_and_to_its_end(ledger: Ledger) -> None:
    assert ledger.allows.current(NOW) == []
    add(ledger, " 203.0.113.7 ")
    add(ledger, "Scanner.Example.COM")
    assert current(ledger, 23) == [
        ("203.0.113.7", 24 * HOUR, "load test"),
        ("scanner.example.com", 24 * HOUR, "load test"),
    ]
    assert current(ledger, 24) == []
    (entry, _) = ledger.allows.current(NOW)
    assert (entry.by, entry.at, entry.allowance.owner) == ("anna", NOW, "web team")


def test_every_version_is_kept(ledger: Ledger) -> None:
    add(ledger, "203.0.113.7")
    add(ledger, "203.0.113.7", until=NOW + 48 * HOUR, reason="longer", by="bob", now=NOW + HOUR)
    assert current(ledger, 2) == [("203.0.113.7", 48 * HOUR, "longer")]
    assert ledger.allows.end("203.0.113.7 ", by="carl", reason="done", now=NOW + 3 * HOUR)
    assert current(ledger, 3) == []
    assert not ledger.allows.end("203.0.113.7", by="carl", reason="done", now=NOW + 4 * HOUR)
    assert [(c.number, c.change, c.value, c.by, c.reason, c.until) for c in ledger.allows.history()] == [
        (1, "add", "203.0.113.7", "anna", "load test", NOW + 24 * HOUR),
        (2, "add", "203.0.113.7", "bob", "longer", NOW + 48 * HOUR),
        (3, "end", "203.0.113.7", "carl", "done", None),
    ]
    add(ledger, "203.0.113.7", now=NOW + 5 * HOUR)
    assert len(current(ledger, 5)) == 1


@pytest.mark.parametrize(
    ("value", "more", "problem"),
    [
        ("0.0.0.0/0", {}, "wider than a /8"),
        ("203.0.113.300", {}, "not a domain name"),
        ("uk", {}, "^value: 'uk' is a whole country's domain$"),
        ("abc123" * 3, {}, "digits"),
        ("203.0.113.7", {"owner": " "}, "owner"),
        ("203.0.113.7", {"reason": ""}, "reason"),
        ("203.0.113.7", {"by": " "}, "who does it"),
        ("203.0.113.7", {"until": NOW}, "is past"),
        ("http://a.example/" + "a" * 800, {}, "768"),
    ],
)
def test_what_the_policy_would_refuse_is_refused(
    ledger: Ledger, value: str, more: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        add(ledger, value, **more)
    assert ledger.allows.history() == []


def test_ending_needs_who_and_why(ledger: Ledger) -> None:
    add(ledger, "203.0.113.7")
    with pytest.raises(ValueError, match="who does it, and why"):
        ledger.allows.end("203.0.113.7", by="anna", reason=" ", now=NOW)
    assert len(ledger.allows.current(NOW)) == 1


def test_an_entry_that_was_slipped_in_shows(ledger: Ledger) -> None:
    add(ledger, "203.0.113.7")
    assert ledger.allows.verify() == []
    with ledger.database.session() as session:
        session.execute(text("UPDATE allows SET value = '198.51.100.7'"))
    assert ledger.allows.verify() == [f"allows 1 ({NOW:%Y-%m-%dT%H:%M:%SZ}): was changed"]
