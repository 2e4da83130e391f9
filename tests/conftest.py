"""Environment for the whole suite. Airflow reads its configuration on first import, so this comes before any."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOME = Path(tempfile.mkdtemp(prefix="threat-response-tests-"))

os.environ.update(
    {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        "AIRFLOW__THREAT_RESPONSE__HOME": str(HOME / "threat-response"),
        # What Hypothesis remembers of the source names this machine's paths: not into the work tree.
        "HYPOTHESIS_STORAGE_DIRECTORY": str(HOME / "hypothesis"),
    }
)
for path in (ROOT, ROOT / "plugins", ROOT / "dags"):
    if str(path) not in sys.path:
        sys.path.insert(0, str(path))

from tests.published import Requests  # noqa: E402  (the paths above come first)
from tests.support import SimServer, start_simulators  # noqa: E402


@pytest.fixture(autouse=True)
def _forget_masked_secrets() -> Iterator[None]:
    """Each masked secret makes every later one dearer; a task's process ends, this one goes on."""
    yield
    forget_masked_secrets()


def forget_masked_secrets() -> None:
    """As the end of a task's process does."""
    if masker := sys.modules.get("airflow.sdk._shared.secrets_masker.secrets_masker"):
        masker._secrets_masker().reset_masker()
    if redaction := sys.modules.get("include.soar.vendor.redaction"):
        redaction.KNOWN.forget()


@pytest.fixture(scope="session")
def _simulators() -> Iterator[SimServer]:
    server = start_simulators()
    requests = Requests(server.world)
    yield server
    server.stop()
    wrong = requests.problems()
    assert not wrong, "requests of ours that are not as published:\n" + "\n".join(wrong[:20])


@pytest.fixture
def sim(_simulators: SimServer) -> SimServer:
    """All simulators on a real port, fresh for each test."""
    _simulators.world.reset()
    return _simulators
