"""What a task costs before it works: its process forked as LocalExecutor's workers fork it, cold and warm.

Real task processes under Airflow's own supervisor. Its API server is a function here that knows neither connections nor
XComs, so the tasks skip or fail at once. What is measured is their start: the runner's imports, reading the DAG, the
task's own imports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

from include.bench.measure import table, times
from include.demo.place import ROOT, Place

DAG_ID = "api_threat_response"
#: One that talks to a vendor, and two that only work.
TASKS = ("fetch.akamai_sia", "extract", "decide")


def report(*, repeats: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="threat-response-bench-") as folder:
        environment = Place(Path(folder), 1, 1).environment() | {"AIRFLOW__LOGGING__LOGGING_LEVEL": "CRITICAL"}
        cold, warm = ({**_measure(how, repeats, environment)} for how in ("cold", "warm"))
    rows = [(task, cold[task], warm[task], times(warm[task], cold[task])) for task in TASKS]
    yield table(
        "Starting a task: seconds of CPU of its process, forked from a scheduler",
        ("task", "cold", "warm", "warm : cold"),
        rows,
        f"Medians of {repeats}. Warm is what a scheduler with `[threat_response] warm_start` does, once:",
        f"{warm['warming']:.2f} s of CPU and {warm['megabytes'] - cold['megabytes']:.0f} MB more memory.",
    )


def _measure(how: str, repeats: int, environment: dict[str, str]) -> dict[str, float]:
    command = [sys.executable, "-m", "include.bench.start", how, str(repeats)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def scheduler(how: str, repeats: int) -> dict[str, float]:
    """Runs in a process of its own, which imports what a scheduler has imported when it forks."""
    import resource
    import time

    import airflow.executors.local_executor
    import airflow.jobs.scheduler_job_runner
    import airflow.sdk.execution_time.supervisor  # noqa: F401  (a worker has it from its first task on)

    began = time.process_time()
    if how == "warm":
        from threat_response.warm import warm

        if failed := warm():
            raise RuntimeError(f"could not be imported: {', '.join(failed)}")
    measured = {"warming": time.process_time() - began}
    measured["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for task in TASKS:
        measured[task] = median(_task(task) for _ in range(repeats))
    return measured


def _task(task_id: str) -> float:
    """Seconds of CPU of one task's process."""
    sys.stdout.flush()
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.close(read)
            os.write(write, json.dumps(_supervise(task_id)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    return float(json.loads(said))


def _supervise(task_id: str) -> float:
    """What LocalExecutor's worker does with a task; its supervisor's own CPU is not counted."""
    import resource

    import httpx
    from airflow.sdk.api.client import Client
    from airflow.sdk.api.datamodels._generated import BundleInfo, TaskInstance
    from airflow.sdk.execution_time.supervisor import supervise_task

    supervise_task(
        ti=TaskInstance(
            id=UUID(int=1), task_id=task_id, dag_id=DAG_ID, run_id="bench", try_number=1, dag_version_id=UUID(int=2)
        ),
        bundle_info=BundleInfo(name="dags-folder"),
        dag_rel_path=f"{DAG_ID}.py",
        token="",
        client=Client(base_url=None, dry_run=True, token="", transport=httpx.MockTransport(_answer)),
    )
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _answer(request: Any) -> Any:
    """The Execution API: the task may start, and there is nothing else."""
    import httpx

    if request.method == "GET":
        return httpx.Response(404, json={"detail": {"reason": "not_found", "message": "there is none"}})
    if not request.url.path.endswith("/run"):
        return httpx.Response(204)
    instant = "2026-01-31T08:00:00Z"
    nothing = ("logical_date", "data_interval_start", "data_interval_end", "end_date", "partition_key")
    run = dict.fromkeys(nothing) | {
        "dag_id": DAG_ID,
        "run_id": "bench",
        "run_after": instant,
        "start_date": instant,
        "run_type": "manual",
        "state": "running",
        "consumed_asset_events": [],
    }
    return httpx.Response(200, json={"dag_run": run, "max_tries": 0, "should_retry": False})


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in ("cold", "warm"):
        print(json.dumps(scheduler(sys.argv[1], int(sys.argv[2]))))
    else:
        print(*report(repeats=5))
