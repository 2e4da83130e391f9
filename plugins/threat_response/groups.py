"""The stages that several vendors serve, as groups of tasks: one task a vendor, named as the registry says."""

from __future__ import annotations

from typing import Any

from airflow.sdk import TaskGroup, XComArg

from threat_response.registry import INCIDENT_SYSTEM, SERVES, operator, providers
from threat_response.runtime import settings
from threat_response.stages.fail_the_run import FailTheRun
from threat_response.transport.form import vendor_of

__all__ = ["INCIDENT_SYSTEM", "block_all", "each", "enrich_all", "fail_the_run", "fetch_all"]

# Not in the registry, which Airflow reads while it is being imported itself.
settings.KNOWN_PROVIDERS.update(SERVES["enrich"])


def each(stage: str, **inputs: Any) -> dict[str, XComArg]:
    """
    One task for each vendor that serves a stage, in a group named as the stage.

    :param stage: a key of ``SERVES``
    :param inputs: what every operator of the stage takes
    :return: what each vendor's task gives, by vendor
    """
    with TaskGroup(stage.rpartition(".")[2]):
        return {
            vendor: operator(stage, vendor)(task_id=vendor, vendor=vendor, **inputs).output for vendor in SERVES[stage]
        }


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
