"""
Several controls at their simulators, a ledger, a clock and a case-management product, and what the stages do there.

It remembers what a person did and what the incidents were told, and compares it with the controls after each step.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped, TaskAwaitingInput
from airflow.sdk.execution_time import task_runner

from include.soar.extract.findings import observe
from include.soar.incident import plain
from include.soar.incident.choices import ALL, NONE, options
from include.soar.incident.clean import defang
from include.soar.model import (
    Action,
    ActionBatch,
    Answer,
    CaseBatch,
    Decision,
    Observable,
    Outcome,
    Reputation,
    ReputationBatch,
    Severity,
    Window,
)
from include.soar.vendor.errors import VendorError
from tests.conftest import forget_masked_secrets
from tests.soar.examples import finding, mention
from tests.stages.controls import POLICY
from tests.stages.incidents.incident_products import MemoryProduct
from tests.support import SimServer
from threat_response import groups, registry
from threat_response.runtime import settings
from threat_response.stages.approve_blocks import ApproveBlocks, PlanChanged
from threat_response.stages.decide import Decide
from threat_response.stages.in_force.asked import CannotDo, allow, remember_lift
from threat_response.stages.in_force.lift import Lift
from threat_response.stages.in_force.reconcile import Reconcile
from threat_response.stages.in_force.tell import TellIncidents
from threat_response.stages.open_incidents import OpenIncidents
from threat_response.stages.plan_blocks import PlanBlocks
from threat_response.stages.update_incidents import UpdateIncidents

Json = dict[str, Any]
IP = "ipv4-addr"
START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
#: Values that may be blocked, and one that the demo's policy protects.
VALUES = ("198.51.100.7", "198.51.100.8", "203.0.113.9", "203.0.113.10")
PROTECTED = "192.0.2.5"
#: So that a run holds what is more than one new block.
MORE_POLICY = "block: {maximum_per_run: 1}\n"
DOING = {"blocked", "detect_only", "watched"}


def value_of(value: str) -> Observable:
    return Observable(type=IP, value=value)


@dataclass
class Asked:
    """One run of the workflow, which may wait for a person's answer or for the network."""

    name: str
    started_at: datetime
    case: Json
    answers: Json
    decision: Json = field(default_factory=dict)
    opened: Json = field(default_factory=dict)
    operator: ApproveBlocks | None = None
    waiting: TaskAwaitingInput | None = None
    actions: Json = field(default_factory=dict)
    approved: Json | None = None


