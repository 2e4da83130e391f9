"""
What every control promises, against each one's simulator: ensure and lift are idempotent, undo each other, leave alone
what is not ours or what a person has changed, and one bad item costs only itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from include.simulators import crowdstrike_falcon as simulator
from include.soar.model import Action, Indicator, Outcome, Verb
from include.soar.vendor.errors import RateLimited, Unauthorized, Unavailable, VendorError, WriteInPlanMode
from tests.stages.controls import POLICY, decision, indicator, run
from tests.support import SimServer
from tests.vendors.akamai_client_lists import conftest as akamai
from tests.vendors.crowdstrike_falcon import conftest as falcon
from tests.vendors.splunk import conftest as splunk
from threat_response import registry
from threat_response.stages.control import Control, Result

IP = "ipv4-addr"
EVIL, WORSE, THIRD, BAD = "198.51.100.7", "198.51.100.8", "198.51.100.9", "198.51.100.10"


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


class AkamaiClientLists(Subject):
    stage, name = "block.waf", "akamai_client_lists"
    removal = {"method": "POST", "path": "/items$"}

    def connect(self) -> None:
        akamai.point_at(self.monkeypatch, self.sim)
        akamai.seed(self.sim)

    def put(self, value: str, **changes: Any) -> None:
        akamai.seed(self.sim, {"value": value, "description": "by hand", "tags": ["soc"]} | changes)

    def change(self, value: str) -> None:
        items = self.sim.world.simulators[self.name].lists[akamai.LIST].items
        [key] = [key for key, item in items.items() if item["value"] == value]
        items[key] = items[key] | {"tags": [*items[key]["tags"], "keep"]}

    def held(self) -> set[str]:
        return set(akamai.held(self.sim))

    def enforced(self) -> set[str]:
        return set(self.sim.state(self.name)["lists"][akamai.LIST]["live"]["PRODUCTION"])

    def refuse_to_remove(self, value: str) -> None:
        self.sim.fault(self.name, "status", status=400, times=-1, body=f'"{value}"', **self.removal)


class CrowdStrikeFalcon(Subject):
    stage, name = "block.edr", "crowdstrike_falcon"
    removal = {"method": "DELETE"}

    def connect(self) -> None:
        falcon.point_at(self.monkeypatch, self.sim)

    def put(self, value: str, **changes: Any) -> None:
        given = {"type": "ipv4", "value": value, "action": "detect", "severity": "low", "platforms": ["windows"]}
        falcon.seed(self.sim, given | {"applied_globally": True, "source": "soc", "description": "by hand"} | changes)

    def change(self, value: str) -> None:
        self._found(value)["description"] = "keep this, says the SOC"

    def held(self) -> set[str]:
        return {i["value"] for i in self.sim.state(self.name)["indicators"] if not i["deleted"]}

    def refuse_to_remove(self, value: str) -> None:
        bad, ids = self._found(value)["id"], simulator._ids

        def refusing(request: Any) -> list[str]:
            if request.method == "DELETE" and bad in ids(request):
                raise simulator.Refused(400, "Bad request")
            return ids(request)

        self.monkeypatch.setattr(simulator, "_ids", refusing)

    def _found(self, value: str) -> Any:
        indicators = self.sim.world.simulators[self.name].indicators.values()
        return next(i for i in indicators if i["value"] == value and not i["deleted"])


class Splunk(Subject):
    stage, name = "watch", "splunk"
    removal = {"method": "DELETE"}

    def connect(self) -> None:
        splunk.point_at(self.monkeypatch, self.sim)
        splunk.seed(self.sim)

    def put(self, value: str, **changes: Any) -> None:
        splunk.seed(self.sim, {"_key": f"{IP}:{value}", "value": value, "source": "soc"} | changes)

    def change(self, value: str) -> None:
        splunk.seed(self.sim, splunk.held(self.sim)[f"{IP}:{value}"] | {"note": "keep this, says the SOC"})

    def held(self) -> set[str]:
        return {document["value"] for document in splunk.held(self.sim).values()}

    def refuse_to_remove(self, value: str) -> None:
        self.sim.fault(self.name, "status", status=400, times=-1, path=value, **self.removal)


SUBJECTS: dict[str, type[Subject]] = {kind.name: kind for kind in (AkamaiClientLists, CrowdStrikeFalcon, Splunk)}


@pytest.fixture(params=SUBJECTS)
def control(request: pytest.FixtureRequest, sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Subject:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    return SUBJECTS[request.param](sim, monkeypatch)


def test_every_control_of_the_registry_is_here() -> None:
    stages = [stage for stage in registry.SERVES if stage.startswith("block.") or stage == "watch"]
    assert set(SUBJECTS) == {name for stage in stages for name in registry.SERVES[stage]}


def test_ensure_twice_writes_once(control: Subject) -> None:
    control.ensure(EVIL, WORSE)
    written = control.writes()
    again = control.ensure(EVIL, WORSE)
    assert control.held() == {EVIL, WORSE}
    assert control.writes() == written
    assert {action.changed for action in again} == {False}


def test_lift_twice_removes_once(control: Subject) -> None:
    actions = control.ensure(EVIL, WORSE)
    lifted = control.lift(actions)
    assert set(lifted) == {EVIL, WORSE}
    assert {a.outcome for a in lifted.values()} <= {Outcome.LIFTED, Outcome.PENDING}
    assert all(a.changed for a in lifted.values())
    assert control.held() == set()
    written = control.writes()
    again = control.lift(actions)
    assert {a.outcome for a in again.values()} == {Outcome.GONE}
    assert not any(a.changed for a in again.values())
    assert control.writes() == written
    assert control.enforced() == set()


def test_only_what_was_named_is_lifted(control: Subject) -> None:
    first, second = control.ensure(EVIL, WORSE)
    control.lift([first])
    assert control.held() == {second.observable.value}


def test_an_item_of_a_person_stays(control: Subject) -> None:
    control.put(EVIL)
    left = control.lift([control.operator.action(control.indicator(EVIL), Outcome.BLOCKED, "says the ledger")])[EVIL]
    assert (left.outcome, left.changed) == (Outcome.NOT_OURS, False)
    assert "left alone" in left.detail
    assert control.held() == {EVIL}
    assert control.writes() == []


def test_what_a_person_changed_since_stays_and_costs_the_others_nothing(control: Subject) -> None:
    actions = control.ensure(EVIL, WORSE)
    control.change(EVIL)
    lifted = control.lift(actions)
    assert lifted[EVIL].outcome is Outcome.NOT_OURS
    assert "left alone" in lifted[EVIL].detail
    assert lifted[WORSE].outcome in (Outcome.LIFTED, Outcome.PENDING)
    assert control.held() == {EVIL}


def test_what_a_person_prolonged_since_stays(control: Subject) -> None:
    """The ledger's end is the proof: the item says another one."""
    [action] = control.ensure(EVIL)
    assert action.expires_at is not None
    earlier = action.model_copy(update={"expires_at": action.expires_at - timedelta(days=1)})
    assert control.lift([earlier])[EVIL].outcome is Outcome.NOT_OURS
    assert control.held() == {EVIL}


