"""The warm start: only where tasks are forked from, with nothing in it that a fork would share, and it never fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from threat_response.warm import tasks_fork_here, warm, warm_if_tasks_fork_here

#: Any `airflow` command, then the scheduler, then one of its tasks.
PROCESS = """
import json, os, sys, threading

def ours():
    return {m for m in sys.modules if m.startswith(("threat_response", "include"))}

def files():
    folder = "/proc/self/fd"
    return {os.readlink(f"{folder}/{n}") for n in os.listdir(folder) if os.path.exists(f"{folder}/{n}")}

sys.argv = ["airflow", "version"]
import airflow.cli.cli_parser
heavy = ("include", "threat_response.runtime", "threat_response.stages", "threat_response.transport.hook")
said = {"any command": sorted(m for m in ours() if m.startswith(heavy) or m.endswith((".hook", ".operators")))}

sys.argv = ["airflow", "scheduler"]
import airflow.executors.local_executor, airflow.jobs.scheduler_job_runner
from threat_response import cli
threads, before = threading.active_count(), files()
cli.get_cli_commands()
said |= {"threads": threading.active_count() - threads, "files": sorted(files() - before)}
said["heavy"] = sorted({"pandas", "numpy", "include.simulators", "pytest"} & set(sys.modules))

known, (read, write) = ours(), os.pipe()
if (child := os.fork()) == 0:
    from airflow.dag_processing.dagbag import BundleDagBag
    folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
    bag = BundleDagBag(f"{folder}/api_threat_response.py", bundle_path=folder, bundle_name="dags", load_op_links=False)
    from include.soar.model import Frozen
    unbuilt = [shape.__name__ for shape in Frozen.__subclasses__() if not shape.__pydantic_complete__]
    told = {"dags": list(bag.dags), "a task imports": sorted(ours() - known), "a task builds": unbuilt}
    os.write(write, json.dumps(told).encode())
    os._exit(0)
os.close(write)
print(json.dumps(said | json.loads(os.fdopen(read).read())))
os.waitpid(child, 0)
"""


@pytest.mark.parametrize(
    ("command", "executor", "forks"),
    [
        (["scheduler", "--skip-serve-logs"], "LocalExecutor", True),
        (["scheduler"], "airflow.executors.local_executor.LocalExecutor", True),
        (["scheduler"], "CeleryExecutor,LocalExecutor", True),
        (["celery", "worker"], "CeleryExecutor", True),
        (["scheduler"], "CeleryExecutor", False),
        (["celery", "flower"], "CeleryExecutor", False),
        (["api-server"], "LocalExecutor", False),
        (["dag-processor"], "LocalExecutor", False),
        (["triggerer"], "LocalExecutor", False),
        (["standalone"], "LocalExecutor", False),
        (["threat-response", "explain", "scheduler"], "LocalExecutor", False),
        ([], "LocalExecutor", False),
    ],
)
def test_only_what_forks_tasks_is_warmed(command: list[str], executor: str, forks: bool) -> None:
    assert tasks_fork_here(command, executor) is forks


def test_a_fork_finds_everything_imported_and_shares_nothing_that_must_not_be_shared() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROCESS],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}", "AIRFLOW__CORE__EXECUTOR": "LocalExecutor"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "any command": [],
        "threads": 0,
        "files": [],
        "heavy": [],
        "dags": ["api_threat_response"],
        "a task imports": [],
        "a task builds": [],
    }


def test_what_cannot_be_imported_is_named_and_the_others_are_imported_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_at_import.py").write_text("raise RuntimeError('at import')\n", encoding="utf-8")
    (tmp_path / "whole_at_import.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert warm(("broken_at_import", "whole_at_import")) == ["broken_at_import"]
    assert sys.modules.pop("whole_at_import")


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["airflow", "celery", "worker"])
    assert warm_if_tasks_fork_here()
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__WARM_START", "False")
    assert not warm_if_tasks_fork_here()
    # Not even a setting that nobody can read ends the worker.
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__WARM_START", "perhaps")
    assert not warm_if_tasks_fork_here()
