"""The enrichment by OTX, against the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from include.simulators.alienvault_otx import AlienvaultOtxSimulator
from include.soar.model import Answer, CaseBatch, Observable, ObservableType, Reputation, ReputationBatch
from tests.soar.examples import address, domain, observed, window
from tests.stages.controls import POLICY, PROTECTED, context
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.stages.enrich import Enrich

EVIL, CLEAN, NAME = address("203.0.113.7"), address("203.0.113.9"), domain("evil.example")
LONG_HASH = Observable(type=ObservableType.FILE, value="ab" * 64)


@pytest.fixture(autouse=True)
def vendor(sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimServer:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    key = AlienvaultOtxSimulator.settings["api_key"]
    connect(monkeypatch, "alienvault_otx_default", "alienvault_otx", sim, password=key)
    pulses = [{"author": "a"}, {"author": "b"}]
    seed: dict[str, Any] = {
        "indicators": {EVIL.value: {"pulses": pulses}, NAME.value: {"pulses": pulses[:1]}},
        "public_networks": ["203.0.113.0/24"],
    }
    sim.seed("alienvault_otx", seed)
    return sim


def enrich(*observables: Observable) -> dict[str, Reputation]:
    case = CaseBatch(window=window(), findings=(), observed=tuple(observed(o) for o in observables)).to_json()
    result = Enrich(vendor="alienvault_otx", task_id="alienvault_otx", case=case).execute(context())
    batch = ReputationBatch.model_validate(result)
    assert batch.provider == "alienvault_otx"
    return {r.observable.value: r for r in batch.reputations}


def test_what_it_knows_is_asked_about_and_nothing_else(vendor: SimServer) -> None:
    mail = Observable(type=ObservableType.EMAIL, value="a@evil.example")
    answers = enrich(EVIL, CLEAN, NAME, LONG_HASH, mail, address(PROTECTED), address("10.0.0.1"))
    assert {value: (r.answer, r.score) for value, r in answers.items()} == {
        EVIL.value: (Answer.LISTED, 30),
        CLEAN.value: (Answer.NOT_LISTED, 0),
        NAME.value: (Answer.LISTED, 20),
        LONG_HASH.value: (Answer.NOT_APPLICABLE, None),
        mail.value: (Answer.NOT_APPLICABLE, None),
        PROTECTED: (Answer.NOT_APPLICABLE, None),
        "10.0.0.1": (Answer.NOT_APPLICABLE, None),
    }
    asked = {call["path"].split("/")[5] for call in vendor.calls("alienvault_otx")}
    assert asked == {EVIL.value, CLEAN.value, NAME.value}


def test_a_limit_in_the_middle_leaves_the_rest_unchecked(vendor: SimServer) -> None:
    vendor.configure("alienvault_otx", hourly_limit=1)
    answers = enrich(EVIL, CLEAN)
    assert sorted(r.answer.value for r in answers.values()) == ["listed", "not_checked"]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("status", {"status": 403}),
        ("status", {"status": 503}),
        ("html", {"status": 200}),
        ("html", {"status": 404}),
        ("truncate", {}),
        ("reset", {}),
        ("empty", {"key": "pulse_info"}),
        ("merge", {"patch": {"validation": None}}),
        ("merge", {"patch": {"indicator": "203.0.113.200"}}),
    ],
    ids=["403", "503", "html", "html-404", "cut", "reset", "no pulses", "no validation", "another"],
)
def test_a_broken_provider_stops_nothing_and_is_never_clean(
    vendor: SimServer, kind: str, options: dict[str, Any]
) -> None:
    vendor.fault("alienvault_otx", kind, times=-1, **options)
    answers = enrich(EVIL, CLEAN)
    assert {(r.answer, r.score) for r in answers.values()} == {(Answer.ERROR, None)}
