"""The tiny server and its connection; and each product that serves the stages of incidents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.stages.controls import POLICY
from tests.stages.incidents.incident_products import PRODUCTS, Product, product_named
from tests.stages.incidents.incident_runs import Runs
from tests.stages.tiny import Printed, TinyServer
from tests.vendors.support import connect
from threat_response.runtime import settings


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TinyServer]:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path / "home"))
    server = TinyServer()
    connect(monkeypatch, "tiny_default", "tiny", server.url, password="a-tiny-key")
    yield server
    server.stop()


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    return lambda: capsys.readouterr().out.splitlines()


@pytest.fixture
def unconnected(server: TinyServer, monkeypatch: pytest.MonkeyPatch) -> TinyServer:
    monkeypatch.delenv("AIRFLOW_CONN_TINY_DEFAULT")
    return server


@pytest.fixture(params=PRODUCTS)
def product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Product:
    """A case-management product that is connected, with the demo's policy and a ledger of this test's own."""
    files = (ROOT / "include/config/policy.yaml", ROOT / "include/config/policy.demo.yaml")
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", ":".join(map(str, files)))
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    return product_named(request.param, monkeypatch, request)


@pytest.fixture
def runs(product: Product) -> Runs:
    """The three stages over that product."""
    return Runs(product.vendor)


@pytest.fixture(autouse=True)
def _controls_that_no_registry_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy of these tests may name the controls that are made here."""
    monkeypatch.setattr(settings, "KNOWN_CONTROLS", {})
