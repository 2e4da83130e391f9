"""The DAG file: that it can be read without a connection, a database or a network, and has the shape promised."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import warnings
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, CronDataIntervalTimetable
from airflow.ti_deps.dependencies_states import EXECUTION_STATES

from include.soar.incident.gather import APPROVAL_TASK
from include.soar.policy.response import LONGEST_WAIT_HOURS
from tests.conftest import ROOT
from threat_response.registry import SERVES, providers, vendors_of
from threat_response.runtime import settings
from threat_response.stages.approve_blocks import APPROVED
from threat_response.transport.form import vendor_of
from threat_response.transport.retry import VendorRetryPolicy

DAG_ID = "api_threat_response"
FETCH = [f"fetch.{name}" for name in SERVES["fetch"]]
CONTROLS = [f"{stage}.{name}" for stage, names in SERVES.items() if stage.startswith("block.") for name in names]
CONFIRM = [f"{control}_active" for control in CONTROLS if control.rpartition(".")[2] in vendors_of("confirm")]
WATCH = [f"watch.{name}" for name in SERVES["watch"]]


@pytest.fixture(scope="module")
def dag() -> DAG:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=DeprecationWarning, module=r"(dags|vendors|include)\..*")
        bag = DagBag(dag_folder=str(ROOT / "dags"))
    assert bag.import_errors == {}
    return bag.dags[DAG_ID]


def test_every_registered_vendor_has_its_task(dag: DAG) -> None:
    groups = {stage: names for stage, names in SERVES.items() if stage not in ("enrich", "incidents")}
    expected = {f"{stage}.{name}" for stage, names in groups.items() for name in names} | set(CONFIRM)
    assert {*FETCH, *CONTROLS, *WATCH} <= expected
    expected |= {f"enrich.{name}" for name in settings.policy().enrichment.providers}
    expected |= {f"enrich.refresh_{name}" for name in vendors_of("refresh") if f"enrich.{name}" in expected}
    stages = ["extract", "decide", "plan_blocks", "approve_blocks", "open_incidents", "relate", "fail_the_run"]
    # What was approved goes to every control as well, and is told.
    later = {f"{APPROVED}.{task}" for task in (*CONTROLS, *CONFIRM, *WATCH, "update_incidents")}
    assert set(dag.task_ids) == expected | set(stages) | {"update_incidents"} | later
    assert CONFIRM


def test_each_stage_comes_after_what_it_takes(dag: DAG) -> None:
    def before(task_id: str) -> set[str]:
        return dag.get_task(task_id).get_flat_relative_ids(upstream=True)

    order = ["extract", "decide", "open_incidents", "relate", "update_incidents", f"{APPROVED}.update_incidents"]
    for earlier, later in itertools.pairwise(order):
        assert earlier in before(later)
    for control in CONTROLS:
        # No block without an incident that tells of it.
        assert "open_incidents" in before(control)
        assert control in before("update_incidents")
    assert set(dag.task_ids) - {"fail_the_run"} <= before("fail_the_run")
    # Directly, since a confirmation that succeeds would hide a control that failed.
    direct = dag.get_task("fail_the_run").upstream_task_ids
    assert direct == set(dag.task_ids) - {"fail_the_run"}


def test_only_the_chosen_providers_have_a_task_and_lists_are_asked_before_what_costs_something(dag: DAG) -> None:
    chosen = settings.policy().enrichment.providers
    assert settings.providers() == chosen
    asking = {t.removeprefix("enrich.") for t in dag.task_ids if t.startswith("enrich.")} & set(SERVES["enrich"])
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
        providers(["abuse_ipdb"])


@pytest.mark.parametrize("slip", ["enrichment: {providers: [", "enrichment: {providers: [abuse_ipdb]}", "- a list"])
def test_n16_a_slip_in_the_policy_does_not_take_the_dag_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slip: str
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(slip, "utf-8")
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", str(policy))
    for last in ("abuseipdb", None):
        if last is None:  # nothing was kept, and the slip is in the shipped policy itself
            (tmp_path / settings.PROVIDERS_FILE).unlink()
            monkeypatch.setattr(settings, "SHIPPED_POLICY", policy)
        else:
            (tmp_path / settings.PROVIDERS_FILE).write_text(json.dumps([last]), "utf-8")
        bag = DagBag(dag_folder=str(ROOT / "dags"))
        assert bag.import_errors == {}
        asking = {t for t in bag.dags[DAG_ID].task_ids if t.startswith("enrich.") and "refresh" not in t}
        assert asking == ({f"enrich.{last}"} if last else set())


def test_nothing_goes_to_a_control_but_by_the_plan(dag: DAG) -> None:
    assert dag.get_task("plan_blocks").upstream_task_ids == {"decide"}
    for task_id in (*CONTROLS, *WATCH, "update_incidents"):
        # What is acted on and told is what the plan gives, never what `decide` gives.
        assert "plan_blocks" in dag.get_task(task_id).upstream_task_ids, task_id
        assert "decide" not in dag.get_task(task_id).upstream_task_ids, task_id


def test_the_plan_reads_every_control(dag: DAG) -> None:
    planned = {name: make() for name, make in dag.get_task("plan_blocks").controls.items()}
    places = {name: control.place for name, control in planned.items()}
    assert places == {task.rpartition(".")[2]: task.rpartition(".")[0] for task in (*CONTROLS, *WATCH)}
    for task_id in (*CONTROLS, *WATCH):
        assert dag.get_task(task_id).place == places[task_id.rpartition(".")[2]]


def test_what_can_wait_does_not_hold_what_cannot(dag: DAG) -> None:
    asking = dag.get_task(APPROVAL_TASK)
    assert asking.upstream_task_ids == {"plan_blocks", "open_incidents"}
    for task_id in (*CONTROLS, *CONFIRM, *WATCH, "open_incidents", "relate", "update_incidents"):
        assert APPROVAL_TASK not in dag.get_task(task_id).get_flat_relative_ids(upstream=True), task_id
    # An incident that could not be opened keeps nobody from being asked about the others.
    assert asking.trigger_rule == "all_done"
    assert APPROVAL_TASK in dag.get_task("fail_the_run").upstream_task_ids


def test_waiting_costs_no_slot(dag: DAG) -> None:
    """Airflow counts these states as one that runs; a question and a sensor between two looks are in neither."""
    assert {state.value for state in EXECUTION_STATES} == {"running", "queued"}
    for task_id in CONFIRM:
        assert dag.get_task(task_id).mode == "reschedule"


def test_what_is_held_goes_to_a_control_by_the_answer_only(dag: DAG) -> None:
    for task_id in (*CONTROLS, *WATCH):
        assert dag.get_task(f"{APPROVED}.{task_id}").upstream_task_ids == {APPROVAL_TASK, "open_incidents"}, task_id
    told = dag.get_task(f"{APPROVED}.update_incidents")
    assert {APPROVAL_TASK, "update_incidents"} <= told.upstream_task_ids
    after = dag.get_task(APPROVAL_TASK).get_flat_relative_ids(upstream=False)
    assert {task for task in after if not task.startswith(f"{APPROVED}.")} == {"fail_the_run"}


def test_runs_that_wait_for_a_person_do_not_keep_the_next_hour_from_being_read(dag: DAG) -> None:
    # Each hour's run may wait so long; one place is for the hour that is being read.
    assert dag.max_active_runs > LONGEST_WAIT_HOURS


def test_the_rules_that_keep_a_failure_visible(dag: DAG) -> None:
    assert dag.get_task("update_incidents").trigger_rule == "all_done"
    assert dag.get_task("fail_the_run").trigger_rule == "one_failed"
    # One incident that Respond refuses must not keep every block of the night from being made.
    acting = [t for t in dag.task_ids if t.removeprefix(f"{APPROVED}.").startswith(("block.", "watch."))]
    for task_id in ("relate", *acting, f"{APPROVED}.update_incidents"):
        assert dag.get_task(task_id).trigger_rule == "all_done", task_id
    assert dag.get_task("decide").trigger_rule == "all_done"
    for task_id in FETCH:
        assert dag.get_task(task_id).trigger_rule == "all_success"


def test_nothing_runs_for_ever(dag: DAG) -> None:
    """4d: no task had a time-out, nor had the run: with a vendor that drips no incident was opened and no run red."""
    for task in dag.tasks:
        assert task.execution_timeout == timedelta(hours=1), task.task_id
    assert dag.get_task("approve_blocks").response_timeout is None  # the policy says it when the task runs
    assert dag.dagrun_timeout is not None
    # Longer than a person may take to answer, with the work of the run; shorter than all places for runs last.
    assert timedelta(hours=LONGEST_WAIT_HOURS + 4) <= dag.dagrun_timeout < timedelta(hours=dag.max_active_runs)


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
light = {name for name in sys.modules if not name.startswith("threat_response.vendors.")}
hooks = {m for m in sys.modules if m.startswith("threat_response.vendors.") and m.endswith((".hook", ".cases"))}
rooms = {name for name in light if name.startswith(("include.soar.gate", "include.soar.policy", "include.soar.ledger"))}
heavy = hooks | rooms | {"pandas", "numpy", "aiohttp", "requests", "tldextract", "falconpy", "alembic"} & light
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
