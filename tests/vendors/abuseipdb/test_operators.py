"""The enrichment by AbuseIPDB, against the simulator."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from include.simulators.abuseipdb import AbuseIpdbSimulator
from include.soar.model import Answer, CaseBatch, Observable, Reputation, ReputationBatch
from tests.soar.examples import address, observed, window
from tests.stages.controls import POLICY, PROTECTED, context
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.runtime import settings
from threat_response.stages.enrich import Enrich, Refresh

EVIL, SIX, CLEAN = address("203.0.113.7"), address("2001:db8::1"), address("203.0.113.9")


@pytest.fixture(autouse=True)
def vendor(sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimServer:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    key = AbuseIpdbSimulator.settings["api_key"]
    connect(monkeypatch, "abuseipdb_default", "abuseipdb", sim, password=key)
    seed: dict[str, Any] = {
        "addresses": {
            EVIL.value: {"abuseConfidenceScore": 92, "totalReports": 31, "numDistinctUsers": 7},
            SIX.value: {"abuseConfidenceScore": 40, "totalReports": 2, "numDistinctUsers": 1},
        },
        "public_networks": ["203.0.113.0/24", "2001:db8::/32"],
    }
    sim.seed("abuseipdb", seed)
    return sim


def enrich(*observables: Observable, lists: Any = ()) -> dict[str, Reputation]:
    case = CaseBatch(window=window(), findings=(), observed=tuple(observed(o) for o in observables)).to_json()
    result = Enrich(vendor="abuseipdb", task_id="abuseipdb", case=case, lists=lists).execute(context())
    batch = ReputationBatch.model_validate(result)
    assert batch.provider == "abuseipdb"
    return {r.observable.value: r for r in batch.reputations}


def test_a_quota_that_ends_in_the_middle_leaves_the_rest_unchecked(
    vendor: SimServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.configure("abuseipdb", daily_limits={"check": 1})
    answers = enrich(EVIL, CLEAN, SIX)
    # The most valuable question comes first; of equals the first by name.
    assert [answers[o.value].answer for o in (SIX, EVIL, CLEAN)].count(Answer.NOT_CHECKED) == 2
    assert answers[EVIL.value].answer is Answer.LISTED
    assert answers[CLEAN.value].score is None
    # The answer's own header told the limit: nothing was sent that would have been refused.
    assert [call["status"] for call in vendor.calls("abuseipdb")] == [200]
    tomorrow = settings.now() + timedelta(days=1)
    monkeypatch.setattr(settings, "now", lambda: tomorrow)
    vendor.world.clock.set(tomorrow)
    vendor.configure("abuseipdb", daily_limits={"check": 10})
    assert enrich(EVIL, CLEAN, SIX)[CLEAN.value].answer is Answer.NOT_LISTED


# --- the blacklist, before any question --------------------------------------------------------------------------

WORST = address("203.0.113.66")


def refresh(vendor: SimServer) -> list[dict[str, Any]]:
    record = {"abuseConfidenceScore": 100, "totalReports": 900, "numDistinctUsers": 70, "countryCode": "ZZ"}
    vendor.seed("abuseipdb", {"addresses": {WORST.value: record}})
    return Refresh(vendor="abuseipdb", task_id="refresh").execute(context())


def test_who_is_on_the_blacklist_is_not_asked_about(vendor: SimServer) -> None:
    lists = refresh(vendor)
    answers = enrich(WORST, EVIL, CLEAN, lists=lists)
    assert {value: (r.answer, r.score) for value, r in answers.items()} == {
        WORST.value: (Answer.LISTED, 100),
        EVIL.value: (Answer.LISTED, 92),
        CLEAN.value: (Answer.NOT_LISTED, 0),
    }
    assert answers[WORST.value].summary.startswith("on the blacklist of ")
    assert vendor.state("abuseipdb")["used_today"] == {"blacklist": 1, "check": 2}


def test_the_blacklist_answers_when_the_checks_are_spent(vendor: SimServer) -> None:
    lists = refresh(vendor)
    vendor.configure("abuseipdb", daily_limits={"check": 0})
    answers = enrich(WORST, CLEAN, lists=lists)
    assert answers[WORST.value].answer is Answer.LISTED
    assert answers[CLEAN.value].answer is Answer.NOT_CHECKED, "who is not on it is not clean"


@pytest.mark.parametrize("how", ["stale", "gone", "none", "null"])
def test_a_blacklist_that_is_stale_or_absent_changes_nothing(
    vendor: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    lists: Any = refresh(vendor)
    now = settings.now()
    if how == "stale":
        monkeypatch.setattr(settings, "now", lambda: now + timedelta(days=3))
    elif how == "gone":
        next(tmp_path.rglob("*.gz")).unlink()
    else:
        lists = [] if how == "none" else None
    answers = enrich(WORST, CLEAN, lists=lists)
    assert answers[WORST.value].summary.startswith("900 reports by 70 users")
    assert vendor.state("abuseipdb")["used_today"] == {"blacklist": 1, "check": 2}


def test_a_download_counts_in_the_ledger(vendor: SimServer) -> None:
    """So that no two workers use up the five of a day."""
    vendor.seed("abuseipdb", {"addresses": {WORST.value: {"abuseConfidenceScore": 100, "totalReports": 1}}})
    often = Refresh(vendor="abuseipdb", task_id="refresh", not_before=timedelta(0))
    for _ in range(7):
        assert [r["rows"] for r in often.execute(context())] == [1]
    assert vendor.state("abuseipdb")["used_today"] == {"blacklist": 5}
    assert {call["status"] for call in vendor.calls("abuseipdb")} == {200}


def test_a_vendor_that_gives_no_blacklist_fails_no_task(vendor: SimServer) -> None:
    vendor.fault("abuseipdb", "status", status=401)
    assert refresh(vendor) == []


def test_without_a_connection_there_is_no_blacklist(vendor: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_ABUSEIPDB_DEFAULT")
    with pytest.raises(AirflowSkipException):
        refresh(vendor)


# --- whole networks ----------------------------------------------------------------------------------------------

THIRD = address("203.0.113.30")


@pytest.fixture
def by_block(vendor: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    key = AbuseIpdbSimulator.settings["api_key"]
    connect(monkeypatch, "abuseipdb_default", "abuseipdb", vendor, password=key, check_block_from=3)


def test_single_questions_are_the_default(vendor: SimServer) -> None:
    enrich(EVIL, CLEAN, THIRD)
    assert vendor.state("abuseipdb")["used_today"] == {"check": 3}


@pytest.mark.usefixtures("by_block")
def test_neighbours_are_asked_about_together(vendor: SimServer) -> None:
    answers = enrich(EVIL, CLEAN, THIRD, SIX)
    assert {value: (r.answer, r.score) for value, r in answers.items()} == {
        EVIL.value: (Answer.LISTED, 92),
        CLEAN.value: (Answer.NOT_LISTED, 0),
        THIRD.value: (Answer.NOT_LISTED, 0),
        SIX.value: (Answer.LISTED, 40),
    }
    assert vendor.state("abuseipdb")["used_today"] == {"check-block": 1, "check": 1}


@pytest.mark.usefixtures("by_block")
def test_two_neighbours_are_too_few(vendor: SimServer) -> None:
    enrich(EVIL, CLEAN)
    assert vendor.state("abuseipdb")["used_today"] == {"check": 2}


@pytest.mark.usefixtures("by_block")
@pytest.mark.parametrize(
    ("kind", "options"),
    [("status", {"status": 402}), ("status", {"status": 429}), ("truncate", {}), ("html", {"status": 200})],
    ids=["402", "429", "cut", "html"],
)
def test_a_network_that_gets_no_answer_costs_nobody_an_answer(
    vendor: SimServer, kind: str, options: dict[str, Any]
) -> None:
    vendor.fault("abuseipdb", kind, path="check-block", times=-1, **options)
    answers = enrich(EVIL, CLEAN, THIRD)
    assert [answers[o.value].answer for o in (EVIL, CLEAN, THIRD)] == [
        Answer.LISTED,
        Answer.NOT_LISTED,
        Answer.NOT_LISTED,
    ]
    assert vendor.state("abuseipdb")["used_today"]["check"] == 3


@pytest.mark.usefixtures("by_block")
def test_a_network_that_is_partly_ours_is_not_named(vendor: SimServer) -> None:
    neighbours = [address(f"192.0.2.{n}") for n in (200, 201, 202)]
    enrich(address(PROTECTED), *neighbours)
    asked = [dict(call["query"]) for call in vendor.calls("abuseipdb")]
    assert sorted(query["ipAddress"] for query in asked) == [o.value for o in neighbours]
