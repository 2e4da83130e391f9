"""The settings of this installation: clock, policy, ledger, archive.

Read when a task runs, never while a DAG file is parsed; what is heavy is imported then, too. Three environment
variables, all optional:

``THREAT_RESPONSE_HOME``     folder for the SQLite ledger and the archive (default ``$AIRFLOW_HOME/threat-response``)
``THREAT_RESPONSE_POLICY``   policy files, ``:``-separated, later ones laid over earlier ones
                             (default ``include/config/policy.yaml``)
``THREAT_RESPONSE_ARCHIVE``  object-storage URL of the archive (default the folder ``archive`` in the home)
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.sdk import BaseHook, ObjectStoragePath
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSkipException

if TYPE_CHECKING:
    from include.soar.gate.asn import AsnTable
    from include.soar.gate.gate import Gate
    from include.soar.ledger import Ledger
    from include.soar.policy.rules import Policy

log = logging.getLogger("threat_response")

ROOT = Path(__file__).resolve().parents[3]
LEDGER_CONNECTION = "threat_response_ledger"


def now() -> datetime:
    return datetime.now(UTC)


def home() -> Path:
    if configured := os.environ.get("THREAT_RESPONSE_HOME"):
        return Path(configured)
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "threat-response"


def policy() -> Policy:
    configured = os.environ.get("THREAT_RESPONSE_POLICY")
    paths = [Path(p) for p in configured.split(":")] if configured else [ROOT / "include/config/policy.yaml"]
    return _policy(tuple((path, path.stat().st_mtime_ns) for path in paths))


@lru_cache(maxsize=4)
def _policy(files: tuple[tuple[Path, int], ...]) -> Policy:
    from include.soar.policy.file import load_policy

    return load_policy([path for path, _ in files])


def gate(now: datetime | None = None) -> Gate:
    """
    The never-block gate of the policy and the installed warning lists. Made once for each set of valid entries.

    :param now: which ``allow`` entries count; the present if not given
    """
    # Both take longer to import than a task that needs no gate should wait.
    from include.soar.gate.gate import gate_of
    from include.soar.gate.index_file import shipped

    return gate_of(policy().never_block, shipped(), _moment(now))


def _moment(given: datetime | None) -> datetime:
    return given or now()


def asns() -> AsnTable | None:
    """
    The table that ``block.asn_table`` names; None where it names none. Read again once the file was changed.

    :raises PolicyError: naming ``block.asn_table`` and the file
    """
    from include.soar.policy.file import asn_table

    return asn_table(policy().block)


def connection_exists(conn_id: str) -> bool:
    try:
        BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        return False
    return True


def skip_if_absent(conn_id: str, what: str) -> None:
    """An optional stage whose connection is absent is skipped, with one line that says so."""
    if not connection_exists(conn_id):
        raise AirflowSkipException(f"{what} is skipped: there is no connection {conn_id!r}")


def ledger() -> Ledger:
    """The ledger: by the connection ``threat_response_ledger`` where it exists, else SQLite in the home folder."""
    from include.soar.ledger import Ledger

    try:
        connection = BaseHook.get_connection(LEDGER_CONNECTION)
    except AirflowNotFoundException:
        return Ledger(f"sqlite:///{home() / 'ledger.db'}")
    user = ":".join(quote(part, safe="") for part in (connection.login, connection.password) if part)
    place = f"{connection.host}:{connection.port}" if connection.port else connection.host
    return Ledger(f"postgresql+psycopg2://{user}@{place}/{connection.schema}")


def archive() -> ObjectStoragePath:
    """The folder of raw pages and rejected records; any store that Airflow's object storage knows."""
    return ObjectStoragePath(os.environ.get("THREAT_RESPONSE_ARCHIVE") or f"file://{home() / 'archive'}")


def archive_write(path: ObjectStoragePath, content: bytes) -> str:
    """Write one object whole, making its folder, and give its URL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)
