"""The enrichment by VirusTotal, against the simulator."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from include.simulators.virustotal import VirusTotalSimulator
from include.soar.extract.values import parse_url
from include.soar.model import Answer, CaseBatch, Observable, ObservableType, Reputation, ReputationBatch
from tests.soar.examples import address, domain, observed, window
from tests.stages.controls import POLICY, PROTECTED, context
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.runtime import settings
from threat_response.stages.enrich import Enrich

EVIL, CLEAN, NAME = address("203.0.113.7"), address("203.0.113.9"), domain("evil.example")
URL = parse_url("http://evil.example/a")
FILE = Observable(type=ObservableType.FILE, value="a1" * 32)
LONG_HASH = Observable(type=ObservableType.FILE, value="a1" * 64)


@pytest.fixture(autouse=True)
def vendor(sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimServer:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    connect(
        monkeypatch,
        "virustotal_default",
        "virustotal",
        sim,
        password=VirusTotalSimulator.settings["api_key"],
        plan="premium",
    )
    sim.configure("virustotal", plan="premium")
    bad: dict[str, Any] = {"last_analysis_stats": {"malicious": 8, "harmless": 60}}
    sim.seed(
        "virustotal",
        {
            "ip_addresses": {EVIL.value: bad},
            "domains": {NAME.value: bad},
            "urls": {URL.value: bad},
            "files": {FILE.value: bad},
        },
    )
    return sim


def enrich(*observables: Observable) -> dict[str, Reputation]:
    case = CaseBatch(window=window(), findings=(), observed=tuple(observed(o) for o in observables)).to_json()
    result = Enrich(vendor="virustotal", task_id="virustotal", case=case).execute(context())
    batch = ReputationBatch.model_validate(result)
    assert batch.provider == "virustotal"
    return {r.observable.value: r for r in batch.reputations}


def test_four_types_are_asked_about_and_nothing_else(vendor: SimServer) -> None:
    email = Observable(type=ObservableType.EMAIL, value="a@evil.example")
    answers = enrich(EVIL, CLEAN, NAME, URL, FILE, LONG_HASH, email, address(PROTECTED), address("10.0.0.1"))
    assert {value: (r.answer, r.score) for value, r in answers.items()} == {
        EVIL.value: (Answer.LISTED, 80),
        CLEAN.value: (Answer.NOT_LISTED, 0),
        NAME.value: (Answer.LISTED, 80),
        URL.value: (Answer.LISTED, 80),
        FILE.value: (Answer.LISTED, 80),
        LONG_HASH.value: (Answer.NOT_APPLICABLE, None),
        email.value: (Answer.NOT_APPLICABLE, None),
        PROTECTED: (Answer.NOT_APPLICABLE, None),
        "10.0.0.1": (Answer.NOT_APPLICABLE, None),
    }
    assert sorted(call["path"].split("/")[3] for call in vendor.calls("virustotal")) == [
        "domains",
        "files",
        "ip_addresses",
        "ip_addresses",
        "urls",
    ]


def test_never_seen_is_stored_too(vendor: SimServer) -> None:
    first = enrich(EVIL, CLEAN)
    assert enrich(EVIL, CLEAN) == first
    assert len(vendor.calls("virustotal")) == 2


def test_a_quota_that_ends_in_the_middle_leaves_the_rest_unchecked(vendor: SimServer) -> None:
    vendor.configure("virustotal", limits={"day": 1})
    answers = enrich(EVIL, NAME, URL)
    assert sorted(r.answer for r in answers.values()) == [Answer.LISTED, Answer.NOT_CHECKED, Answer.NOT_CHECKED]
    assert {r.score for r in answers.values() if r.answer is Answer.NOT_CHECKED} == {None}


def test_a_public_key_is_asked_within_its_own_limits(vendor: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four in any minute: the task waits for the fifth, and the vendor never has to refuse."""
    connect(monkeypatch, "virustotal_default", "virustotal", vendor, password=VirusTotalSimulator.settings["api_key"])
    vendor.configure("virustotal", plan="public")
    real, waits = settings.now, list[float]()

    def wait(seconds: float) -> None:
        waits.append(seconds)
        vendor.world.clock.advance(seconds)

    monkeypatch.setattr(settings, "now", lambda: real() + timedelta(seconds=sum(waits)))
    monkeypatch.setattr(Enrich, "wait", staticmethod(wait))
    assert {r.answer for r in enrich(EVIL, CLEAN, NAME, URL, FILE).values()} == {Answer.LISTED, Answer.NOT_LISTED}
    assert 0 < sum(waits) <= 61
    assert {c["status"] for c in vendor.calls("virustotal")} == {200, 404}


def test_a_refused_value_costs_itself_only(vendor: SimServer) -> None:
    vendor.fault("virustotal", "status", status=400, path="/domains/")
    answers = enrich(NAME, EVIL)
    assert (answers[NAME.value].answer, answers[EVIL.value].answer) == (Answer.ERROR, Answer.LISTED)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("status", {"status": 401}),
        ("html", {"status": 404}),
        ("truncate", {}),
        ("merge", {"patch": {"data": {"attributes": {"last_analysis_stats": {"malicious": None}}}}}),
        ("merge", {"patch": {"data": {"id": "203.0.113.200"}}}),
    ],
    ids=["401", "html-404", "cut", "no count", "another address"],
)
def test_a_broken_provider_stops_nothing_and_is_never_clean(
    vendor: SimServer, kind: str, options: dict[str, Any]
) -> None:
    other = address("203.0.113.8")
    vendor.seed("virustotal", {"ip_addresses": {other.value: {"last_analysis_stats": {"malicious": 1}}}})
    vendor.fault("virustotal", kind, times=-1, **options)
    answers = enrich(EVIL, other)
    assert {(r.answer, r.score) for r in answers.values()} == {(Answer.ERROR, None)}
