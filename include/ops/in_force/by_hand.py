"""``lift``, ``block`` and ``allow``: what a person does by hand, at once and in this process, as a run would do it."""

from __future__ import annotations

import getpass
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.exceptions import AirflowSkipException

from include.ops.text import safe, shown, when
from include.soar.in_force.by_hand import case_of, decision_of
from include.soar.incident.clean import Link
from include.soar.incident.diff import line, summary
from include.soar.ledger import Ledger
from include.soar.model import Action, ActionBatch, Decision, Observable, Outcome
from include.soar.vendor.errors import Unavailable, VendorError, one_line
from threat_response import groups
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.stages.in_force import asked
from threat_response.stages.in_force.at_control import AtControl, is_off
from threat_response.stages.in_force.block import OpenIncidentByHand, wish_of
from threat_response.stages.in_force.lift import lift_at
from threat_response.stages.in_force.tell import Telling
from threat_response.stages.incident_system import incident_system
from threat_response.stages.plan_blocks import PlanBlocks
from threat_response.stages.update_incidents import UpdateIncidents

#: Between two looks whether a network has taken over what was written.
POLL_SECONDS = 5.0
#: Outcomes after which nothing of ours is there any more, or soon.
LIFTED = (Outcome.LIFTED, Outcome.GONE)
#: How long another run at work at a control is waited for.
CLAIM_PATIENCE = timedelta(seconds=60)
#: As the command's own names of things that are no DAG.
COMMAND = "command"


def person() -> str:
    """Who types the command: the user of this machine."""
    return one_line(f"{getpass.getuser()}@{socket.gethostname()}", asked.LONGEST_NAME)


@dataclass
class Handed:
    """What a task would hand on to the next ones."""

    values: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.values[key] = value


def run_of(verb: str, **params: Any) -> Run:
    """A run that no DAG makes: the command's own, with a name that the ledger keeps."""
    now = settings.now()
    dag_run = SimpleNamespace(
        dag_id=COMMAND,
        run_id=f"{verb}__{now:%Y-%m-%dT%H:%M:%SZ}_{secrets.token_hex(3)}",
        run_type="manual",
        conf={},
        start_date=now,
        run_after=now,
        triggering_user_name=person(),
        is_command=True,
    )
    return Run({"dag_run": dag_run, "params": params, "ti": Handed()})


@contextmanager
def opened() -> Iterator[Ledger]:
    """The ledger; made where it was lost, since what is in force at the controls must be lifted all the same."""
    ledger = settings.ledger()
    try:
        yield ledger
    finally:
        ledger.close()


# --- lift -----------------------------------------------------------------------------------------------------------


def lift(value: str, reason: str, *, wait: timedelta) -> int:
    """:return: the exit code: 1 where something stays in force"""
    run = run_of("lift")
    observables = [asked.value_of(value)]
    with opened() as ledger:
        by, why = asked.who(run), asked.reason_of(reason)
        asked.remember_lift(ledger, observables, by=by, reason=why, run_id=run.name)
        return lift_all(run, ledger, observables, by=by, reason=why, wait=wait)


def lift_all(
    run: Run, ledger: Ledger, observables: Sequence[Observable], *, by: str, reason: str, wait: timedelta
) -> int:
    """Lift at every control, wait until it is enforced nowhere, and tell the incidents."""
    deadline = time.monotonic() + wait.total_seconds()
    actions: list[Action] = []
    problems = 0
    for vendor, make in groups.controls().items():
        control = make()
        if not settings.connection_exists(control.conn_id):
            print(f"{vendor}: passed over, there is no connection {control.conn_id!r}")
            continue
        if is_off(vendor):
            print(f"{vendor}: is switched off in the policy; what is there of ours is lifted all the same")
        at = AtControl(control, ledger, run.name, run.claimant)
        try:
            done, error = _when_free(partial(lift_at, at, observables, by=by, reason=reason))
        except VendorError as problem:
            print(f"{vendor}: NOT READ, so nothing was lifted there: {shown(problem.facts)}")
            problems += 1
            continue
        for observable in observables:
            if observable not in {action.observable for action in done}:
                print(f"{vendor}: {safe(observable.value)}: nothing of ours is there")
        actions += _until_enforced(at, groups.confirms().get(vendor), done, deadline)
        problems += error is not None
    for action in actions:
        problems += not (action.outcome in LIFTED or action.outcome is Outcome.PENDING)
    problems += not _tell(run, ledger, actions, by=by, because=reason)
    return 1 if problems else 0


