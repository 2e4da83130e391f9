"""How a vendor's hook is pointed at the simulators in a test: an Airflow connection in the environment."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support import SimServer


def connect(
    monkeypatch: pytest.MonkeyPatch,
    conn_id: str,
    conn_type: str,
    url: str | SimServer,
    *,
    login: str | None = None,
    password: str | None = None,
    **extra: Any,
) -> None:
    """Define an Airflow connection to ``url`` for this test."""
    parts = urlsplit(url.url if isinstance(url, SimServer) else url)
    document = {
        "conn_type": conn_type,
        "host": f"{parts.scheme}://{parts.hostname}",
        "port": parts.port,
        "login": login,
        "password": password,
        "extra": extra,
    }
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(document))
