"""An empty ledger, on SQLite and on Postgres: every test of this folder runs on both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.soar.ledger import Ledger
from tests.soar.ledger.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/home/ledger.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with contextlib.closing(Ledger(url)) as ledger:
        yield ledger
