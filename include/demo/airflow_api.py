"""The few calls to Airflow's public REST API that the demo and the whole-Airflow tests need."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import requests

from include.demo.place import Place

DAG_ID = "api_threat_response"


def _busy(answer: requests.Response) -> bool:
    """Whether SQLite was locked: Airflow has then rolled the call back, and it may be made again."""
    return answer.status_code == 503 or (answer.status_code == 500 and "Database error" in answer.text)


class Airflow:
    """A signed-in client of one Airflow."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.session = requests.Session()
        self.session.trust_env = False
        password = json.loads(place.password_file.read_text())["admin"]
        answer = self.session.post(
            f"{place.ui}/auth/token", json={"username": "admin", "password": password}, timeout=30
        )
        answer.raise_for_status()
        self.session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def call(self, method: str, path: str, *, patience: float = 60, **options: Any) -> Any:
        deadline = time.monotonic() + patience
        while True:
            answer = self.session.request(method, f"{self.place.ui}/api/v2{path}", timeout=60, **options)
            if not _busy(answer) or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        if answer.status_code >= 400:
            raise RuntimeError(f"{method} {path}: HTTP {answer.status_code}: {answer.text[:500]}")
        return answer.json() if answer.content else None

    def wait_for_dag(self, dag_id: str = DAG_ID, *, patience: float = 120) -> None:
        deadline = time.monotonic() + patience
        while True:
            answer = self.session.get(f"{self.place.ui}/api/v2/dags/{dag_id}", timeout=30)
            if answer.status_code == 200:
                return
            errors = self.call("GET", "/importErrors")["import_errors"]
            if errors:
                raise RuntimeError(f"the DAG cannot be read:\n{errors[0]['stack_trace'][-2000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError("Airflow has not found the DAG")
            time.sleep(0.5)

    def pause(self, paused: bool = True) -> None:
        self.call("PATCH", f"/dags/{DAG_ID}", json={"is_paused": paused})

    def unpause(self) -> None:
        self.pause(False)

    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call(
            "GET", f"/dags/{DAG_ID}/dagRuns", params={"limit": 100, "order_by": "run_after"}
        )["dag_runs"]
        return found

    def trigger(self, *, conf: dict[str, Any], run_id: str | None = None, dag_id: str = DAG_ID) -> str:
        # Named here, so that a call that is made again cannot make a second run.
        run_id = run_id or f"manual__{datetime.now(UTC).isoformat()}"
        body = {"logical_date": None, "conf": conf, "dag_run_id": run_id}
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def state(self, dag_id: str, run_id: str) -> str:
        """Of one run: queued, running, success, failed."""
        return str(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def backfill(
        self, start: datetime, end: datetime, *, conf: dict[str, Any], at_once: int, reprocess: str = "none"
    ) -> int:
        """
        Create a backfill, with the DAG paused meanwhile; it is left paused.

        On SQLite, Airflow 3.3.2's scheduler may otherwise see runs that the API server then rolls back ("database
        is locked"), and its loop ends for good. On Postgres the pause is not needed.
        """
        self.pause()
        body = {
            "dag_id": DAG_ID,
            "from_date": start.isoformat(),
            "to_date": end.isoformat(),
            "dag_run_conf": conf,
            "max_active_runs": at_once,
            "reprocess_behavior": reprocess,
            "run_backwards": False,
            "run_on_latest_version": True,
        }
        deadline = time.monotonic() + 180
        while True:
            answer = self.session.post(f"{self.place.ui}/api/v2/backfills", json=body, timeout=60)
            if answer.status_code in (200, 201):
                return int(answer.json()["id"])
            # 409: Airflow closes an ended backfill only every 30 seconds.
            if not (_busy(answer) or answer.status_code == 409) or time.monotonic() > deadline:
                raise RuntimeError(f"the backfill was refused: HTTP {answer.status_code}: {answer.text[:500]}")
            time.sleep(1)

    def tasks(self, run_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call(
            "GET", f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances", params={"limit": 100}
        )["task_instances"]
        return found

    def xcom(self, run_id: str, task_id: str) -> Any:
        """A task's batch; None where the task gave none."""
        path = f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        answer = self.session.get(f"{self.place.ui}/api/v2{path}", params={"deserialize": "true"}, timeout=60)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        value = answer.json()["value"]
        return json.loads(value) if isinstance(value, str) else value

    def log(self, run_id: str, task_id: str, try_number: int = 1) -> str:
        path = f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        content = self.call("GET", path, params={"full_content": "true"}, headers={"Accept": "application/json"})
        return "\n".join(
            f"{line.get('timestamp') or ''} {line.get('level', '')} {line.get('event', '')}"
            for line in content["content"]
            if isinstance(line, dict)
        )
