"""What reading the DAG file costs: CPU over Airflow's SDK and the classes that our operators derive from.

Each of a run's tasks reads it in a process of its own. ``python -m include.bench.dag_import OTHER`` measures another
checkout, with its own ``.venv``, beside this one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from include.bench.measure import table, times
from include.demo.place import ROOT

#: Most seconds of CPU that reading the file may cost, over what Airflow costs anyhow.
BUDGET = 0.15

#: Runs in a fresh process, at the root of a checkout. What is imported first is Airflow's share.
CODE = """
import json, time
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import (
    BaseHook, BaseOperator, BaseSensorOperator, Connection, Context, CronDataIntervalTimetable, ObjectStoragePath,
    Param, PokeReturnValue, RetryDecision, RetryPolicy, TaskGroup, TriggerRule, XComArg, dag,
)
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput
sdk = time.process_time()
import api_threat_response
print(json.dumps([sdk, time.process_time() - sdk]))
"""


def report(*, repeats: int, other: Path | None = None) -> str:
    roots = {"this checkout": ROOT} | ({"the other": other} if other else {})
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in roots}
    with tempfile.TemporaryDirectory(prefix="threat-response-bench-") as home:
        for turn in range(repeats + 1):
            for name, root in roots.items():
                one = read_once(root, Path(home))
                if turn:  # the first may compile what it imports
                    measured[name].append(one)
    return comparison(measured)


def comparison(measured: dict[str, list[tuple[float, float]]]) -> str:
    """
    :param measured: for each checkout, ours first, what :func:`read_once` gave
    """
    shares = {name: [median(column) for column in zip(*rows, strict=True)] for name, rows in measured.items()}
    ours = next(iter(shares.values()))[1]
    return table(
        "Reading the DAG file: seconds of CPU of a fresh process",
        ("", "Airflow", "over it", "over it, to ours"),
        [(name, sdk, over, times(over, ours)) for name, (sdk, over) in shares.items()],
        f"Medians of {len(next(iter(measured.values())))}, in turns. At most {BUDGET} s over Airflow is the budget: "
        + ("kept." if ours <= BUDGET else "EXCEEDED."),
    )


def read_once(root: Path, home: Path) -> tuple[float, float]:
    """Seconds of CPU until Airflow's share is imported, and of the DAG file after it."""
    python = root / ".venv/bin/python"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": os.pathsep.join(map(str, (root, root / "plugins", root / "dags"))),
    }
    command = [str(python) if python.exists() else sys.executable, "-c", CODE]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    sdk, over = json.loads(done.stdout.splitlines()[-1])
    return sdk, over


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m include.bench.dag_import", description=__doc__)
    parser.add_argument("other", nargs="?", type=Path, metavar="OTHER", help="another checkout, measured in turns")
    parser.add_argument("--repeats", type=int, default=7, metavar="N")
    options = parser.parse_args(given)
    print(report(repeats=options.repeats, other=options.other and options.other.resolve()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
