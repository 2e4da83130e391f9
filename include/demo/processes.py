"""Starting and ending the demo's processes: simulators and Airflow's parts, each in a session of its own."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import requests

from include.demo.place import ROOT, Place, connections, write_private


class DemoError(RuntimeError):
    """Something did not start; the message says what, and which log to read."""


def start(place: Place, known: dict[str, dict[str, str]], *, day_end: str | None, tell: Callable[[str], None]) -> None:
    """Simulators and Airflow, until all of it answers. ``day_end`` None: the simulators start empty."""
    secrets_file = write_private(place.home / "secrets.json", json.dumps(known))
    connections_file = write_private(
        place.home / "connections.json", json.dumps(connections(place.sim_port, known), indent=1)
    )
    # Made here, because Airflow's simple auth manager prints the passwords that it makes itself.
    write_private(place.password_file, json.dumps({"admin": secrets.token_urlsafe(12)}))
    environment = place.environment()
    seed = ["--seed", "demo", "--day-end", day_end] if day_end else ["--seed", "none"]
    _spawn(
        place,
        "simulators",
        [
            sys.executable,
            "-m",
            "include.simulators",
            "--port",
            str(place.sim_port),
            "--secrets",
            str(secrets_file),
            *seed,
        ],
        environment,
    )
    airflow = [sys.executable, "-m", "airflow"]
    tell("Preparing Airflow's database")
    _run(place, "db-migrate", [*airflow, "db", "migrate"], environment)
    _wait(place, "simulators", lambda: _answers(f"{place.simulators}/_sim/health"))
    tell("Loading the connections")
    _run(place, "connections", [*airflow, "connections", "import", "--overwrite", str(connections_file)], environment)
    tell("Starting Airflow: API server, scheduler, DAG processor, triggerer")
    _spawn(place, "api-server", [*airflow, "api-server"], environment)
    _wait(place, "api-server", lambda: _answers(f"{place.ui}/api/v2/version"))
    # The log servers would listen on every interface; here all parts share one log folder anyway.
    _spawn(place, "scheduler", [*airflow, "scheduler", "--skip-serve-logs"], environment)
    _spawn(place, "dag-processor", [*airflow, "dag-processor"], environment)
    _spawn(place, "triggerer", [*airflow, "triggerer", "--skip-serve-logs"], environment)
    _wait(place, "scheduler", lambda: _scheduler_is_healthy(place))


def stop(home: Path) -> list[str]:
    """End what :func:`start` started, by the ids it wrote down; gives the names of what was ended."""
    ended = []
    for record_file in sorted(home.glob("*.pid")):
        record = json.loads(record_file.read_text())
        if _is_ours(record):
            _end_group(record["pid"])
            ended.append(record_file.stem)
        record_file.unlink()
    return ended


def running(home: Path) -> dict[str, bool]:
    """What :func:`start` started, by name, and whether it still runs."""
    return {f.stem: _is_ours(json.loads(f.read_text())) for f in sorted(home.glob("*.pid"))}


def _is_ours(record: dict[str, Any]) -> bool:
    """Whether the process is still the one that we started: ids are used again after a while."""
    try:
        return abs(psutil.Process(record["pid"]).create_time() - record["create_time"]) < 1
    except psutil.NoSuchProcess:
        return False


def _end_group(pid: int) -> None:
    """TERM the process's whole session, KILL what is left after some seconds."""
    members = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for sign, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        with suppress(ProcessLookupError):
            os.killpg(pid, sign)
        _, members = psutil.wait_procs(members, timeout=patience)
        if not members:
            return
    for process in members:
        process.kill()


def _spawn(place: Place, name: str, command: list[str], environment: dict[str, str]) -> None:
    log = place.home / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    record = {"pid": process.pid, "create_time": psutil.Process(process.pid).create_time()}
    (place.home / f"{name}.pid").write_text(json.dumps(record))


def _run(place: Place, name: str, command: list[str], environment: dict[str, str]) -> None:
    log = place.home / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise DemoError(f"{name} failed; see {log}\n{_tail(log)}")


def _wait(place: Place, name: str, ready: Callable[[], bool], patience: float = 120) -> None:
    log = place.home / "logs" / f"{name}.log"
    record = json.loads((place.home / f"{name}.pid").read_text())
    deadline = time.monotonic() + patience
    while not ready():
        if not _is_ours(record):
            raise DemoError(f"{name} ended by itself; see {log}\n{_tail(log)}")
        if time.monotonic() > deadline:
            raise DemoError(f"{name} does not answer after {patience:.0f} s; see {log}\n{_tail(log)}")
        time.sleep(0.3)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.RequestException:
        return False


def _scheduler_is_healthy(place: Place) -> bool:
    try:
        health = requests.get(f"{place.ui}/api/v2/monitor/health", timeout=5).json()
    except (requests.RequestException, ValueError):
        return False
    return bool(health["scheduler"]["status"] == "healthy" and health["dag_processor"]["status"] == "healthy")


def _tail(path: Path, lines: int = 15) -> str:
    return "\n".join(path.read_text("utf-8", "replace").splitlines()[-lines:])
