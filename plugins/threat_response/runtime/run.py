"""The run that a task belongs to: its window, its name, what it may do. Nothing else asks Airflow's context for it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import quote

from airflow.sdk import Context
from airflow.sdk.configuration import conf

from include.soar.model import Severity, Window
from include.soar.vendor.errors import one_line
from include.soar.window import resolve_window
from threat_response.runtime.process import has_ended, process_name


def is_gone(claimant: str) -> bool:
    """
    Whether the process of a try (:attr:`Run.claimant`) is known to have ended. Of another machine's nobody knows, and
    its successor waits for the end of the lease.
    """
    return has_ended(claimant.rpartition("#")[0].rpartition("#")[2])


#: What a run may be triggered with; the DAG file declares each. A test holds them equal.
PARAMETERS = frozenset({"effects", "minimum_severity", "answers", "window_start", "window_end", "lookback_minutes"})
#: The same of the DAGs beside ``api_threat_response``.
OTHER_PARAMETERS = {
    "lift_expired_blocks": frozenset({"effects"}),
    "reconcile_blocks": frozenset({"effects"}),
    "lift_block": frozenset({"value", "reason"}),
    "block_by_hand": frozenset({"value", "hours", "rung", "reason"}),
    "allow_value": frozenset({"value", "until", "owner", "reason"}),
}


@dataclass(frozen=True)
class Run:
    """Made from a task's context by :meth:`of`. Each property is read when it is first used."""

    context: Mapping[str, Any]

    @classmethod
    def of(cls, context: Context) -> Run:
        return cls(context)

    @cached_property
    def window(self) -> Window:
        """The window that this run reads; see ``include/soar/window.py``."""
        run = self.context["dag_run"]
        # `.get`: a run without a logical date has none of these keys.
        return resolve_window(
            params=self.params,
            run_type=self._type,
            run_after=run.run_after,
            logical_date=self.context.get("logical_date"),
            interval_start=self.context.get("data_interval_start"),
            interval_end=self.context.get("data_interval_end"),
        )

    @property
    def params(self) -> Mapping[str, Any]:
        """
        The run's parameters.

        :raises ValueError: the run was triggered with one that there is not: ``{"effect": "plan"}`` must not block
        """
        run = self.context["dag_run"]
        parameters = OTHER_PARAMETERS.get(run.dag_id, PARAMETERS)
        if unknown := sorted(set(getattr(run, "conf", None) or {}) - parameters):
            known = ", ".join(sorted(parameters))
            raise ValueError(f"no such parameter: {', '.join(map(one_line, unknown))}; there are {known}")
        return self.context.get("params") or {}

    @property
    def name(self) -> str:
        """``dag/run``, the name under which the ledger remembers who did something."""
        run = self.context["dag_run"]
        return f"{run.dag_id}/{run.run_id}"

    @cached_property
    def claimant(self) -> str:
        """
        This very try of this very task, under which the ledger holds what only one may do at a time. Not the run, nor
        the try's number: a try that Airflow gave up for dead may still be working beside its successor.
        """
        # The ledger keeps 512 characters; the token alone would tell tries apart.
        return f"{self.name[:300]}#{process_name()}#{secrets.token_hex(4)}"

    @property
    def triggered_by(self) -> str:
        """The Airflow user who triggered the run in the UI or by the REST API; empty for a run of the schedule."""
        return str(getattr(self.context["dag_run"], "triggering_user_name", None) or "")

    @property
    def started_at(self) -> datetime | None:
        """When the run began, whichever try of a task this is; None for one that Airflow has not started."""
        started: datetime | None = self.context["dag_run"].start_date
        return started

    @property
    def url(self) -> str | None:
        """The run's page in Airflow; None where Airflow does not know its own address."""
        run = self.context["dag_run"]
        if getattr(run, "is_command", False):
            return None
        base = conf.get("api", "base_url", fallback="").rstrip("/")
        return f"{base}/dags/{quote(run.dag_id, safe='')}/runs/{quote(run.run_id, safe='')}" if base else None

    @property
    def minimum_severity(self) -> Severity | None:
        """The run's own minimum severity, None where the policy's holds."""
        chosen = self.params.get("minimum_severity")
        return Severity(chosen) if chosen else None

    @property
    def is_backfill(self) -> bool:
        return self._type == "backfill"

    def may_write(self, *, blocks: bool) -> bool:
        """
        Whether this run may write outside.

        ``effects`` = ``apply``: yes. ``plan``: no. ``auto`` (the default): yes, except that a backfill only plans its
        blocks, since yesterday's address may be someone else's today.

        :param blocks: True for a control (stages 6, 7, 8), False for incidents
        """
        chosen = self._choice("effects", ("auto", "apply", "plan"))
        if chosen != "auto":
            return chosen == "apply"
        return not (blocks and self.is_backfill)

    @property
    def answers_are_frozen(self) -> bool:
        """
        Whether this run takes the answers that were known when its window was first decided, and asks nobody.

        ``answers`` = ``fresh`` (the default) or ``frozen``.
        """
        return self._choice("answers", ("fresh", "frozen")) == "frozen"

    @property
    def finishes(self) -> bool:
        """
        Whether what this run leaves unfinished is remembered, and what it finishes forgotten: not of a run that only
        plans its blocks, or a later run would make them, nor of one that asks nobody.
        """
        return self.may_write(blocks=True) and not self.answers_are_frozen

    @property
    def _type(self) -> str:
        run_type = self.context["dag_run"].run_type
        return str(getattr(run_type, "value", run_type))

    def _choice(self, name: str, allowed: tuple[str, ...]) -> str:
        """A parameter's value, by default the first one that is allowed."""
        chosen = self.params.get(name) or allowed[0]
        if chosen not in allowed:
            *most, last = allowed
            raise ValueError(f"{name}: {chosen!r} is not {', '.join(most)} or {last}")
        return str(chosen)
