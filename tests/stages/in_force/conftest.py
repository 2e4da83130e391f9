"""One control at its simulator, with a ledger, and a clock that can be put forward for all of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.soar.ledger import Ledger
from include.soar.model import Action, ActionBatch, Observable, Outcome
from include.soar.vendor.errors import Rejected, Unavailable, VendorError
from tests.stages.controlling.control_contract import Subject
from tests.stages.controls import POLICY
from tests.support import SimServer
from threat_response import groups
from threat_response.runtime import settings
from threat_response.stages.in_force.lift import Lift
from threat_response.stages.in_force.reconcile import Reconcile

IP = "ipv4-addr"


class Held:
    """A control, and the tasks that hold it against the ledger."""

    def __init__(self, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
        self.subject, self.monkeypatch = subject, monkeypatch
        self.name = subject.name
        self.runs = 0
        self.errors: list[VendorError] = []
        self.given: Any = ActionBatch(control=subject.name, actions=()).to_json()

    @property
    def ledger(self) -> Ledger:
        return settings.ledger()

    def put_forward(self, **time: float) -> None:
        """For us and for the vendor."""
        moment = settings.now() + timedelta(**time)
        offset = moment - datetime.now(UTC)
        self.monkeypatch.setattr(settings, "now", lambda: datetime.now(UTC) + offset)
        if self.name != "akamai_client_lists":  # whose signatures are made by the real clock
            self.subject.sim.set_clock(moment.isoformat())

    def context(self, run_id: str | None = None, **params: Any) -> Any:
        self.runs += 1
        run = SimpleNamespace(
            run_type="manual",
            run_id=run_id or f"run-{self.runs}",
            dag_id="reconcile_blocks",
            start_date=settings.now(),
            run_after=settings.now(),
            conf={},
            triggering_user_name="ada",
        )
        return {"dag_run": run, "params": params, "ti": SimpleNamespace(xcom_push=self._push)}

    def reconcile(self, context: Any = None, *, only_expired: bool = False) -> dict[str, str]:
        """By value, what became of it."""
        task = Reconcile(
            task_id="reconcile",
            vendor=self.name,
            control=groups.controls()[self.name],
            confirm=groups.confirms().get(self.name),
            only_expired=only_expired,
        )
        return self._outcomes(partial(task.execute, context or self.context()))

    def blocked(self, *values: str) -> None:
        """They are in force, and the ledger knows it."""
        self.subject.ensure(*values)
        self.reconcile()

    def reconcile_or_raise(self) -> None:
        self.reconcile()
        for error in self.errors:
            raise error

    def lift(self, *values: str, context: Any = None, by: str = "ada", reason: str = "a customer") -> dict[str, str]:
        observables = [Observable(type=IP, value=value).to_json() for value in values]
        asked = {"observables": observables, "by": by, "reason": reason}
        task = Lift(task_id="lift", vendor=self.name, control=groups.controls()[self.name], asked=asked)
        return self._outcomes(partial(task.execute, context or self.context()))

    def actions(self) -> list[Action]:
        """What the last task gave."""
        return list(ActionBatch.model_validate(self.given).actions)

    def in_force(self) -> dict[str, Any]:
        """By value, what the ledger says of it."""
        rows = self.ledger.actions.rows_in_force(settings.now(), self.name)
        return {row.observable.value: row for row in rows}

    def equals_the_ledger(self) -> bool:
        return self.subject.held() == set(self.in_force()) and self.subject.enforced() == set(self.in_force())

    def _push(self, key: str, value: Any) -> None:
        self.given = value

    def _outcomes(self, execute: Any) -> dict[str, str]:
        self.errors = []
        try:
            self.given = execute()
        except (Rejected, Unavailable) as error:
            self.errors = [error]
        return {a.observable.value: a.outcome.value for a in self.actions() if a.outcome is not Outcome.PLANNED}


@pytest.fixture
def held(request: pytest.FixtureRequest, sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Held:
    """Parametrised with the control's name."""
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    return Held(import_module(f"tests.vendors.{request.param}.contract").SUBJECT(sim, monkeypatch), monkeypatch)