class Histories:
    """
    :ivar theirs: what a person put or changed, as it must stay, by control and value
    :ivar lifted: when a person had lifted a value everywhere
    :ivar removed: until when a sighting is older than a person's removal, by control and value
    :ivar seen: the latest sighting of each value that a run decided about
    :ivar told: how many comments an incident had when it was told of what is in force, by incident, control and value
    """

    def __init__(self, sim: SimServer, folder: Path, names: Sequence[str]) -> None:
        self.patch = pytest.MonkeyPatch()
        self.sim, self.folder = sim, folder
        forget_masked_secrets()
        sim.world.reset()
        self.now, self.runs = START, 0
        self.patch.setattr(settings, "now", lambda: self.now)
        more = folder / "more.yaml"
        more.write_text(MORE_POLICY, "utf-8")
        self.patch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", f"{POLICY}:{more}")
        self.patch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(folder))
        self.patch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=lambda msg: None), raising=False)
        self.product = MemoryProduct(self.patch)
        self.subjects = {n: import_module(f"tests.vendors.{n}.contract").SUBJECT(sim, self.patch) for n in names}
        self.controls = {n: make for n, make in groups.controls().items() if n in names}
        self.confirms = {n: make for n, make in groups.confirms().items() if n in names}
        sim.configure("akamai_client_lists", timestamp_window_seconds=None)
        self.forget_ledger()
        self.asked: list[Asked] = []
        self.past: list[Asked] = []
        self.theirs: dict[tuple[str, str], Any] = {}
        self.seen: dict[str, datetime] = {}
        self.errors: list[Exception] = []
        self.forward(timedelta())

    def end(self) -> None:
        self.patch.undo()
        for file in self.folder.glob("ledger.db*"):
            file.unlink()

    # --- the world ------------------------------------------------------------------------------------------

    def forward(self, time: timedelta) -> None:
        """Later, in processes that are new."""
        forget_masked_secrets()
        self.now += time
        self.sim.set_clock(self.now.isoformat())

    def forget_ledger(self) -> None:
        """As a person does who deletes the file: what it knew of lifts, and of who was told, is lost with it."""
        for file in self.folder.glob("ledger.db*"):
            file.unlink()
        if (empty := self.folder / "empty.db").exists():
            shutil.copy(empty, self.folder / "ledger.db")
        else:
            settings.ledger().claims.release("nothing", by="nobody")
            shutil.copy(self.folder / "ledger.db", empty)
        self.lifted: dict[str, datetime] = {}
        self.removed: dict[tuple[str, str], datetime] = {}
        self.told: dict[tuple[str, str, str], int] = {}

    def raw(self, control: str) -> dict[str, Any]:
        """Every item at a control by its value, as the vendor has it. At most one each."""
        items = self._items(control)
        by_value = {item["value"]: item for item in items}
        assert len(by_value) == len(items), f"{control} holds a value twice"
        return by_value

    def _items(self, control: str) -> list[Any]:
        state = self.sim.state(control)
        if control == "akamai_client_lists":
            [entry] = state["lists"].values()
            return list(entry["items"])
        if control == "crowdstrike_falcon":
            return [i for i in state["indicators"] if not i["deleted"]]
        [documents] = [d for name, d in state["collections"].items() if name == "threat_watchlist"]
        return list(documents)

    def ours(self, control: str) -> set[str]:
        """The values of the items with our mark that no person changed."""
        return {v for v, item in self.raw(control).items() if is_ours(item) and (control, v) not in self.theirs}

    def in_ledger(self, control: str) -> dict[str, Any]:
        rows = settings.ledger().actions.rows_in_force(self.now, control)
        return {row.observable.value: row for row in rows}

    def down(self, control: str, kind: str) -> None:
        how: Json = {"status": 503} if kind == "status" else {}
        only: Json = self.subjects[control].addition if kind == "reset_after_commit" else {}
        self.sim.fault(control, kind, times=1 if only else -1, **how, **only)

    def up(self) -> None:
        self.sim.world.faults.clear()

    # --- what a person does at a control ---------------------------------------------------------------------

    def put(self, control: str, value: str) -> None:
        self.subjects[control].put(value)
        self.theirs[control, value] = self.raw(control)[value]

    def change(self, control: str, value: str) -> None:
        self.subjects[control].change(value)
        self.theirs[control, value] = self.raw(control)[value]

    def remove(self, control: str, value: str) -> None:
        known = settings.ledger().actions.in_force(control).get(value_of(value).key)
        self.subjects[control].remove(value)
        self.theirs.pop((control, value), None)
        if known is not None and known.intended_verb is None and not known.lifting:
            self.removed[control, value] = known.updated_at

    # --- the workflow ----------------------------------------------------------------------------------------

    def context(self, asked: Asked | None = None, **params: Any) -> Any:
        self.runs += 1
        pushed: Json = {}
        run = SimpleNamespace(
            run_type="manual",
            run_id=asked.name if asked else f"run-{self.runs}",
            dag_id="api_threat_response" if asked else "reconcile_blocks",
            start_date=asked.started_at if asked else self.now,
            run_after=self.now,
            conf={},
            triggering_user_name="ada",
        )
        ti = SimpleNamespace(
            id=UUID(int=1),
            pushed=pushed,
            xcom_push=lambda key, value: pushed.update({key: value}),
            get_first_reschedule_date=lambda _context: None,
        )
        return {"dag_run": run, "params": {"effects": "apply", **params}, "ti": ti, "task_instance": ti}

    def execute(self, task: Any, context: Any) -> Any:
        """What a task gives, also one that fails as it should."""
        try:
            return task.execute(context)
        except VendorError as error:
            self.errors.append(error)
            return context["ti"].pushed.get("return_value")

    def found(self, values: Sequence[str], *, severity: Severity, scores: dict[str, int], minutes_ago: int) -> Asked:
        """A run that reads a finding of these values, up to the question."""
        self.runs += 1
        at = self.now - timedelta(minutes=minutes_ago)
        one = finding(f"f-{self.runs}", severity=severity, seen=at, mentions=tuple(mention(v) for v in values))
        window = Window(start_at=at - timedelta(hours=1), end_at=at + timedelta(minutes=1), chosen_by="a test")
        case = CaseBatch(window=window, findings=(one,), observed=observe([one]))
        answers = {
            name: ReputationBatch(
                provider=name,
                reputations=tuple(
                    Reputation(
                        observable=item.observable,
                        provider=name,
                        answer=Answer.LISTED if score else Answer.NOT_LISTED,
                        score=score,
                        known_at=at,
                    )
                    for item in case.observed
                ),
            ).to_json()
            for name, score in scores.items()
        }
        asked = Asked(f"run-{self.runs}", self.now, case.to_json(), answers)
        self.past.append(asked)
        self.go(asked)
        return asked

    def go(self, asked: Asked) -> None:
        """From the decision to the incident's update. Again, it is what Airflow does when a run is cleared."""
        case = CaseBatch.model_validate(asked.case)
        for item in case.observed:
            value = item.observable.value
            self.seen[value] = max(item.last_seen_at, self.seen.get(value, item.last_seen_at))
        decide = Decide(task_id="decide", case=asked.case, answers=asked.answers)
        decision = decide.execute(self.context(asked))
        both = {"case": asked.case, "decision": decision}
        opening = OpenIncidents(task_id="open_incidents", vendor=self.product.vendor, **both)
        asked.opened = opening.execute(self.context(asked))
        planning = PlanBlocks(task_id="plan_blocks", decision=decision, controls=self.controls)
        asked.decision = planning.execute(self.context(asked))
        asked.approved, asked.operator, asked.waiting = None, None, None
        if asked in self.asked:
            self.asked.remove(asked)  # its question is asked anew, if at all
        asked.actions = self.act(asked, asked.decision)
        self.update(asked)
        operator = ApproveBlocks(task_id="approve_blocks", decision=asked.decision, incidents=asked.opened)
        try:
            operator.execute(self.context(asked))
        except DownstreamTasksSkipped:
            return
        except TaskAwaitingInput as waiting:
            asked.operator, asked.waiting = operator, waiting
            self.asked.append(asked)

    def act(self, asked: Asked, decision: Json) -> Json:
        actions: Json = {}
        for name, make in self.controls.items():
            control = make(decision=decision, incidents=asked.opened)
            actions[name] = self.execute(control, self.context(asked))
            if name in self.confirms:
                actions[name] = self.look(asked, name, actions[name])
        return actions

    def look(self, asked: Asked, name: str, actions: Json) -> Json:
        """The sensor looks once."""
        context = self.context(asked)
        try:
            given = self.confirms[name](actions=actions).poke(context)
        except VendorError as error:
            self.errors.append(error)
            given = None
        return getattr(given, "xcom_value", None) or context["ti"].pushed.get("return_value") or actions

    def answer(self, asked: Asked, how: str) -> None:
        """A person answers: all, some or none of what is held; or nobody does."""
        self.asked.remove(asked)
        waiting, operator = asked.waiting, asked.operator
        assert waiting is not None
        assert operator is not None
        decision = Decision.model_validate(asked.decision)
        chosen = {"all": [ALL], "none": [NONE], "some": [list(options(decision))[2]], "nobody": [NONE]}[how]
        event = {
            "chosen_options": chosen,
            "params_input": {},
            "responded_at": self.now,
            "responded_by_user": None if how == "nobody" else {"id": "7", "name": "jane"},
            "timedout": how == "nobody",
        }
        context = self.context(asked)
        try:
            asked.approved = operator.execute_complete(context, event=event, **(waiting.kwargs or {}))
        except AirflowFailException:
            asked.approved = context["ti"].pushed["return_value"]
        except PlanChanged:
            return
        self.act_approved(asked)

    def act_approved(self, asked: Asked) -> None:
        assert asked.approved is not None
        self.update(asked, approved=asked.approved, approved_actions=self.act(asked, asked.approved))

    def update(self, asked: Asked, **more: Any) -> None:
        both = {"case": asked.case, "decision": asked.decision, "incidents": asked.opened}
        task = UpdateIncidents(
            task_id="update", vendor=self.product.vendor, relations=None, actions=asked.actions, **both, **more
        )
        given = task.execute(self.context(asked))
        # What the run did before it asked a person is told again, and may have ended meanwhile.
        batches = [more.get("approved_actions") or asked.actions]
        for update in given["updates"]:
            if update["outcome"].startswith("comment added"):
                self._is_true(update["unique_id"], [b for some in batches for b in some.values() if b])

    def _is_true(self, id: str, batches: Sequence[Json]) -> None:
        """What the report says is done is done: it has been read back, and nobody was there in the meantime."""
        notes = self.product.comments(id)
        text = plain.render_text(notes[-1])
        for line in text.splitlines():
            cells = [cell.strip() for cell in line.split(" | ")]
            if len(cells) < 4 or cells[0] not in self.controls or cells[3] not in DOING:
                continue
            [value] = [v for v in (*VALUES, PROTECTED) if defang(value_of(v)) == cells[2]]
            if self._again(cells[0], value, batches):
                there = self.subjects[cells[0]].enforced()
                assert value in there, f"the incident says {line!r}, and {cells[0]} has {there}"
                if value in self.ours(cells[0]):
                    self.told[id, cells[0], value] = len(notes)

    def _again(self, control: str, value: str, batches: Sequence[Json]) -> bool:
        """Whether the last of these batches says so; one of an earlier task of the run may be of another hour."""
        last = [
            action.outcome.value
            for batch in batches
            for action in ActionBatch.model_validate(batch).actions
            if (action.control, action.observable.value) == (control, value)
        ]
        return len(last) == 1 and last[0] in DOING

    # --- what is in force ------------------------------------------------------------------------------------

    def reconcile(self, *, only_expired: bool = False, effects: str = "apply") -> list[Action]:
        actions: Json = {}
        for name, control in self.controls.items():
            task = Reconcile(
                task_id="reconcile",
                vendor=name,
                control=control,
                confirm=self.confirms.get(name),
                only_expired=only_expired,
            )
            actions[name] = self.execute(task, self.context(effects=effects))
        return self.tell(actions)

    def lift(self, value: str) -> list[Action]:
        """``lift_block``: remembered, removed everywhere, told."""
        name = f"lift/{self.runs}"
        remember_lift(settings.ledger(), [value_of(value)], by="ada", reason="a customer", run_id=name)
        self.lifted[value] = self.now
        return self._lift([value_of(value)], "a customer")

    def _lift(self, observables: Sequence[Observable], reason: str) -> list[Action]:
        asked = {"observables": [o.to_json() for o in observables], "by": "ada", "reason": reason}
        actions: Json = {}
        for name, control in self.controls.items():
            task = Lift(task_id="lift", vendor=name, control=control, asked=asked)
            actions[name] = self.execute(task, self.context())
        return self.tell(actions, asked)

    def allow(self, value: str, hours: float) -> list[Action]:
        """``allow_value``: protected from now on, and what is in force of it is lifted."""
        until = self.now + timedelta(hours=hours)
        ledger = settings.ledger()
        try:
            found = allow(ledger, value, until=until, owner="soc", reason="a partner", by="ada")
        except CannotDo:
            return []
        if not found:
            return []
        remember_lift(ledger, found, by="ada", reason="allowed: a partner", run_id=f"allow/{self.runs}")
        self.lifted |= dict.fromkeys((one.value for one in found), self.now)
        return self._lift(found, "allowed: a partner")

    def end_allow(self, value: str) -> None:
        settings.ledger().allows.end(value, by="ada", reason="no partner any more", now=self.now)

    def tell(self, actions: Json, asked: Json | None = None) -> list[Action]:
        task = TellIncidents(task_id="tell", vendor=self.product.vendor, actions=actions, asked=asked)
        with suppress(VendorError):
            task.execute(self.context())
        found = [a for batch in actions.values() if batch for a in ActionBatch.model_validate(batch).actions]
        for action in found:
            if action.outcome is Outcome.NOT_OURS:
                place = action.control, action.observable.value
                self.removed[place] = max(self.now, self.removed.get(place, self.now))
        return found

    # --- what must hold --------------------------------------------------------------------------------------

    def watched(self, work: Callable[[], Any]) -> Any:
        """Do something of ours, and see that it did nothing to what a person did."""
        before = {name: self.raw(name) for name in self.controls}
        self.errors = []
        given = work()
        for name, was in before.items():
            self._respected(name, was, self.raw(name))
        return given

    def _respected(self, name: str, was: dict[str, Any], has: dict[str, Any]) -> None:
        for (control, value), item in list(self.theirs.items()):
            if control != name:
                continue
            assert value in has, f"{name}: {value} of a person is gone"
            if has[value] != item:
                assert is_ours(item), f"{name}: {value} of a person was changed"
                assert self._seen_since(name, value), f"{name}: {value} was changed by a person, and written over"
                # A write keeps what a person added; what it took over is ours again.
                del self.theirs[control, value]
                if is_altered(has[value]):
                    self.theirs[control, value] = has[value]
        for value in has.keys() - was.keys():
            assert self._seen_since(name, value), f"{name}: {value} was lifted by a person, and is back"

    def _seen_since(self, control: str, value: str) -> bool:
        times = [t for t in (self.lifted.get(value), self.removed.get((control, value))) if t]
        return all(self.seen[value] > t for t in times)

    def settled(self) -> None:
        """Nothing is under way any more: reconciled, with every control there, the ledger and the controls agree."""
        self.up()
        self.sim.configure("akamai_client_lists", activation_outcome="ACTIVE", activation_seconds=0)
        self.forward(timedelta(hours=2))
        for _ in range(4):
            # The first one may say what has failed until now, and turn red by that.
            done = self.watched(self.reconcile)
            if not done and not self.errors:
                break
        assert (done, self.errors) == ([], []), "one pass after the other changes something"
        gate = settings.gate(self.now)
        for name in self.controls:
            ours, known = self.ours(name), self.in_ledger(name)
            assert ours == set(known), f"{name}: the control has {sorted(ours)}, the ledger {sorted(known)}"
            enforced = self.subjects[name].enforced()
            assert ours <= enforced, f"{name}: {sorted(ours - enforced)} is held, and not in force"
            others = set(self.raw(name)) - ours
            assert enforced - ours <= others, f"{name}: {sorted(enforced - ours - others)} is in force, and not held"
            for value, row in known.items():
                assert row.expires_at is not None, f"{name}: {value} has no end"
                assert row.expires_at > self.now, f"{name}: {value} is past its end"
                if registry.operator(self.subjects[name].stage, name).gated:
                    assert not gate.check(value_of(value)), f"{name}: {value} is protected"
        self._told_of_the_end()

    def _told_of_the_end(self) -> None:
        for (id, control, value), count in list(self.told.items()):
            if value in self.ours(control):
                continue
            later = [plain.render_text(note) for note in self.product.comments(id)[count:]]
            assert any(defang(value_of(value)) in text for text in later), (
                f"{id} says that {value} is in force at {control}, and nothing since"
            )
            del self.told[id, control, value]


def is_ours(item: Any) -> bool:
    """By our mark, as each vendor has it."""
    return any("threat-response" in str(item.get(name)) for name in ("tags", "source", "description"))


def is_altered(item: Any) -> bool:
    """By what the subjects' ``change`` does."""
    return any("keep" in str(item.get(name)) for name in ("tags", "note", "description"))
