"""The connection and the environment of these tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from include.simulators.crowdstrike_falcon import CrowdStrikeFalconSimulator
from tests.stages.controls import POLICY
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.vendors.crowdstrike_falcon.hook import CrowdStrikeFalconHook

PRODUCT = "crowdstrike_falcon"
KNOBS = CrowdStrikeFalconSimulator.settings


@pytest.fixture(autouse=True)
def connected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sim: SimServer) -> None:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    point_at(monkeypatch, sim)


def point_at(monkeypatch: pytest.MonkeyPatch, url: str | SimServer, **more: Any) -> None:
    options = {"login": KNOBS["client_id"], "password": KNOBS["client_secret"], **more}
    connect(monkeypatch, CrowdStrikeFalconHook.default_conn_name, PRODUCT, url, **options)


def seed(sim: SimServer, *indicators: dict[str, Any]) -> None:
    sim.seed(PRODUCT, {"indicators": list(indicators)})


def held(sim: SimServer) -> dict[str, dict[str, Any]]:
    indicators = sim.state(PRODUCT)["indicators"]
    by_value = {i["value"]: i for i in indicators}
    assert len(by_value) == len(indicators)
    return by_value


def writes(sim: SimServer) -> list[str]:
    return [c["method"] for c in sim.calls(PRODUCT) if c["method"] != "GET" and not c["path"].startswith("/oauth2")]
