"""The connection and the environment of these tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from include.simulators.akamai_client_lists import AkamaiClientListsSimulator
from tests.stages.controls import POLICY
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.vendors.akamai_client_lists.hook import AkamaiClientListsHook

PRODUCT = "akamai_client_lists"
LIST = "91596_BLOCK"
KNOBS = AkamaiClientListsSimulator.settings


@pytest.fixture(autouse=True)
def connected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sim: SimServer) -> None:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    point_at(monkeypatch, sim)


def point_at(monkeypatch: pytest.MonkeyPatch, url: str | SimServer, **more: Any) -> None:
    options = {
        "login": KNOBS["client_token"],
        "password": KNOBS["client_secret"],
        "access_token": KNOBS["access_token"],
        "list_id": LIST,
        **more,
    }
    connect(monkeypatch, AkamaiClientListsHook.default_conn_name, PRODUCT, url, **options)


def seed(sim: SimServer, *items: Any, **more: Any) -> None:
    """The list, with these items, active in production unless said otherwise."""
    given = {
        "listId": LIST,
        "name": "Block",
        "type": "IP",
        "productionActivationStatus": "ACTIVE",
        "items": list(items),
    }
    sim.seed(PRODUCT, {"lists": [given | {"items": list(items)} | more]})


def held(sim: SimServer) -> dict[str, Any]:
    return {item["value"]: item for item in sim.state(PRODUCT)["lists"][LIST]["items"]}


def listed(sim: SimServer) -> list[dict[str, Any]]:
    """The items as the vendor shows them in the list."""
    return list(sim.world.simulators[PRODUCT].shown(LIST)["items"])


def writes(sim: SimServer) -> list[str]:
    return [c["path"].rpartition("/")[2] for c in sim.calls(PRODUCT) if c["method"] != "GET"]
