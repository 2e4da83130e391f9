"""The stages that several vendors serve, as groups of tasks: one task a vendor, named as the registry says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from airflow.sdk import TaskGroup, XComArg

from threat_response.registry import INCIDENT_SYSTEM, SERVES, controls_by_place, operator, providers
from threat_response.runtime import settings
from threat_response.stages.fail_the_run import FailTheRun
from threat_response.stages.in_force.lift import Lift
from threat_response.stages.in_force.reconcile import Reconcile
from threat_response.transport.form import vendor_of

__all__ = [
    "INCIDENT_SYSTEM",
    "act",
    "block_all",
    "confirms",
    "controls",
    "each",
    "enrich_all",
    "fail_the_run",
    "fetch_all",
    "lift_all",
    "reconcile_all",
]

# Not in the registry, which Airflow reads while it is being imported itself.
settings.KNOWN_PROVIDERS.update(SERVES["enrich"])
settings.KNOWN_CONTROLS.update(controls_by_place())


def each(stage: str, **inputs: Any) -> dict[str, XComArg]:
    """
    One task for each vendor that serves a stage, in a group named as the stage.

    :param stage: a key of ``SERVES``
    :param inputs: what every operator of the stage takes
    :return: what each vendor's task gives, by vendor
    """
    if is_control(stage):
        inputs["place"] = stage
    with TaskGroup(stage.rpartition(".")[2]):
        return {
            vendor: operator(stage, vendor)(task_id=vendor, vendor=vendor, **inputs).output for vendor in SERVES[stage]
        }


def is_control(stage: str) -> bool:
    """Whether the vendors of a stage are controls: enforcement points that act on a decision."""
    return stage == "watch" or stage.startswith("block.")


def fetch_all() -> list[XComArg]:
    """Stage 1: a ``FetchBatch`` from each source."""
    return list(each("fetch").values())


def enrich_all(case: XComArg) -> dict[str, XComArg]:
    """
    Stage 3: a ``ReputationBatch`` from each provider of the policy.

    Local lists are looked up first, since what they name is asked about first at the others; what a provider needs
    refreshed is refreshed before.
    """
    answers: dict[str, XComArg] = {}
    with TaskGroup("enrich"):
        for vendor in providers(settings.providers()):
            inputs: dict[str, Any] = {"case": case}
            if vendor.refreshes:
                refresh = operator("refresh", vendor.name)
                inputs["lists"] = refresh(task_id=f"refresh_{vendor.name}", vendor=vendor.name).output
            if vendor.is_remote:
                inputs["local"] = {name: said for name, said in answers.items() if not vendor_of(name).is_remote}
            ask = operator("enrich", vendor.name)
            answers[vendor.name] = ask(task_id=vendor.name, vendor=vendor.name, **inputs).output
    return answers


def controls() -> dict[str, Callable[..., Any]]:
    """What makes the operator of each control, by vendor: the plan reads through it what is there."""
    return {
        vendor: partial(operator(stage, vendor), task_id=vendor, vendor=vendor, place=stage)
        for stage in SERVES
        if is_control(stage)
        for vendor in SERVES[stage]
    }


def confirms() -> dict[str, Callable[..., Any]]:
    """What makes the operator that asks whether a pending write is in force, by vendor, of those that have one."""
    return {
        vendor: partial(operator("confirm", vendor), task_id=f"{vendor}_active", vendor=vendor)
        for vendor in controls()
        if vendor_of(vendor).confirms
    }


def reconcile_all(*, only_expired: bool) -> dict[str, XComArg]:
    """An ``ActionBatch`` from each control: what was ended or brought in line with the ledger there."""
    confirm = confirms()
    with TaskGroup("lift_expired" if only_expired else "reconcile"):
        return {
            vendor: Reconcile(
                task_id=vendor,
                vendor=vendor,
                control=control,
                confirm=confirm.get(vendor),
                only_expired=only_expired,
            ).output
            for vendor, control in controls().items()
        }


def lift_all(asked: XComArg) -> dict[str, XComArg]:
    """An ``ActionBatch`` from each control: what was lifted there by hand, once it is through."""
    lifted: dict[str, XComArg] = {}
    confirm = confirms()
    with TaskGroup("lift"):
        for vendor, control in controls().items():
            lifted[vendor] = Lift(task_id=vendor, vendor=vendor, control=control, asked=asked).output
            if vendor in confirm:
                lifted[vendor] = confirm[vendor](actions=lifted[vendor]).output
    return lifted


def act(decision: XComArg, incidents: XComArg) -> dict[str, XComArg]:
    """Stages 6 to 8: an ``ActionBatch`` from each control, by control."""
    return block_all(decision, incidents) | each("watch", decision=decision, incidents=incidents)


def block_all(decision: XComArg, incidents: XComArg) -> dict[str, XComArg]:
    """
    Stages 6 and 7: an ``ActionBatch`` from each control that blocks, by control. Where a write takes time to be in
    force, it is that of the task which waits for it.
    """
    actions: dict[str, XComArg] = {}
    with TaskGroup("block"):
        for stage in SERVES:
            if stage.startswith("block."):
                actions |= each(stage, decision=decision, incidents=incidents)
    for vendor, action in actions.items():
        if vendor_of(vendor).confirms:
            confirm = operator("confirm", vendor)
            group = action.operator.task_group
            actions[vendor] = confirm(
                task_id=f"{vendor}_active", vendor=vendor, actions=action, task_group=group
            ).output
    return actions


def fail_the_run() -> None:
    """The last task. Every other task is directly before it: one that failed is seen, whatever succeeded after it."""
    red = FailTheRun(task_id="fail_the_run")
    dag = red.dag
    if dag is not None:
        red.set_upstream([task for task in dag.tasks if task is not red])
