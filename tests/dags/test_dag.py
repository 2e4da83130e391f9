"""The DAG file: that it can be read without a connection, a database or a network, and has the shape promised."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, CronDataIntervalTimetable

from include.soar.incident.question import APPROVAL_TASK
from include.soar.policy.rules import LONGEST_WAIT_HOURS
from tests.conftest import ROOT
from threat_response.registry import BLOCK, CONFIRM, ENRICH, FETCH, WATCH, enrichers
from threat_response.runtime import settings
from threat_response.transport.form import vendor_of
from threat_response.transport.retry import VendorRetryPolicy

DAG_ID = "api_threat_response"


@pytest.fixture(scope="module")
def dag() -> DAG:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=DeprecationWarning, module=r"(dags|vendors|include)\..*")
        bag = DagBag(dag_folder=str(ROOT / "dags"))
    assert bag.import_errors == {}
    return bag.dags[DAG_ID]


def test_every_registered_vendor_has_its_task(dag: DAG) -> None:
    expected = (
        {f"fetch.{name}" for name in FETCH}
        | {f"enrich.{name}" for name in settings.policy().enrichment.providers}
        | {f"block.{place}.{name}" for place, controls in BLOCK.items() for name in controls}
        | {f"block.{place}.{name}_active" for place, controls in BLOCK.items() for name in controls if name in CONFIRM}
        | {f"watch.{name}" for name in WATCH}
        | {"extract", "enrich.decide", "approve_blocks", "open_incidents", "relate", "update_incidents", "fail_the_run"}
    )
    assert expected <= set(dag.task_ids)


def test_each_stage_comes_after_what_it_takes(dag: DAG) -> None:
    def before(task_id: str) -> set[str]:
        return dag.get_task(task_id).get_flat_relative_ids(upstream=True)

    order = ["extract", "enrich.decide", "open_incidents", "relate", "update_incidents"]
    for earlier, later in itertools.pairwise(order):
        assert earlier in before(later)
    for place, controls in BLOCK.items():
        for name in controls:
            # No block without an incident that tells of it.
            assert "open_incidents" in before(f"block.{place}.{name}")
            assert f"block.{place}.{name}" in before("update_incidents")
    assert set(dag.task_ids) - {"fail_the_run"} <= before("fail_the_run")
    # Directly, since a confirmation that succeeds would hide a control that failed.
    direct = dag.get_task("fail_the_run").upstream_task_ids
    assert {f"block.{place}.{name}" for place, controls in BLOCK.items() for name in controls} <= direct
    assert {f"watch.{name}" for name in WATCH} | {f"fetch.{name}" for name in FETCH} <= direct


def test_only_the_chosen_providers_have_a_task_and_lists_are_asked_before_what_costs_something(dag: DAG) -> None:
    chosen = enrichers(settings.policy().enrichment.providers)
    asking = {t.removeprefix("enrich.") for t in dag.task_ids if t.startswith("enrich.")} & set(ENRICH)
    assert asking == set(chosen)
    local = {f"enrich.{name}" for name in chosen if not vendor_of(name).is_remote}
    for name in chosen:
        task = dag.get_task(f"enrich.{name}")
        if vendor_of(name).is_remote:
            # A list that cannot be read keeps nobody from being asked.
            assert local <= task.upstream_task_ids
            assert task.trigger_rule == "all_done"
    assert local
    with pytest.raises(ValueError, match="'abuse_ipdb' is none of abuseipdb, "):
        enrichers(["abuse_ipdb"])


def test_a_person_is_asked_before_anything_is_acted_on_and_after_the_incidents_can_be_opened(dag: DAG) -> None:
    asking = dag.get_task(APPROVAL_TASK)
    assert asking.upstream_task_ids == {"enrich.decide"}
    controls = {f"block.{place}.{name}" for place, controls in BLOCK.items() for name in controls}
    for task_id in (*controls, *(f"watch.{name}" for name in WATCH), "update_incidents"):
        # What is acted on and told is what this task gives, never what `decide` gives.
        assert APPROVAL_TASK in dag.get_task(task_id).upstream_task_ids, task_id
        assert "enrich.decide" not in dag.get_task(task_id).upstream_task_ids, task_id
    for task_id in ("open_incidents", "relate"):
        assert APPROVAL_TASK not in dag.get_task(task_id).get_flat_relative_ids(upstream=True), task_id
    assert asking.trigger_rule == "all_success"
    assert APPROVAL_TASK in dag.get_task("fail_the_run").upstream_task_ids


def test_runs_that_wait_for_a_person_do_not_keep_the_next_hour_from_being_read(dag: DAG) -> None:
    # Each hour's run may wait so long; one place is for the hour that is being read.
    assert dag.max_active_runs > LONGEST_WAIT_HOURS


def test_the_rules_that_keep_a_failure_visible(dag: DAG) -> None:
    assert dag.get_task("update_incidents").trigger_rule == "all_done"
    assert dag.get_task("fail_the_run").trigger_rule == "one_failed"
    # One incident that Respond refuses must not keep every block of the night from being made.
    for task_id in ("relate", *(t for t in dag.task_ids if t.startswith(("block.", "watch.")))):
        assert dag.get_task(task_id).trigger_rule == "all_done", task_id
    assert dag.get_task("enrich.decide").trigger_rule == "all_done"
    for name in FETCH:
        assert dag.get_task(f"fetch.{name}").trigger_rule == "all_success"


def test_every_task_retries_by_the_one_policy(dag: DAG) -> None:
    for task in dag.tasks:
        if task.task_id != "fail_the_run":
            assert isinstance(task.retry_policy, VendorRetryPolicy), task.task_id
            assert task.retries >= 3, task.task_id


def test_windows_touch_and_do_not_overlap(dag: DAG) -> None:
    assert isinstance(dag.timetable, CronDataIntervalTimetable)
    assert dag.catchup is False


def test_a_run_without_parameters_is_valid_and_harmless_by_default(dag: DAG) -> None:
    # A scheduled run and a backfill take the defaults: they must pass their own schema.
    values = dag.params.dump()
    assert dag.params.validate() == values
    assert values["effects"] == "auto"
    json.dumps(values)


def test_reading_the_dag_asks_nobody(tmp_path: Path) -> None:
    """In a process where any socket, any connection and any variable is an error."""
    code = """
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("the DAG file opened a socket")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
from airflow.sdk import BaseHook, Variable
def asked(*args, **kwargs): raise AssertionError("the DAG file read a connection or a variable")
BaseHook.get_connection = asked
Variable.get = asked
import api_threat_response
heavy = {"pandas", "falconpy", "alembic.command"} & set(sys.modules)
print("tasks", len(api_threat_response.api_threat_response().task_dict), "heavy", sorted(heavy))
"""
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}:{ROOT / 'dags'}",
        "AIRFLOW_HOME": str(tmp_path),
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "heavy []" in done.stdout
