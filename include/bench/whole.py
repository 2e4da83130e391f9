"""Measurement 3: a whole run under Airflow, beside a DAG of the same shape whose tasks do nothing.

What Airflow needs for the same number of tasks is what no work of ours could ever save.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from include.bench.load import Record, build_load
from include.bench.measure import table, times
from include.bench.stages import BenchFailed, Simulated
from include.demo import processes
from include.demo.airflow_api import DAG_ID, Airflow
from include.demo.place import ROOT, Place, free_port, make_secrets
from include.soar.ledger import Ledger

EMPTY_ID = "bench_empty"
EMPTY_DAG = '''"""As many tasks as {dag_id} has, in the same shape, that do nothing. Written by include/bench."""

from airflow.sdk import dag, task

SHAPE = {shape!r}


def nothing() -> None:
    pass


@dag(dag_id={empty_id!r}, schedule=None)
def empty():
    tasks = {{name: task(task_id=name, trigger_rule=rule)(nothing)() for name, (rule, _) in SHAPE.items()}}
    for name, (_, downstream) in SHAPE.items():
        for other in downstream:
            tasks[name] >> tasks[other]


empty()
'''


class BenchPlace(Place):
    """The demo's Airflow, with a DAG folder of its own and without the schedule: a run happens when we ask for it."""

    @property
    def dags(self) -> Path:
        return self.home / "dags"

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
        }


@dataclass
class Whole:
    """One run: from the trigger to the end of its last task, and what its tasks took of that."""

    what: str
    wall: float
    in_tasks: float
    tasks: int


def report(*, findings: int, high: int, pairs: int, tell: Callable[[str], None]) -> Iterator[str]:
    """:param pairs: how often an empty and a real run follow each other"""
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    day = build_load(end, findings=findings, high=high)
    with tempfile.TemporaryDirectory(prefix="threat-response-bench-", ignore_cleanup_errors=True) as folder:
        place = BenchPlace(Path(folder), free_port(0), free_port(0))
        place.dags.mkdir()
        shutil.copy(ROOT / "dags" / f"{DAG_ID}.py", place.dags)
        simulated = Simulated(place.simulators, make_secrets())
        try:
            processes.start(place, simulated.secrets, day_end=None, tell=tell)
            airflow = Airflow(place)
            with closing(airflow.session):
                airflow.wait_for_dag()
                _add_empty_dag(place, airflow, tell)
                runs = _runs(place, airflow, simulated, day, end, pairs, tell)
        finally:
            processes.stop(place.home)
    yield render(runs, findings=findings, high=high)


def _add_empty_dag(place: BenchPlace, airflow: Airflow, tell: Callable[[str], None]) -> None:
    """The shape is taken from the DAG as Airflow has read it, so that the two cannot drift apart."""
    tasks = airflow.call("GET", f"/dags/{DAG_ID}/tasks")["tasks"]
    shape = {t["task_id"]: (t["trigger_rule"], t["downstream_task_ids"]) for t in tasks}
    source = EMPTY_DAG.format(dag_id=DAG_ID, shape=shape, empty_id=EMPTY_ID)
    (place.dags / f"{EMPTY_ID}.py").write_text(source)
    tell(f"Waiting until Airflow has found the empty DAG of {len(shape)} tasks")
    deadline = time.monotonic() + 120
    while not airflow.call("GET", "/dags", params={"dag_id_pattern": EMPTY_ID})["dags"]:
        if time.monotonic() > deadline:
            raise BenchFailed("Airflow has not found the empty DAG")
        time.sleep(0.5)
    for dag_id in (DAG_ID, EMPTY_ID):
        airflow.call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})


def _runs(
    place: Place,
    airflow: Airflow,
    simulated: Simulated,
    day: dict[str, Record],
    end: datetime,
    pairs: int,
    tell: Callable[[str], None],
) -> list[Whole]:
    window = {"window_start": (end - timedelta(hours=24)).isoformat(), "window_end": end.isoformat()}
    runs: list[Whole] = []
    _run(airflow, EMPTY_ID, {}, "first")  # not counted: Airflow's own warming up
    for number in range(1, pairs + 1):
        # Fresh each time: a second run over the same events finds its own marks and writes nothing.
        shutil.rmtree(place.home / "threat-response", ignore_errors=True)
        Ledger(f"sqlite:///{place.home / 'threat-response' / 'ledger.db'}").close()
        simulated.fresh(day)
        for dag_id, conf, what in ((EMPTY_ID, {}, "empty"), (DAG_ID, {"effects": "apply", **window}, "real")):
            runs.append(_run(airflow, dag_id, conf, f"{what} {number}"))
            tell(f"  {what} run {number} of {pairs}: {runs[-1].wall:.1f} s")
    return runs


def _run(airflow: Airflow, dag_id: str, conf: dict[str, Any], what: str, patience: float = 900) -> Whole:
    runs = f"/dags/{dag_id}/dagRuns"
    run_id = airflow.call("POST", runs, json={"logical_date": None, "conf": conf})["dag_run_id"]
    deadline = time.monotonic() + patience
    while (run := airflow.call("GET", f"{runs}/{run_id}"))["state"] not in ("success", "failed"):
        if time.monotonic() > deadline:
            raise BenchFailed(f"the {what} run has not ended")
        time.sleep(1)
    tasks = airflow.call("GET", f"{runs}/{run_id}/taskInstances", params={"limit": 100})["task_instances"]
    if run["state"] == "failed":
        red = sorted(t["task_id"] for t in tasks if t["state"] == "failed")
        raise BenchFailed(f"the {what} run failed: {', '.join(red)}")
    began, ended = (datetime.fromisoformat(run[name].replace("Z", "+00:00")) for name in ("queued_at", "end_date"))
    worked = [t["duration"] or 0.0 for t in tasks if t["state"] == "success"]
    return Whole(what, (ended - began).total_seconds(), sum(worked), len(worked))


def render(runs: list[Whole], *, findings: int, high: int) -> str:
    """Runs in their order, an empty and a real one in turn."""
    empty, real = median(r.wall for r in runs[::2]), median(r.wall for r in runs[1::2])
    rows: list[tuple[Any, ...]] = [
        (run.what, run.tasks, run.wall, run.in_tasks, times(run.wall, runs[n - n % 2].wall))
        for n, run in enumerate(runs)
    ]
    rows.append(
        ("median: real beside empty", runs[1].tasks, real, median(r.in_tasks for r in runs[1::2]), times(real, empty))
    )
    return table(
        f"3. A whole run under Airflow: {findings:,} findings, {high} of them high, effects apply",
        ("run", "tasks run", "wall s", "s in tasks", "against empty"),
        rows,
        "Empty: the same tasks and edges, each a Python task that does nothing; same Airflow, same call, in turn.",
        "Wall: from the trigger to the end of the run. In tasks: their durations added up, each with the start of its",
        "process and the import of its DAG; they overlap.",
        "Each real run has fresh simulators and an empty ledger. LocalExecutor, SQLite.",
    )
