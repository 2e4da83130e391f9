"""The enrichment by AbuseIPDB, against the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from vendors.abuseipdb.operators import AbuseIPDBEnrichOperator

from include.simulators.abuseipdb import AbuseIpdbSimulator
from include.soar.model import Answer, CaseBatch, Observable, Reputation, ReputationBatch
from tests.soar.examples import address, domain, observed, window
from tests.support import SimServer
from tests.vendors.controls import POLICY, PROTECTED, context
from tests.vendors.support import connect

EVIL, SIX, CLEAN = address("203.0.113.7"), address("2001:db8::1"), address("203.0.113.9")


@pytest.fixture(autouse=True)
def vendor(sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimServer:
    monkeypatch.setenv("THREAT_RESPONSE_POLICY", POLICY)
    monkeypatch.setenv("THREAT_RESPONSE_HOME", str(tmp_path))
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


def enrich(*observables: Observable) -> dict[str, Reputation]:
    case = CaseBatch(window=window(), findings=(), observed=tuple(observed(o) for o in observables)).to_json()
    result = AbuseIPDBEnrichOperator(task_id="abuseipdb", case=case).execute(context())
    batch = ReputationBatch.model_validate(result)
    assert batch.provider == "abuseipdb"
    return {r.observable.value: r for r in batch.reputations}


def test_addresses_of_both_families_are_asked_about_and_nothing_else(vendor: SimServer) -> None:
    answers = enrich(EVIL, SIX, CLEAN, domain("evil.example"), address(PROTECTED), address("10.0.0.1"))
    assert {value: (r.answer, r.score) for value, r in answers.items()} == {
        EVIL.value: (Answer.LISTED, 92),
        SIX.value: (Answer.LISTED, 40),
        CLEAN.value: (Answer.NOT_LISTED, 0),
        "evil.example": (Answer.NOT_APPLICABLE, None),
        PROTECTED: (Answer.NOT_APPLICABLE, None),
        "10.0.0.1": (Answer.NOT_APPLICABLE, None),
    }
    asked = {dict(call["query"])["ipAddress"] for call in vendor.calls("abuseipdb")}
    assert asked == {EVIL.value, SIX.value, CLEAN.value}


def test_the_quota_is_spent_once_a_value(vendor: SimServer) -> None:
    first = enrich(EVIL, CLEAN)
    assert enrich(EVIL, CLEAN) == first
    assert vendor.state("abuseipdb")["used_today"] == {"check": 2}


def test_a_quota_that_ends_in_the_middle_leaves_the_rest_unchecked(vendor: SimServer) -> None:
    vendor.configure("abuseipdb", daily_limits={"check": 1})
    answers = enrich(EVIL, CLEAN, SIX)
    assert [answers[o.value].answer for o in (EVIL, CLEAN, SIX)] == [
        Answer.LISTED,
        Answer.NOT_CHECKED,
        Answer.NOT_CHECKED,
    ]
    assert answers[CLEAN.value].score is None
    vendor.configure("abuseipdb", daily_limits={"check": 10})
    assert enrich(EVIL, CLEAN, SIX)[CLEAN.value].answer is Answer.NOT_LISTED


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("status", {"status": 401}),
        ("status", {"status": 503}),
        ("html", {"status": 200}),
        ("truncate", {}),
        ("reset", {}),
        ("merge", {"patch": {"data": {"abuseConfidenceScore": None}}}),
        ("merge", {"patch": {"data": {"ipAddress": "203.0.113.200"}}}),
    ],
    ids=["401", "503", "html", "cut", "reset", "no score", "another address"],
)
def test_a_broken_provider_stops_nothing_and_is_never_clean(
    vendor: SimServer, kind: str, options: dict[str, Any]
) -> None:
    vendor.fault("abuseipdb", kind, times=-1, **options)
    answers = enrich(EVIL, CLEAN)
    assert {(r.answer, r.score) for r in answers.values()} == {(Answer.ERROR, None)}
    assert len(vendor.calls("abuseipdb")) == 1
