"""One control at its simulator, as the contract suite needs it. Each has its own in tests/vendors/*/contract.py."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.soar.model import Action, ActionBatch, Indicator, Verb
from tests.stages.controls import Run, decision, indicator, run
from tests.support import SimServer
from threat_response import registry
from threat_response.runtime import settings
from threat_response.stages.control import Control, Held, Ours, Result

IP = "ipv4-addr"


class Subject(ABC):
    """One control at its simulator."""

    stage: str
    name: str
    #: How its requests that remove something are told from the others, and those that add something.
    removal: dict[str, Any]
    addition: dict[str, Any]
    #: Whether the vendor can be asked for everything of ours, so that it is found without the ledger too.
    lists_all = True

    def __init__(self, sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sim, self.monkeypatch = sim, monkeypatch
        self.indicators: dict[str, Indicator] = {}
        self.kind: type[Control] = registry.operator(self.stage, self.name)
        self.operator = self.kind(task_id="lift")
        self.connect()

    @abstractmethod
    def connect(self) -> None:
        """Connection and an empty place to write to."""

    @abstractmethod
    def put(self, value: str, **changes: Any) -> None:
        """An item of a person."""

    @abstractmethod
    def change(self, value: str) -> None:
        """A person changes the item that is there."""

    @abstractmethod
    def remove(self, value: str) -> None:
        """A person removes the item that is there, and has it taken over."""

    @abstractmethod
    def held(self) -> set[str]:
        """The values of the items that are there, whoever made them."""

    @abstractmethod
    def refuse_to_remove(self, value: str) -> None:
        """From now on the vendor refuses every removal that names this value, as a whole."""

    def enforced(self) -> set[str]:
        """What is in force."""
        return self.held()

    def ensure(self, *values: str) -> list[Action]:
        done = self.act(*values)
        assert done.error is None
        return list(done.actions.values())

    def act(self, *values: str, effects: str = "apply") -> Run:
        """The task, as Airflow runs it."""
        done = run(self.kind, decision(*(self.indicator(value) for value in values)), effects=effects)
        assert done.batch is not None
        return done

    def indicator(self, value: str) -> Indicator:
        """The same one each time: a later end would be a reason to write."""
        return self.indicators.setdefault(value, indicator(IP, value))

    def see_again(self, value: str, **changes: Any) -> None:
        """From now on it was seen a moment ago."""
        changes = {"last_seen_at": datetime.now(UTC), **changes}
        self.indicators[value] = self.indicator(value).model_copy(update=changes)

    def hook(self, *, writes: bool = True) -> Any:
        return self.operator.hook_class(self.operator.conn_id, writes_allowed=writes)

    @property
    def ours(self) -> Ours:
        """What the ledger knows of ours here."""
        return settings.ledger().actions.in_force(self.name)

    def lose_ledger(self) -> None:
        self.monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(settings.home() / "another"))

    def survey(self, *also: str, later: timedelta = timedelta()) -> dict[str, Held]:
        """By value."""
        found = self.operator.survey(
            self.hook(writes=False),
            self.ours,
            settings.now() + later,
            [self.indicator(value).observable for value in also],
        )
        assert all(key == one.observable.key for key, one in found.held.items())
        return {one.observable.value: one for one in found.held.values()}

    def sweep(self, later: timedelta, *, writes: bool = True) -> dict[str, Action]:
        """As by then."""
        return self.remembered(self.operator.sweep(self.hook(writes=writes), self.ours, settings.now() + later))

    def lift(self, actions: Sequence[Action], *, writes: bool = True) -> dict[str, Action]:
        return self.remembered(self.result(actions, writes=writes))

    def result(self, actions: Sequence[Action], *, writes: bool = True) -> Result:
        return self.operator.lift(self.hook(writes=writes), actions)

    def remembered(self, result: Result) -> dict[str, Action]:
        """As whoever lifts does: what was done goes into the ledger."""
        batch = ActionBatch(control=self.name, actions=tuple(result.actions))
        settings.ledger().actions.record(batch, run_id="response/lift", now=settings.now())
        return self.actions(result)

    def actions(self, result: Result) -> dict[str, Action]:
        """Each action once."""
        by_value = {action.observable.value: action for action in result.actions}
        assert len(by_value) == len(result.actions)
        assert {(a.control, a.verb) for a in result.actions} <= {(self.name, Verb.LIFT)}
        return by_value

    def writes(self) -> list[str]:
        return [c["method"] for c in self.sim.calls(self.name) if c["method"] != "GET" and "oauth2" not in c["path"]]
