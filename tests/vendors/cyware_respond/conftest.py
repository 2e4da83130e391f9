from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import SimServer
from tests.vendors.cyware_respond.support import CONN_ID
from tests.vendors.support import connect

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The demo's policy, and a ledger of this test's own."""
    files = (ROOT / "include/config/policy.yaml", ROOT / "include/config/policy.demo.yaml")
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", ":".join(map(str, files)))
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch, sim: SimServer) -> Callable[..., None]:
    """Define the connection to the simulator; extras as keyword arguments."""

    def define(*, login: str | None = "sim-access", password: str = "sim-secret", **extra: Any) -> None:
        connect(monkeypatch, CONN_ID, "cyware_respond", sim, login=login, password=password, **extra)

    define()
    return define