def test_what_is_gone_already_is_no_failure(control: Subject) -> None:
    actions = control.ensure(EVIL, WORSE)
    control.lift(actions[:1])
    control.lift([])  # nothing to do is nothing done
    lifted = control.lift(actions)
    gone, removed = (lifted[action.observable.value] for action in actions)
    # Pending where the list that no longer holds it is not enforced yet.
    assert (gone.outcome in (Outcome.GONE, Outcome.PENDING), gone.changed) == (True, False)
    assert (removed.outcome in (Outcome.LIFTED, Outcome.PENDING), removed.changed) == (True, True)
    assert control.held() == set()


def test_plan_mode_refuses_to_lift(control: Subject) -> None:
    actions = control.ensure(EVIL)
    control.sim.world.calls.clear()
    with pytest.raises(WriteInPlanMode):
        control.lift(actions, writes=False)
    assert control.writes() == []
    assert control.held() == {EVIL}


def test_one_bad_item_costs_only_itself(control: Subject) -> None:
    actions = control.ensure(EVIL, WORSE, BAD, THIRD)
    control.refuse_to_remove(BAD)
    result = control.result(actions)
    assert result.error is None
    lifted = control.actions(result)
    assert lifted[BAD].outcome is Outcome.FAILED
    assert {lifted[v].outcome for v in (EVIL, WORSE, THIRD)} <= {Outcome.LIFTED, Outcome.PENDING}
    assert control.held() == {BAD}


def test_ensure_works_again_after_a_lift(control: Subject) -> None:
    control.lift(control.ensure(EVIL))
    [again] = control.ensure(EVIL)
    assert (again.verb, again.changed) == (control.kind.verb, True)
    assert control.held() == {EVIL}


@pytest.mark.parametrize(
    ("status", "error"), [(401, Unauthorized), (429, RateLimited), (500, Unavailable)], ids=["401", "429", "500"]
)
def test_what_stops_the_removing_is_said_and_a_later_try_finishes(
    control: Subject, status: int, error: type[VendorError]
) -> None:
    actions = control.ensure(EVIL, WORSE)
    control.sim.fault(control.name, "status", status=status, **control.removal)
    result = control.result(actions)
    assert type(result.error) is error
    assert {a.outcome for a in control.actions(result).values()} == {Outcome.FAILED}
    assert control.held() == {EVIL, WORSE}
    control.lift(actions)
    assert control.held() == set()


def test_an_answer_that_is_lost_after_the_removal_is_found_done(control: Subject) -> None:
    actions = control.ensure(EVIL)
    control.sim.fault(control.name, "reset_after_commit", **control.removal)
    control.result(actions)
    assert control.held() == set()
    last = control.lift(actions)[EVIL]
    assert last.outcome in (Outcome.GONE, Outcome.PENDING)
    assert control.lift(actions)[EVIL].outcome is Outcome.GONE
    assert control.enforced() == set()


def test_what_is_not_for_the_control_is_not_there(control: Subject) -> None:
    [action] = control.ensure(EVIL)
    stray = action.model_copy(update={"observable": indicator("url", "http://bad.example/x").observable})
    assert control.lift([stray])["http://bad.example/x"].outcome is Outcome.GONE
    assert control.held() == {EVIL}
