"""The connection and the environment of these tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from include.simulators.splunk import SplunkSimulator
from tests.stages.controls import POLICY
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.vendors.splunk.hook import SplunkHook

PRODUCT = "splunk"
COLLECTION = "threat_watchlist"
KNOBS = SplunkSimulator.settings


@pytest.fixture(autouse=True)
def connected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sim: SimServer) -> None:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    point_at(monkeypatch, sim)


def point_at(monkeypatch: pytest.MonkeyPatch, url: str | SimServer, **more: Any) -> None:
    options = {"password": KNOBS["token"], **more}
    connect(monkeypatch, SplunkHook.default_conn_name, PRODUCT, url, **options)


def seed(sim: SimServer, *documents: dict[str, Any]) -> None:
    sim.seed(PRODUCT, {"collections": {COLLECTION: list(documents)}})


def held(sim: SimServer) -> dict[str, dict[str, Any]]:
    documents = sim.state(PRODUCT)["collections"][COLLECTION]
    return {d["_key"]: {k: v for k, v in d.items() if k != "_user"} for d in documents}


def writes(sim: SimServer) -> list[str]:
    calls = [c for c in sim.calls(PRODUCT) if c["method"] != "GET" and not c["path"].endswith("/auth/login")]
    return [c["path"].rpartition("/")[2] for c in calls]
