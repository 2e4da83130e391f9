"""What the tests of the controls (stages 6, 7 and 8) share: a decision, a run, and the usual faults."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.soar.model import (
    Action,
    ActionBatch,
    Decision,
    IncidentBatch,
    IncidentOutcome,
    IncidentRef,
    Indicator,
    Observable,
    Role,
)
from include.soar.vendor.errors import RateLimited, Unauthorized, Unavailable, Unexpected
from threat_response.stages.control import Control

ROOT = Path(__file__).resolve().parents[2]
POLICY = ":".join(str(ROOT / "include/config" / name) for name in ("policy.yaml", "policy.demo.yaml"))
#: An address that the demo's policy protects.
PROTECTED = "192.0.2.5"

#: kind, options, the error that it must become. ``delay`` needs a client whose time-out is shorter.
FAULTS = [
    pytest.param("status", {"status": 401}, Unauthorized, id="401"),
    pytest.param("status", {"status": 403}, Unauthorized, id="403"),
    pytest.param("status", {"status": 429, "headers": {"Retry-After": "7"}}, RateLimited, id="429"),
    pytest.param("status", {"status": 500}, Unavailable, id="500"),
    pytest.param("delay", {"seconds": 30}, Unavailable, id="timeout"),
    pytest.param("reset", {}, Unavailable, id="reset"),
    pytest.param("truncate", {}, Unavailable, id="truncated"),
    pytest.param("html", {"status": 503}, Unavailable, id="html-503"),
    pytest.param("html", {"status": 200}, Unexpected, id="html-200"),
]
#: The same for writes. A delayed write would be handled in the middle of the next test, so this one is done first
#: and answered late. A cut or foreign answer is
#: left out: what a write answers is not read, since the state is read back.
WRITE_FAULTS = [
    *(p for p in FAULTS if p.id not in ("timeout", "truncated", "html-200")),
    pytest.param("hang_after_commit", {"seconds": 30}, Unavailable, id="timeout"),
]


def indicator(kind: str, value: str, *, days: float = 7, **more: Any) -> Indicator:
    now = datetime.now(UTC)
    fields: dict[str, Any] = {
        "observable": Observable(type=kind, value=value),
        "confidence": 80,
        "reasons": ("listed by two sources",),
        "roles": (Role.ATTACKER,),
        "first_seen_at": now - timedelta(hours=2),
        "last_seen_at": now,
        "expires_at": now + timedelta(days=days),
        "finding_uids": ("finding-1",),
    }
    return Indicator(**{**fields, **more})


def decision(*indicators: Indicator) -> dict[str, Any]:
    return Decision(policy_digest="d", priorities=(), verdicts=(), indicators=indicators, refusals=()).to_json()


def incidents(readable_id: str = "INC-1") -> dict[str, Any]:
    ref = IncidentRef(
        finding_uid="finding-1",
        marker="m",
        outcome=IncidentOutcome.CREATED,
        title="t",
        unique_id="u",
        readable_id=readable_id,
    )
    return IncidentBatch(incidents=(ref,)).to_json()


@dataclass
class Run:
    """How a task ended: its batch, whether returned or pushed before the error, and the error."""

    batch: ActionBatch | None = None
    error: Exception | None = None
    pushed: dict[str, Any] = field(default_factory=dict)

    @property
    def actions(self) -> dict[str, Action]:
        assert self.batch is not None
        return {a.observable.value: a for a in self.batch.actions}

    @property
    def outcomes(self) -> dict[str, str]:
        return {value: action.outcome.value for value, action in self.actions.items()}


def context(effects: str = "apply", **ti: Any) -> Any:
    run = SimpleNamespace(run_type="manual", run_id="run-1", dag_id="response", run_after=datetime.now(UTC))
    return {"dag_run": run, "params": {"effects": effects}, "ti": SimpleNamespace(**ti)}


def run(
    operator_class: type[Control], wanted: dict[str, Any], *, effects: str = "apply", incident: str = "INC-1"
) -> Run:
    """Execute the operator once, as Airflow would."""
    result = Run()
    operator = operator_class(task_id="control", decision=wanted, incidents=incidents(incident))
    push = context(effects, xcom_push=lambda key, value: result.pushed.update({key: value}))
    try:
        result.batch = ActionBatch.model_validate(operator.execute(push))
    except Exception as error:
        result.error = error
        if "return_value" in result.pushed:
            result.batch = ActionBatch.model_validate(result.pushed["return_value"])
    return result


@contextmanager
def everything_logged() -> Iterator[list[str]]:
    """All that any logger says, at DEBUG, as a handler without Airflow's masking sees it."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    root, keep = logging.getLogger(), Keep(logging.DEBUG)
    before = root.level
    root.addHandler(keep)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(keep)
        root.setLevel(before)
