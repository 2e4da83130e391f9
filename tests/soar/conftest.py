"""Property tests here are the same on every run and have no clock: a busy machine must not make them fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.soar.ledger.postgres import Postgres, serve

settings.register_profile("project", deadline=None, derandomize=True, database=None, max_examples=30)
#: ``pytest --hypothesis-profile=explore`` looks further than the suite does.
settings.register_profile("explore", deadline=None, max_examples=3000)
settings.load_profile("project")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with serve() as server:
        yield server
