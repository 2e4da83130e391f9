"""One control at its simulator, as the contract suite needs it. Each has its own in tests/vendors/*/contract.py."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import pytest

from include.soar.model import Action, Indicator, Verb
from tests.stages.controls import decision, indicator, run
from tests.support import SimServer
from threat_response import registry
from threat_response.stages.control import Control, Result

IP = "ipv4-addr"


class Subject(ABC):
    """One control at its simulator."""

    stage: str
    name: str
    #: How its requests that remove something are told from the others.
    removal: dict[str, Any]

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
    def held(self) -> set[str]:
        """The values of the items that are there, whoever made them."""

    @abstractmethod
    def refuse_to_remove(self, value: str) -> None:
        """From now on the vendor refuses every removal that names this value, as a whole."""

    def enforced(self) -> set[str]:
        """What is in force."""
        return self.held()

    def ensure(self, *values: str) -> list[Action]:
        done = run(self.kind, decision(*(self.indicator(value) for value in values)))
        assert done.error is None
        assert done.batch is not None
        return list(done.batch.actions)

    def indicator(self, value: str) -> Indicator:
        """The same one each time: a later end would be a reason to write."""
        return self.indicators.setdefault(value, indicator(IP, value))

    def lift(self, actions: Sequence[Action], *, writes: bool = True) -> dict[str, Action]:
        return self.actions(self.result(actions, writes=writes))

    def result(self, actions: Sequence[Action], *, writes: bool = True) -> Result:
        hook = self.operator.hook_class(self.operator.conn_id, writes_allowed=writes)
        return self.operator.lift(hook, actions)

    def actions(self, result: Result) -> dict[str, Action]:
        """Each action once."""
        by_value = {action.observable.value: action for action in result.actions}
        assert len(by_value) == len(result.actions)
        assert {(a.control, a.verb) for a in result.actions} <= {(self.name, Verb.LIFT)}
        return by_value

    def writes(self) -> list[str]:
        return [c["method"] for c in self.sim.calls(self.name) if c["method"] != "GET" and "oauth2" not in c["path"]]
