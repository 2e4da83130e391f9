"""A whole run and what follows it, task by task, over all simulators; and what it leaves everywhere."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from airflow.sdk.exceptions import TaskAwaitingInput
from airflow.sdk.execution_time import task_runner

from include.soar.incident.choices import ALL
from include.soar.model import Observable, Role
from tests.stages.controls import POLICY
from tests.stages.incidents.incident_examples import ATTACKER, SECOND, case, decision, finding
from tests.stages.incidents.incident_products import product_named
from tests.support import SimServer
from tests.vendors.akamai_client_lists.contract import AkamaiClientLists
from tests.vendors.crowdstrike_falcon.contract import CrowdStrikeFalcon
from tests.vendors.splunk.conftest import held as watched
from tests.vendors.splunk.contract import Splunk
from threat_response import groups
from threat_response.runtime import settings
from threat_response.stages.approve_blocks import ApproveBlocks
from threat_response.stages.in_force.lift import Lift
from threat_response.stages.in_force.reconcile import Reconcile
from threat_response.stages.in_force.tell import TellIncidents
from threat_response.stages.open_incidents import OpenIncidents
from threat_response.stages.plan_blocks import PlanBlocks
from threat_response.stages.update_incidents import UpdateIncidents

Json = dict[str, Any]
CYWARE, WAF, EDR, SIEM = "cyware_respond", "akamai_client_lists", "crowdstrike_falcon", "splunk"
#: Our clock stands still, so that what is written does not differ by when it was.
NOW = datetime.now(UTC).replace(microsecond=0)
ASKED = {
    "observables": [Observable(type="ipv4-addr", value=ATTACKER).to_json()],
    "by": "ada",
    "reason": "a customer",
}


def _decided() -> tuple[Json, Json]:
    """A case, and its decision: one address is acted on, the other waits for a person."""
    attackers = {value: [("f-1", Role.ATTACKER), ("f-2", Role.ATTACKER)] for value in (ATTACKER, SECOND)}
    batch = case(finding("f-1"), finding("f-2"), seen=attackers)
    decided = decision(batch)
    act, wait = decided.indicators
    held = decided.model_copy(update={"indicators": (act,), "held": (wait,), "hold_reasons": ("one too many",)})
    return batch.to_json(), held.to_json()


CASE, DECISION = _decided()


class Day:
    """One run over fresh simulators and a fresh ledger. ``given``: what each task has given, by its name."""

    def __init__(self, sim: SimServer, patch: pytest.MonkeyPatch, home: Path, request: pytest.FixtureRequest) -> None:
        sim.world.reset()
        patch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
        patch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(home))
        patch.setattr(settings, "now", lambda: NOW)
        patch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=lambda msg: None), raising=False)
        self.sim = sim
        self.product = product_named(CYWARE, patch, request)
        self.controls = {kind.name: kind(sim, patch) for kind in (AkamaiClientLists, CrowdStrikeFalcon, Splunk)}
        self.given: dict[str, Json] = {}
        self.pushed: Json = {}
        settings.ledger().actions.rows_in_force(NOW)  # its tables are made

    def context(self, dag: str = "api_threat_response") -> Any:
        ti = SimpleNamespace(
            id=UUID(int=1),
            xcom_push=lambda key, value: self.pushed.update({key: value}),
            get_first_reschedule_date=lambda context: None,
        )
        run = SimpleNamespace(
            run_type="manual", run_id="run-1", dag_id=dag, run_after=NOW, start_date=NOW - timedelta(minutes=1), conf={}
        )
        return {"ti": ti, "task_instance": ti, "dag_run": run, "params": {}}

    def work(self, name: str) -> Callable[[], Json]:
        """A new try of a task."""

        def do() -> Json:
            task: Callable[[Day], Json] = TASKS[name]
            return task(self)

        return do

    def does(self, control: str, decided: str) -> Json:
        task = groups.controls()[control](decision=self.given[decided], incidents=self.given["open_incidents"])
        return dict(task.execute(self.context()))

    def waits(self, actions: str) -> Json:
        done = groups.confirms()[WAF](actions=self.given[actions]).poke(self.context())
        assert done.is_done
        return dict(done.xcom_value)

    def updates(self, **more: Any) -> Json:
        actions = {EDR: self.given["edr"], SIEM: self.given["watch"], WAF: self.given["active"]}
        task = UpdateIncidents(
            task_id="update_incidents",
            vendor=CYWARE,
            case=CASE,
            decision=self.given["plan"],
            incidents=self.given["open_incidents"],
            actions=actions,
            **more,
        )
        return dict(task.execute(self.context()))

    def updates_again(self) -> Json:
        later = {EDR: self.given["edr, approved"], SIEM: self.given["watch, approved"]}
        later[WAF] = self.given["active, approved"]
        return self.updates(approved=self.given["approve"], approved_actions=later)

    def approves(self) -> Json:
        task = ApproveBlocks(
            task_id="approve_blocks", decision=self.given["plan"], incidents=self.given["open_incidents"]
        )
        context = self.context()
        with pytest.raises(TaskAwaitingInput) as waiting:
            task.execute(context)
        event = {
            "chosen_options": [ALL],
            "params_input": {"comment": None},
            "responded_by_user": {"id": "7", "name": "jane"},
            "responded_at": NOW,
            "timedout": False,
        }
        return dict(task.execute_complete(context, event, **(waiting.value.kwargs or {})))

    def opens(self) -> Json:
        task = OpenIncidents(task_id="open_incidents", vendor=CYWARE, case=CASE, decision=DECISION)
        return dict(task.execute(self.context()))

    def plans(self) -> Json:
        task = PlanBlocks(task_id="plan_blocks", decision=DECISION, controls=groups.controls())
        return dict(task.execute(self.context()))

    def lifts(self, control: str) -> Json:
        task = Lift(task_id="lift", vendor=control, control=groups.controls()[control], asked=ASKED)
        return dict(task.execute(self.context("lift_block")))

    def tells(self) -> Json:
        actions = {WAF: self.given["lifted"], EDR: self.given["lift.edr"], SIEM: self.given["lift.watch"]}
        task = TellIncidents(task_id="tell_incidents", vendor=CYWARE, actions=actions, asked=ASKED)
        return dict(task.execute(self.context("lift_block")))

    def reconciles(self, control: str) -> Json:
        task = Reconcile(
            task_id="reconcile",
            vendor=control,
            control=groups.controls()[control],
            confirm=groups.confirms().get(control),
        )
        return dict(task.execute(self.context("reconcile_blocks")))

    # --- what is left -------------------------------------------------------------------------------------

    def named(self, text: str) -> str:
        """With numbers for the incidents' ids, which are random."""
        for number, held in enumerate(self.product.held()):
            text = text.replace(held.id, f"<incident {number}>")
        return text

    def left(self) -> Json:
        """What all simulators hold, what the ledger believes, and what the incidents say."""
        ids = {held.id: number for number, held in enumerate(self.product.held())}
        named = self.named
        falcon = [one for one in self.sim.state(EDR)["indicators"] if not one["deleted"]]
        items = self.sim.world.simulators[WAF].lists["91596_BLOCK"].items.values()
        ledger = settings.ledger()
        values = [Observable(type="ipv4-addr", value=value) for value in (ATTACKER, SECOND)]
        return {
            "incidents": [
                (held.title, held.state, held.labels, named(held.description), self.product.attached(held.id))
                for held in self.product.held()
            ],
            "comments": [[named(text) for text in self.product.comments(held.id)] for held in self.product.held()],
            "links": [tuple(ids[id] for id in link) for link in self.product.links()],
            WAF: sorted((i["value"], i.get("expirationDate"), i.get("description"), i.get("tags")) for i in items),
            "enforced": sorted(self.controls[WAF].enforced()),
            EDR: sorted((one["value"], one["action"], one.get("expiration"), one["description"]) for one in falcon),
            SIEM: watched(self.sim),
            "in force": [
                (one.control, one.key, one.verb, one.outcome, one.rung, one.reached, one.expires_at, one.incidents)
                for one in ledger.actions.rows_in_force(NOW, doubtful=True)
            ],
            "lifting": [one.key for one in ledger.actions.rows_in_force(NOW, doubtful=True) if one.lifting],
            "reported": [(one.control, one.observable, one.verb, one.outcome) for one in ledger.actions.rows()],
            "lifted": [(key, one.by, one.reason, one.control) for key, one in ledger.actions.lifted(values).items()],
            "answered": sorted(
                {(e.observable, e.outcome, e.by) for e in ledger.actions.events() if e.verb == "approve"}
            ),
            "chain": ledger.actions.verify(),
        }


