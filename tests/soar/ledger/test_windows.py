"""Which window was read when, and which window a finding belongs to."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC

from alembic import command
from alembic.config import Config
from sqlalchemy import inspect

from include.soar.ledger import Ledger
from include.soar.ledger.database import MIGRATIONS
from tests.soar.examples import NOW, finding, window
from tests.soar.ledger.records import HOUR, batch


def test_a_window_read_again_is_one_row(ledger: Ledger) -> None:
    ledger.windows.record(batch(), run_id="first", now=NOW)
    ledger.windows.record(batch(finding(), pages=3, digest="e" * 64), run_id="x" * 501, now=NOW + HOUR)
    (row,) = ledger.windows.rows()
    assert (row.run_id, row.pages, row.records, row.findings, row.digest) == ("x" * 501, 3, 1, 1, "e" * 64)
    assert (row.start_at, row.end_at, row.fetched_at) == (window().start_at, window().end_at, NOW + HOUR)
    assert row.start_at.tzinfo is UTC


def test_windows_by_source_and_in_order(ledger: Ledger) -> None:
    later = window("2026-11-24T11:00", "2026-11-24T12:00")
    for one in (batch(window=later), batch(), batch(source="akamai_api_security")):
        ledger.windows.record(one, run_id="r", now=NOW)
    assert [(r.source, r.start_at.hour) for r in ledger.windows.rows()] == [
        ("akamai_api_security", 10),
        ("akamai_sia", 10),
        ("akamai_sia", 11),
    ]
    assert len(ledger.windows.rows("akamai_sia")) == 2
    assert ledger.windows.rows("nobody") == []


def test_a_finding_belongs_to_the_first_window_that_read_it(ledger: Ledger) -> None:
    one, two, three = finding("1"), finding("2"), finding("3")
    assert ledger.windows.claim_findings([one, two], window_key="A", now=NOW) == {"1": "A", "2": "A"}
    assert ledger.windows.claim_findings([two, three], window_key="B", now=NOW) == {"2": "A", "3": "B"}
    assert ledger.windows.claim_findings([one, two, three], window_key="A", now=NOW) == {"1": "A", "2": "A", "3": "B"}
    assert ledger.windows.claim_findings([], window_key="C", now=NOW) == {}


def test_many_findings_one_of_them_twice_and_with_a_long_name(ledger: Ledger) -> None:
    many = [finding(f"f{n}", vendor_id="v" * 2000) for n in range(1203)]
    owners = ledger.windows.claim_findings([*many, many[0]], window_key="A", now=NOW)
    assert owners == {f.uid: "A" for f in many}


def test_windows_that_overlap_at_the_same_time_share_no_finding(url: str) -> None:
    Ledger(url).close()
    findings = [finding(f"f{n}") for n in range(300)]

    def claim(key: str) -> dict[str, str]:
        with contextlib.closing(Ledger(url)) as ledger:
            return ledger.windows.claim_findings(findings if key < "C" else findings[::-1], window_key=key, now=NOW)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(claim, "ABCD"))
    assert all(answer == answers[0] for answer in answers)
    assert set(answers[0]) == {f.uid for f in findings}


def test_findings_of_before_count_as_delivered(url: str) -> None:
    """0004: a ledger of today must not give the last hours' findings to the next window again."""
    with contextlib.closing(Ledger(url)) as ledger:
        ledger.windows.claim_findings([finding("1")], window_key="A", now=NOW)
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["url"] = url
        command.downgrade(config, "0003")
        columns = {column["name"] for column in inspect(ledger.database.engine).get_columns("findings")}
        assert columns.isdisjoint({"claimed_at", "delivered_at"})
    with contextlib.closing(Ledger(url)) as ledger:
        later = NOW + 2 * HOUR
        assert ledger.windows.free_findings([finding("1"), finding("2")], window_key="B", now=later) == {"2"}
        assert ledger.windows.claim_findings([finding("1")], window_key="B", now=later) == {"1": "A"}
        assert ledger.windows.deliver_findings([finding("1")], window_key="B", now=later) == {"1": "A"}
