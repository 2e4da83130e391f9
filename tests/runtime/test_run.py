"""What a run may do, which window is its own, and how the ledger calls it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag

from include.soar.model import Severity
from tests.conftest import ROOT
from tests.soar.examples import at
from threat_response.runtime.run import OTHER_PARAMETERS, PARAMETERS, Run, is_gone


def context(run_type: str = "manual", **values: Any) -> Any:
    run = SimpleNamespace(run_type=run_type, run_id="r-1", dag_id="d", run_after=at("2026-01-02T11:07"))
    return {"dag_run": run, "params": {}, **values}


INTERVAL = {"data_interval_start": at("2026-01-02T10:00"), "data_interval_end": at("2026-01-02T11:00")}


@pytest.mark.parametrize(
    ("values", "start", "end"),
    [
        (INTERVAL, "10:00", "11:00"),
        ({}, "10:07", "11:07"),  # a run without a logical date: Airflow leaves these keys out
        ({"params": {"lookback_minutes": 30}}, "10:37", "11:07"),
    ],
)
def test_the_window_of_a_run(values: dict[str, Any], start: str, end: str) -> None:
    window = Run.of(context(**values)).window
    assert (window.start_at, window.end_at) == (at(f"2026-01-02T{start}"), at(f"2026-01-02T{end}"))


@pytest.mark.parametrize("started", [at("2026-01-02T11:08"), None])
def test_when_a_run_began(started: Any) -> None:
    given = context()
    given["dag_run"].start_date = started
    assert Run.of(given).started_at == started


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("run_type", ["manual", "scheduled", "backfill"])
@pytest.mark.parametrize("effects", [None, "auto", "apply", "plan"])
def test_who_may_write(effects: str | None, run_type: str, blocks: bool) -> None:
    expected = {"apply": True, "plan": False}.get(effects or "auto", not (run_type == "backfill" and blocks))
    assert Run.of(context(run_type, params={"effects": effects})).may_write(blocks=blocks) is expected


@pytest.mark.parametrize("effects", ["Apply", "yes", "dry-run"])
def test_an_effect_that_nobody_knows_writes_nothing(effects: str) -> None:
    with pytest.raises(ValueError, match="effects"):
        Run.of(context(params={"effects": effects})).may_write(blocks=False)


def test_a_runs_own_severity() -> None:
    assert Run.of(context()).minimum_severity is None
    assert Run.of(context(params={"minimum_severity": ""})).minimum_severity is None
    assert Run.of(context(params={"minimum_severity": "low"})).minimum_severity is Severity.LOW
    with pytest.raises(ValueError, match="urgent"):
        _ = Run.of(context(params={"minimum_severity": "urgent"})).minimum_severity


def test_the_name_of_a_run() -> None:
    assert Run.of(context()).name == "d/r-1"


def test_a_parameter_that_there_is_not_is_refused_by_name() -> None:
    """``{"effect": "plan"}`` was read as nothing, and the run blocked."""
    misspelt = context(params={"effects": "auto"})
    misspelt["dag_run"].conf = {"effect": "plan", "answers": "frozen"}
    for read in (lambda run: run.may_write(blocks=True), lambda run: run.window, lambda run: run.answers_are_frozen):
        with pytest.raises(ValueError, match=r"no such parameter: effect; there are answers, effects"):
            read(Run.of(misspelt))
    misspelt["dag_run"].conf = {"effects": "plan"}
    assert Run.of(misspelt).may_write(blocks=True)  # Airflow merges conf into params; here they are the test's own


def test_the_dag_declares_the_parameters_that_a_run_reads() -> None:
    from api_threat_response import PARAMS

    assert set(PARAMS) == PARAMETERS
    bag = DagBag(dag_folder=str(ROOT / "dags"))
    assert set(bag.dags) - {"api_threat_response"} == set(OTHER_PARAMETERS)
    for dag_id, parameters in OTHER_PARAMETERS.items():
        assert set(bag.dags[dag_id].params) == parameters, dag_id


def test_a_try_whose_process_has_ended_is_gone_and_no_other() -> None:
    here = Run.of(context()).claimant
    assert len(here) <= 512
    assert not is_gone(here)
    name = here.split("#")[1]
    assert is_gone(here.replace(name, name.rpartition("/")[0] + "/1"))
    for claimant in ("dag/run", "dag/run#0badcafe", "", f"dag/run#another{name}#0badcafe"):
        assert not is_gone(claimant)
