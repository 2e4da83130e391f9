"""N6: one cause makes a run red at once. What follows it is skipped, with one line that says why (N21)."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from include.soar.extract.case import NothingFetched
from tests.stages.tiny import TinyServer, context
from threat_response.stages.control import Confirm, Control
from threat_response.stages.decide import Decide
from threat_response.stages.enrich import Enrich
from threat_response.stages.extract import Extract
from threat_response.stages.fail_the_run import FailTheRun
from threat_response.stages.fetch import Fetch
from threat_response.stages.relate import Relate
from threat_response.stages.update_incidents import UpdateIncidents

NO_INCIDENT: dict[str, Any] = {"vendor": "tiny", "case": {}, "decision": {}, "incidents": None}
NO_DECISION: dict[str, Any] = {"vendor": "tiny", "case": {}, "decision": None, "incidents": {}}


def after(task: BaseOperator, **states: str | None) -> Any:
    """The context of a task that comes after tasks in these states."""
    with DAG("response", schedule=None):
        for name in states:
            BaseOperator(task_id=name).set_downstream(task)

    def get_task_states(dag_id: str, *, task_ids: list[str], run_ids: list[str]) -> dict[str, Any]:
        assert (dag_id, run_ids) == ("response", ["r"])
        return {"r": {name: states[name] for name in task_ids if states[name]}}

    return context() | {"ti": SimpleNamespace(dag_id="response", run_id="r", get_task_states=get_task_states)}


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Decide(task_id="decide", case=None, answers={}), "there is no case"),
        (Enrich(vendor="tiny", task_id="enrich", case=None), "tiny is not asked: there is no case"),
        (Control(vendor="tiny", task_id="control", decision=None, incidents={}), "there is no decision"),
        (Confirm(vendor="tiny", task_id="confirm", actions=None), "the control gave no action"),
        (Relate(task_id="relate", **NO_INCIDENT), "relate does nothing: there is no incident"),
        (Relate(task_id="relate", **NO_DECISION), "relate does nothing: there is no decision"),
        (UpdateIncidents(task_id="update_incidents", **NO_INCIDENT), "update_incidents does nothing: there is no inc"),
        (UpdateIncidents(task_id="update_incidents", **NO_DECISION), "update_incidents does nothing: there is no dec"),
    ],
    ids=lambda value: value.task_id if isinstance(value, BaseOperator) else "",
)
def test_a_stage_that_is_given_nothing_is_skipped_and_its_log_says_so(
    server: TinyServer, caplog: pytest.LogCaptureFixture, task: Any, words: str
) -> None:
    run = getattr(task, "poke", task.execute)
    with caplog.at_level(logging.INFO, "threat_response"), pytest.raises(AirflowSkipException, match=words):
        run(context())
    assert [words in record.message for record in caplog.records if record.name == "threat_response"] == [True]
    assert server.seen == []


@pytest.mark.parametrize(
    "task",
    [
        Fetch(vendor="tiny", task_id="fetch"),
        Enrich(vendor="tiny", task_id="enrich", case=None),
        Control(vendor="tiny", task_id="control"),
    ],
)
def test_n21_a_skipped_stage_says_so_in_its_log(
    unconnected: TinyServer, caplog: pytest.LogCaptureFixture, task: Any
) -> None:
    """Airflow writes an exception's text into a folded group of the log only."""
    with caplog.at_level(logging.INFO, "threat_response"), pytest.raises(AirflowSkipException) as skipped:
        getattr(task, "poke", task.execute)(context())
    assert "is skipped: there is no connection 'tiny_default'" in str(skipped.value)
    assert [record.message for record in caplog.records if record.name == "threat_response"] == [str(skipped.value)]
    assert unconnected.seen == []


def test_a_source_that_failed_is_the_cause_and_one_without_a_connection_is_none() -> None:
    task = Extract(task_id="extract", batches=[None, None])
    with pytest.raises(AirflowSkipException, match=r"since sia failed$"):
        task.execute(after(task, security="skipped", sia="failed"))
    task = Extract(task_id="extract", batches=[None, None])
    with pytest.raises(NothingFetched, match="no source has given a batch"):
        task.execute(after(task, security="skipped", sia="skipped"))


def test_n14_the_red_end_names_what_failed() -> None:
    task = FailTheRun(task_id="fail_the_run")
    states = {"waf": "failed", "fetch": "success", "edr": "failed", "watch": "upstream_failed", "update": None}
    with pytest.raises(RuntimeError, match=r"^edr, waf failed: "):
        task.execute(after(task, **states))
