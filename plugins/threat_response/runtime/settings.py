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
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow.sdk import BaseHook, Context, ObjectStoragePath
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSkipException

from include.soar.enrich.sift import unfinished
from include.soar.ledger import Ledger
from include.soar.model import CaseBatch, Decision, Finding, Severity, Window
from include.soar.policy.rules import Policy, load_policy
from include.soar.vendor.errors import one_line
from include.soar.window import resolve_window

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
    return not (blocks and is_backfill(context))


def is_backfill(context: Context) -> bool:
    run_type = context["dag_run"].run_type
    return str(getattr(run_type, "value", run_type)) == "backfill"


def answers_are_frozen(context: Context) -> bool:
    """
    Whether this run takes the answers that were known when its window was first decided, and asks nobody.

    ``answers`` = ``fresh`` (the default) or ``frozen``.
    """
    chosen = (context.get("params") or {}).get("answers") or "fresh"
    if chosen not in ("fresh", "frozen"):
        raise ValueError(f"answers: {chosen!r} is not fresh or frozen")
    return bool(chosen == "frozen")


def finishes(context: Context) -> bool:
    """
    Whether what this run leaves unfinished is remembered, and what it finishes forgotten: not of a run that only plans
    its blocks, or a later run would make them, nor of one that asks nobody.
    """
    return may_write(context, blocks=True) and not answers_are_frozen(context)


def carried_over(context: Context) -> list[Finding]:
    """What earlier runs left unfinished and this one may finish. A backfill leaves it to the live runs."""
    rules = policy().enrichment.carry_over
    if not finishes(context) or is_backfill(context) or not rules.findings:
        return []
    moment = now()
    found = ledger().unfinished(now=moment, since=moment - timedelta(days=rules.days), limit=rules.findings)
    for finding in found:
        log.info("Carried over: finding %s of %s, to be finished", one_line(finding.uid), finding.detected_at)
    return found


def cancel_protected(context: Context, ledger: Ledger) -> None:
    """Say which blocks a later entry speaks against. A run that only plans its blocks changes nothing."""
    if not may_write(context, blocks=True):
        return
    moment = now()
    for row, hit in ledger.cancel_protected(policy().gate_at(moment), run_id=run_name(context), now=moment):
        log.warning(
            "Cancelled: %s at %s is in force, and now %s protects it (%s): lift it, see docs/runbook.md",
            one_line(row.observable),
            row.control,
            hit.layer,
            one_line(hit.reason),
        )


def remember_decided(context: Context, ledger: Ledger, case: Mapping[str, Any], decision: Mapping[str, Any]) -> None:
    """
    After a decision: when its window was first decided, and what a later run has to finish, since an answer is missing
    that may still come.

    :param case: ``CaseBatch`` JSON
    :param decision: ``Decision`` JSON
    """
    batch = CaseBatch.model_validate(case)
    left = unfinished(batch, Decision.model_validate(decision))
    moment = now()
    if not answers_are_frozen(context):
        ledger.record_decided(batch.window, now=moment)
    for one in left:
        log.warning(
            "Unfinished: finding %s: no answer yet by %s; %s",
            one_line(one.finding.uid),
            ", ".join(one.providers),
            f"a run after {one.retry_at:%Y-%m-%d %H:%M:%S} UTC finishes it"
            if finishes(context)
            else "this run only plans its blocks, so no later run finishes it: run it again",
        )
    if not finishes(context):
        return
    open_uids = {one.finding.uid for one in left}
    days = policy().enrichment.carry_over.days
    given_up = ledger.record_unfinished(
        left,
        done=[f.uid for f in batch.findings if f.uid not in open_uids],
        give_up_before=moment - timedelta(days=days),
        now=moment,
    )
    if given_up:
        log.warning("Given up: %d findings are still unfinished after %g days", given_up, days)
