"""The DAGs beside the response: what they promise by their shape, and that nobody has to switch them on."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.sdk.exceptions import ParamValidationError

from tests.conftest import ROOT
from threat_response import groups
from threat_response.registry import vendors_of
from threat_response.transport.retry import VendorRetryPolicy

SCHEDULED = {"lift_expired_blocks": "lift_expired", "reconcile_blocks": "reconcile"}
BY_HAND = ("lift_block", "block_by_hand", "allow_value")
CONTROLS = list(groups.controls())


@pytest.fixture(scope="module")
def dags() -> dict[str, DAG]:
    bag = DagBag(dag_folder=str(ROOT / "dags"))
    assert bag.import_errors == {}
    return dict(bag.dags)


@pytest.mark.parametrize("dag_id", [*SCHEDULED, *BY_HAND])
def test_it_is_switched_on_when_it_is_first_seen_and_ends_red_where_a_task_does(
    dags: dict[str, DAG], dag_id: str
) -> None:
    dag = dags[dag_id]
    assert dag.is_paused_upon_creation is False
    assert dag.catchup is False
    assert dag.dagrun_timeout is not None
    assert dag.get_task("fail_the_run").upstream_task_ids == set(dag.task_ids) - {"fail_the_run"}
    for task in dag.tasks:
        assert task.execution_timeout is not None
        assert task.execution_timeout <= timedelta(hours=1)
        if task.task_id != "fail_the_run":
            assert isinstance(task.retry_policy, VendorRetryPolicy), task.task_id
            assert task.retries >= 3


@pytest.mark.parametrize(("dag_id", "group"), SCHEDULED.items())
def test_every_control_has_its_task_and_the_incidents_are_told_whatever_failed(
    dags: dict[str, DAG], dag_id: str, group: str
) -> None:
    dag = dags[dag_id]
    tasks = {f"{group}.{control}" for control in CONTROLS}
    assert set(dag.task_ids) == {*tasks, "tell_incidents", "fail_the_run"}
    telling = dag.get_task("tell_incidents")
    assert telling.upstream_task_ids == tasks
    assert telling.trigger_rule == "all_done"
    assert dag.max_active_runs == 1
    dag.params.validate()


@pytest.mark.parametrize("dag_id", ["lift_block", "allow_value"])
def test_lifting_waits_without_a_slot_where_a_network_takes_time(dags: dict[str, DAG], dag_id: str) -> None:
    dag = dags[dag_id]
    waiting = {f"lift.{vendor}_active" for vendor in vendors_of("confirm")}
    assert waiting
    for task_id in waiting:
        assert dag.get_task(task_id).reschedule
    assert {f"lift.{control}" for control in CONTROLS} <= set(dag.task_ids)
    assert waiting < dag.get_task("tell_incidents").upstream_task_ids
    # A person's wish is written down before anything is removed.
    for control in CONTROLS:
        assert "asked" in dag.get_task(f"lift.{control}").upstream_task_ids


def test_a_block_by_hand_is_planned_and_told_before_it_is_made(dags: dict[str, DAG]) -> None:
    dag = dags["block_by_hand"]
    for task in dag.tasks:
        if task.task_id.startswith(("block.", "watch.")) and not task.task_id.endswith("_active"):
            assert {"plan_blocks", "open_incidents"} <= task.upstream_task_ids
    assert dag.get_task("plan_blocks").upstream_task_ids == {"asked"}


@pytest.mark.parametrize("dag_id", BY_HAND)
def test_a_form_that_is_not_filled_in_is_refused(dags: dict[str, DAG], dag_id: str) -> None:
    params = dags[dag_id].params
    for name in ("value", "reason"):
        assert not params.get_param(name).has_value
        assert params.get_param(name).schema["minLength"] >= 1
    with pytest.raises(ParamValidationError):
        params.validate()
