"""What a running task gets from the house: policy, ledger, archive, window, and what it may do.

Read when a task runs, never while a DAG file is parsed. Three environment variables, all optional:

``THREAT_RESPONSE_HOME``     folder for the SQLite ledger and the archive (default ``$AIRFLOW_HOME/threat-response``)
``THREAT_RESPONSE_POLICY``   policy files, ``:``-separated, later ones laid over earlier ones
                             (default ``include/config/policy.yaml``)
``THREAT_RESPONSE_ARCHIVE``  object-storage URL of the archive (default the folder ``archive`` in the home)
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow.sdk import BaseHook, Context, ObjectStoragePath
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSkipException

from include.soar.ledger import Ledger
from include.soar.model import Severity, Window
from include.soar.policy import Policy, load_policy
from include.soar.window import resolve_window

log = logging.getLogger("threat_response")

ROOT = Path(__file__).resolve().parents[2]
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
    return load_policy([path for path, _ in files])


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


def window(context: Context) -> Window:
    """The window that this run reads; see ``include/soar/window.py``."""
    run = context["dag_run"]
    # `.get`: a run without a logical date has none of these keys.
    values: Mapping[str, Any] = context
    return resolve_window(
        params=values.get("params") or {},
        run_type=str(getattr(run.run_type, "value", run.run_type)),
        run_after=run.run_after,
        logical_date=values.get("logical_date"),
        interval_start=values.get("data_interval_start"),
        interval_end=values.get("data_interval_end"),
    )


def run_name(context: Context) -> str:
    """``dag/run``, the name under which the ledger remembers who did something."""
    run = context["dag_run"]
    return f"{run.dag_id}/{run.run_id}"


def minimum_severity(context: Context) -> Severity | None:
    """The run's own minimum severity, None where the policy's holds."""
    chosen = (context.get("params") or {}).get("minimum_severity")
    return Severity(chosen) if chosen else None


def may_write(context: Context, *, blocks: bool) -> bool:
    """
    Whether this run may write outside.

    ``effects`` = ``apply``: yes. ``plan``: no. ``auto`` (the default): yes, except that a backfill only plans its
    blocks, since yesterday's address may be someone else's today.

    :param blocks: True for a control (stages 6, 7, 8), False for incidents
    """
    chosen = (context.get("params") or {}).get("effects") or "auto"
    if chosen not in ("auto", "apply", "plan"):
        raise ValueError(f"effects: {chosen!r} is not auto, apply or plan")
    if chosen != "auto":
        return bool(chosen == "apply")
    run_type = context["dag_run"].run_type
    return not (blocks and str(getattr(run_type, "value", run_type)) == "backfill")
