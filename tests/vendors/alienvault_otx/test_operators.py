"""The enrichment by OTX, against the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from include.simulators.alienvault_otx import AlienvaultOtxSimulator
from include.soar.model import CaseBatch, Observable, Reputation, ReputationBatch
from tests.soar.examples import address, domain, observed, window
from tests.stages.controls import POLICY, context
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.stages.enrich import Enrich

EVIL, CLEAN, NAME = address("203.0.113.7"), address("203.0.113.9"), domain("evil.example")


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


def test_a_limit_in_the_middle_leaves_the_rest_unchecked(vendor: SimServer) -> None:
    vendor.configure("alienvault_otx", hourly_limit=1)
    answers = enrich(EVIL, CLEAN)
    assert sorted(r.answer.value for r in answers.values()) == ["listed", "not_checked"]