def _when_free(attempt: Callable[[], Any]) -> Any:
    """Once no other run is at work there."""
    deadline = time.monotonic() + CLAIM_PATIENCE.total_seconds()
    while True:
        try:
            return attempt()
        except Unavailable as error:
            if error.operation != "claim" or time.monotonic() >= deadline:
                raise
            time.sleep(POLL_SECONDS)


def _until_enforced(
    at: AtControl, confirm: Callable[[], Any] | None, actions: Sequence[Action], deadline: float
) -> list[Action]:
    """Wait, within bounds, for what is written and not enforced yet; each change is printed and written down."""
    said: dict[str, str] = {}
    pending = [action for action in actions if action.outcome is Outcome.PENDING]
    ended = [action for action in actions if action.outcome is not Outcome.PENDING]
    for action in ended:
        print(words(action))
    sensor = confirm() if confirm is not None and pending else None
    while pending and sensor is not None:
        try:
            told = sensor.confirm(sensor.hook(writes_allowed=False), pending)
        except VendorError as error:
            told = pending
            print(f"{at.vendor}: not known whether it is enforced: {shown(error.facts)}")
        changed = [action for action in told if action.outcome is not Outcome.PENDING]
        at.record(changed, reason="looked up again")
        pending = [action for action in told if action.outcome is Outcome.PENDING]
        for action in told:
            if said.get(action.observable.key) != (text := words(action)):
                print(text, flush=True)
                said[action.observable.key] = text
        ended += changed
        if not pending or time.monotonic() >= deadline:
            break
        time.sleep(POLL_SECONDS)
    for action in pending:
        print(
            f"{at.vendor}: {safe(action.observable.value)}: `airflow threat-response blocks` shows when it is through"
        )
    return ended + pending


def words(action: Action) -> str:
    """One line: where, what, how it stands, why, and the proof."""
    version = action.proof.get("version")
    outcome = action.outcome.value.replace("_", " ")
    if action.outcome is Outcome.PENDING and action.verb.value == "lift":
        outcome = f"removed from the list, version {version} pending activation" if version else "removed, not through"
    stays = "NOT LIFTED, " if action.verb.value == "lift" and action.outcome in _STAYS else ""
    return f"{action.control}: {safe(action.observable.value)}: {stays}{outcome}; {safe(action.detail)}"


_STAYS = (Outcome.NOT_OURS, Outcome.FAILED)


def _tell(run: Run, ledger: Ledger, actions: Sequence[Action], *, by: str, because: str) -> bool:
    """Tell the incidents concerned; False where one could not be told."""
    if not actions:
        return True
    vendor = groups.INCIDENT_SYSTEM
    try:
        system = incident_system(vendor, f"{vendor}_default", writes_allowed=True)
        telling = Telling(system, ledger, run.claimant, Link(run.name), by=by, because=because)
        orphans = telling.tell(actions)
    except VendorError as error:
        print(f"NOT TOLD in any incident: {shown(error.facts)}")
        return False
    for id, outcome in telling.told.items():
        print(f"incident {shown(id)}: {shown(outcome)}")
    for observable in dict.fromkeys(action.observable for action in orphans):
        print(f"{safe(observable.value)}: no incident is known that told of it")
    return not telling.failures.errors


# --- block ----------------------------------------------------------------------------------------------------------