#: In the order in which they run. Each takes what those before gave.
TASKS: dict[str, Callable[[Day], Json]] = {
    "open_incidents": Day.opens,
    "plan": Day.plans,
    "waf": lambda day: day.does(WAF, "plan"),
    "active": lambda day: day.waits("waf"),
    "edr": lambda day: day.does(EDR, "plan"),
    "watch": lambda day: day.does(SIEM, "plan"),
    "update_incidents": Day.updates,
    "approve": Day.approves,
    "waf, approved": lambda day: day.does(WAF, "approve"),
    "active, approved": lambda day: day.waits("waf, approved"),
    "edr, approved": lambda day: day.does(EDR, "approve"),
    "watch, approved": lambda day: day.does(SIEM, "approve"),
    "update_incidents, approved": Day.updates_again,
    "lift.waf": lambda day: day.lifts(WAF),
    "lifted": lambda day: day.waits("lift.waf"),
    "lift.edr": lambda day: day.lifts(EDR),
    "lift.watch": lambda day: day.lifts(SIEM),
    "tell_incidents": Day.tells,
    "reconcile.waf": lambda day: day.reconciles(WAF),
    "reconcile.edr": lambda day: day.reconciles(EDR),
    "reconcile.watch": lambda day: day.reconciles(SIEM),
}
