"""What was done at which control, as last known."""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from include.soar.ledger import Ledger
from include.soar.model import (
    ActionBatch,
    Observable,
    ObservableType,
    Outcome,
)
from tests.soar.examples import NOW, address, finding, gate_at, policy
from tests.soar.ledger.records import EVIL, HOUR, OTHER, action


def test_an_actions_row_is_the_last_known_state(ledger: Ledger) -> None:
    pending = action(outcome=Outcome.PENDING, detail="activation 7", proof={"activation": 7, "list": "x"})
    ledger.actions.record(ActionBatch(control="waf", actions=(pending,)), run_id="r1", now=NOW)
    done = action(expires_at=NOW + HOUR, proof={"activation": 7, "version": None})
    ledger.actions.record(ActionBatch(control="waf", actions=(pending, done)), run_id="r2", now=NOW + HOUR)
    (row,) = ledger.actions.rows()
    assert (row.observable, row.outcome, row.verb, row.run_id) == (EVIL.key, "blocked", "deny", "r2")
    assert (row.expires_at, row.updated_at) == (NOW + HOUR, NOW + HOUR)
    assert json.dumps(row.proof, sort_keys=True) == '{"activation": 7, "version": null}'


def test_actions_by_control(ledger: Ledger) -> None:
    ledger.actions.record(ActionBatch(control="edr", actions=(action(control="edr"),)), run_id="r", now=NOW)
    ledger.actions.record(ActionBatch(control="waf", actions=(action(),)), run_id="r", now=NOW)
    ledger.actions.record(ActionBatch(control="siem", actions=()), run_id="r", now=NOW)
    assert [row.control for row in ledger.actions.rows()] == ["edr", "waf"]
    assert [row.control for row in ledger.actions.rows("waf")] == ["waf"]


def test_an_entry_that_is_added_later_cancels_what_is_in_force(ledger: Ledger, tmp_path: Path) -> None:
    over, long_url = (
        address("203.0.113.99"),
        Observable(type=ObservableType.URL, value="http://evil.example/" + "a" * 600),
    )
    in_force = (action(EVIL), action(OTHER, outcome=Outcome.FAILED), action(over, expires_at=NOW), action(long_url))
    ledger.actions.record(ActionBatch(control="waf", actions=in_force), run_id="r1", now=NOW - HOUR)
    assert ledger.actions.cancel_protected(gate_at(policy()), run_id="r2", now=NOW) == []
    entry = "{value: 203.0.113.0/24, until: 2030-01-01, owner: j.doe, reason: our scanner}"
    later = gate_at(policy(tmp_path, f"never_block: {{allow: [{entry}]}}"))
    ((row, hit),) = ledger.actions.cancel_protected(later, run_id="r2", now=NOW)
    assert (row.observable, row.outcome, row.run_id, hit.layer) == (EVIL.key, "cancelled", "r2", "allow")
    assert row.detail.startswith("was blocked; ")
    assert "our scanner" in row.detail
    # Told once; and what the control says afterwards holds.
    assert ledger.actions.cancel_protected(later, run_id="r3", now=NOW) == []
    outcomes = {row.observable: row.outcome for row in ledger.actions.rows()}
    assert outcomes == {EVIL.key: "cancelled", OTHER.key: "failed", over.key: "blocked", long_url.key: "blocked"}


def test_a_domain_that_begins_like_a_digest_is_cancelled_too(ledger: Ledger, tmp_path: Path) -> None:
    named = Observable(type=ObservableType.DOMAIN, value="sha256.evil.example")
    ledger.actions.record(ActionBatch(control="waf", actions=(action(named),)), run_id="r1", now=NOW - HOUR)
    entry = "{value: evil.example, until: 2030-01-01, owner: j.doe, reason: our own name}"
    ((row, _),) = ledger.actions.cancel_protected(
        gate_at(policy(tmp_path, f"never_block: {{allow: [{entry}]}}")), run_id="r2", now=NOW
    )
    assert (row.observable, row.outcome) == (named.key, "cancelled")


def test_many_writers_wait_for_each_other(url: str) -> None:
    """On SQLite a writer that read first would otherwise die with "database is locked"."""
    Ledger(url).close()

    def write(number: int) -> None:
        with contextlib.closing(Ledger(url)) as ledger:
            for n in range(15):
                ledger.windows.claim_findings([finding(f"{number}-{n}")], window_key="A", now=NOW)
                one = action(address(f"203.0.113.{number * 15 + n}"))
                ledger.actions.record(ActionBatch(control="waf", actions=(one,)), run_id="r", now=NOW)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    with contextlib.closing(Ledger(url)) as ledger:
        assert len(ledger.actions.rows()) == 60