def block(value: str, duration: timedelta, reason: str, *, rung: str | None, wait: timedelta) -> int:
    """:return: the exit code: 1 where a control that should act failed, or no incident could be told"""
    run = run_of("block", value=value, hours=duration.total_seconds() / 3600, rung=rung, reason=reason)
    wish = wish_of(run)
    case, decision = case_of(wish).to_json(), decision_of(wish, settings.policy().digest).to_json()
    vendor = groups.INCIDENT_SYSTEM
    common = {"vendor": vendor, "case": case}
    incidents, problems = _step(run, OpenIncidentByHand(task_id="open_incidents", decision=decision, **common))
    for ref in (incidents or {}).get("incidents", ()):
        print(f"incident {shown(ref['readable_id'] or ref['unique_id'] or '-')}: {ref['outcome']}; {ref['url'] or ''}")
    if incidents is None:
        return 1
    planned, failed = _step(run, PlanBlocks(task_id="plan_blocks", decision=decision, controls=groups.controls()))
    problems += failed
    decision = planned or decision
    for one in (Decision.model_validate(decision).plan or _NO_PLAN).controls:
        print("\n".join([shown(summary(one)), *(f"  {shown(line(entry))}" for entry in one.entries)]))
    batches: dict[str, Any] = {}
    for name, make in groups.controls().items():
        operator = make(decision=decision, incidents=incidents)
        batches[name], failed = _step(run, operator)
        problems += failed
    with opened() as ledger:
        _confirm_all(run, ledger, batches, time.monotonic() + wait.total_seconds())
    results = {"incidents": incidents, "actions": batches}
    _, failed = _step(run, UpdateIncidents(task_id="update_incidents", decision=decision, **results, **common))
    return 1 if problems + failed else 0


_NO_PLAN = SimpleNamespace(controls=())


def _step(run: Run, operator: Any) -> tuple[Any, int]:
    """What a stage gives, also where it fails; and whether it failed. What it has to say of a failure is printed."""
    handed = Handed()
    # So Airflow marks an operator whose execute is called as a task's (3.3.2): it warns of any other call.
    token = ExecutorSafeguard.tracker.set(operator)
    try:
        return operator.execute({**run.context, "ti": handed}), 0
    except AirflowSkipException as skipped:
        print(f"{operator.vendor or operator.task_id}: passed over, {shown(str(skipped))}")
        return None, 0
    except VendorError as error:
        print(f"{operator.vendor or operator.task_id}: FAILED: {shown(error.facts)}")
        return handed.values.get("return_value"), 1
    finally:
        ExecutorSafeguard.tracker.reset(token)


def _confirm_all(run: Run, ledger: Ledger, batches: dict[str, Any], deadline: float) -> None:
    for vendor, make in groups.controls().items():
        if batches[vendor] is None:
            continue
        batch = ActionBatch.model_validate(batches[vendor])
        at = AtControl(make(), ledger, run.name, run.claimant)
        actions = _until_enforced(at, groups.confirms().get(vendor), batch.actions, deadline)
        batches[vendor] = ActionBatch(control=vendor, actions=tuple(actions)).to_json()


# --- allow ----------------------------------------------------------------------------------------------------------


def allow(value: str, until: datetime, owner: str | None, reason: str, *, wait: timedelta) -> int:
    """:return: the exit code: 1 where something that is allowed now stays in force"""
    run = run_of("allow")
    by, why = asked.who(run), asked.reason_of(reason)
    with opened() as ledger:
        found = asked.allow(ledger, value, until=until, owner=owner or by, reason=why, by=by)
        print(f"{safe(value)} is never blocked until {when(until)}; owner {shown(owner or by)}: {shown(why)}")
        if not found:
            print("nothing is in force of it")
            return 0
        because = f"allowed: {why}"
        asked.remember_lift(ledger, found, by=by, reason=because, run_id=run.name)
        return lift_all(run, ledger, found, by=by, reason=because, wait=wait)


def end_allowance(value: str, reason: str) -> int:
    """The end of an entry that ``allow`` made. What the policy itself allows is not ended here."""
    by, why = person(), asked.reason_of(reason)
    with opened() as ledger:
        ended = ledger.allows.end(value.strip(), by=by, reason=why, now=settings.now())
    if not ended:
        print(f"the ledger has no entry that allows {safe(value)}; the policy's own are ended in the policy")
        return 1
    print(f"{safe(value)} is no longer allowed by the ledger: {shown(why)}")
    return 0
