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
from tests.stages.controls import POLICY, context
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.runtime import settings
from threat_response.stages.enrich import Enrich

EVIL, CLEAN, NAME = address("203.0.113.7"), address("203.0.113.9"), domain("evil.example")
URL = parse_url("http://evil.example/a")
FILE = Observable(type=ObservableType.FILE, value="a1" * 32)


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
