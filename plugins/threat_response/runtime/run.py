"""TODO: what run is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Context

from include.soar.model import Severity, Window
from include.soar.window import resolve_window


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
