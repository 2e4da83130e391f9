"""The tiny server and its connection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stages.controls import POLICY
from tests.stages.tiny import Printed, TinyServer
from tests.vendors.support import connect


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TinyServer]:
    monkeypatch.setenv("THREAT_RESPONSE_POLICY", POLICY)
    monkeypatch.setenv("THREAT_RESPONSE_HOME", str(tmp_path / "home"))
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
