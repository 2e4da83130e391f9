"""One whole Airflow (API server, scheduler with LocalExecutor, DAG processor) against the simulators, over HTTP.

The acceptance of the main job: tasks die in the middle of a write, windows are read again, two runs overlap, the
ledger is lost; and the vendors hold what one undisturbed run would have left. Everything is started by the same
code as ``make demo``.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from include.demo import processes
from include.demo.airflow_api import DAG_ID, Airflow
from include.demo.place import Place, make_secrets
from include.simulators.demo_feed import build_demo
from tests.support import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

#: Each write of the workflow: product, method, path. The process that sends it is killed after the vendor has
#: committed it and before the answer arrives.
KILLS = (
    ("cyware_respond", "POST", r"/v1/incident/$"),
    ("cyware_respond", "POST", r"/ioc-module/ioc/bulk-create/"),
    ("cyware_respond", "POST", r"/connect-the-dots/link-components/$"),
    ("cyware_respond", "POST", r"/connect-the-dots/advanced-link-components/$"),
    ("cyware_respond", "POST", r"/comments/incident/"),
    ("akamai_client_lists", "POST", r"/items$"),
    ("crowdstrike_falcon", "POST", r"/iocs/entities/indicators/v1"),
    ("splunk", "POST", r"/batch_save$"),
)
WRITES = ("POST", "PUT", "PATCH", "DELETE")
#: POSTs that only read.
READING = ("/threat-events/details", "/oauth2/token", "/auth/token", "/auth/login", "/advanced-search")


class OwnPlace(Place):
    """A place with a policy file of its own, laid over the demo's, that a test may write while everything runs."""

    @property
    def own_policy(self) -> Path:
        return self.home / "own.yaml"

    def environment(self) -> dict[str, str]:
        environment = super().environment()
        name = "AIRFLOW__THREAT_RESPONSE__POLICY"
        return environment | {name: f"{environment[name]}:{self.own_policy}"}


@dataclass
class Whole:
    place: OwnPlace
    secrets: dict[str, dict[str, str]]
    airflow: Airflow
    end_at: datetime

    def sim(self, method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(method, f"{self.place.simulators}/_sim{path}", json=body, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @property
    def window(self) -> dict[str, str]:
        start_at = self.end_at - timedelta(hours=1)
        return {"window_start": start_at.isoformat(), "window_end": self.end_at.isoformat(), "effects": "apply"}

    def wait(self, *run_ids: str, patience: float = 600) -> dict[str, str]:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            states = {r["dag_run_id"]: r["state"] for r in self.airflow.runs()}
            if run_ids and all(states.get(r) in ("success", "failed") for r in run_ids):
                return {r: states[r] for r in run_ids}
            time.sleep(0.5)
        raise AssertionError(f"not ended: {states}")

    def explain(self, run_id: str) -> str:
        tasks = self.airflow.tasks(run_id)
        bad = [t for t in tasks if t["state"] not in ("success", "skipped")]
        return "\n".join(
            f"{t['task_id']} {t['state']} try {t['try_number']}\n"
            + self.airflow.log(run_id, t["task_id"], max(1, t["try_number"]))[-1500:]
            for t in bad[:3]
        )

    def vendors(self) -> dict[str, Any]:
        """What the four vendors hold, without the times at which they stored it."""
        respond = self.sim("GET", "/cyware_respond/state")
        lists = self.sim("GET", "/akamai_client_lists/state")
        falcon = self.sim("GET", "/crowdstrike_falcon/state")
        splunk = self.sim("GET", "/splunk/state")
        titles = {i["unique_id"]: i["title"] for i in respond["incidents"]}
        # A comment ends with its reference: what it is about, or the state that it tells.
        comments = Counter(
            f"{titles[incident_id]}: {re.findall(r'TR-[A-Z]-[0-9a-f]+', comment['description'])}"
            for incident_id, found in respond["comments"].items()
            for comment in found
        )
        return {
            "incidents": Counter(titles.values()),
            "comments": comments,
            "links": Counter(_pair(link["pair"]) for link in respond["links"]),
            "iocs": Counter(ioc["value"] for ioc in respond["iocs"]),
            "items": Counter(item["value"] for entry in lists["lists"].values() for item in entry["items"]),
            "indicators": Counter(i["value"] for i in falcon["indicators"] if not i.get("deleted")),
            "rows": Counter(row["_key"] for rows in splunk["collections"].values() for row in rows),
        }

    def writes(self) -> list[str]:
        return [
            f"{c['method']} {c['path']}"
            for c in self.sim("GET", "/calls")
            if c["method"] in WRITES and not c["path"].endswith(READING)
        ]


def _pair(pair: list[list[str]]) -> str:
    return " - ".join(sorted(f"{kind}:{key}" for kind, key in pair))


@pytest.fixture(scope="module")
def whole() -> Iterator[Whole]:
    home = Path(tempfile.mkdtemp(prefix="threat-response-whole-"))
    place = OwnPlace(home, free_port(), free_port(), by_schedule=False)
    place.save()
    place.own_policy.write_text("version: 1\n")
    secrets = make_secrets()
    end_at = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    try:
        processes.start(place, secrets, day_end=None, tell=lambda text: None)
        demo = build_demo(end_at)
        for product, data in demo.items():
            if not product.startswith("_"):
                answer = requests.post(f"{place.simulators}/_sim/{product}/seed", json=data, timeout=30)
                assert answer.status_code == 200, answer.text
        airflow = Airflow(place)
        airflow.wait_for_dag()
        yield Whole(place, secrets, airflow, end_at)
    finally:
        processes.stop(home)
        shutil.rmtree(home, ignore_errors=True)


def test_the_main_job_survives_what_happens_at_night(whole: Whole) -> None:
    scheduler = json.loads((whole.place.home / "scheduler.pid").read_text())["pid"]
    for product, method, path in KILLS:
        fault = {"product": product, "kind": "kill_client_after_commit", "method": method, "path": path}
        whole.sim("POST", "/faults", {**fault, "ancestor_pid": scheduler})

    # 1. A run whose tasks die, each in the middle of a write.
    whole.airflow.unpause()
    first = whole.airflow.trigger(conf=whole.window, run_id="first")
    assert whole.wait(first) == {first: "success"}, whole.explain(first)
    unhit = [f["path"] for f in whole.sim("GET", "/faults") if not f["hits"]]
    assert not unhit, f"these writes were never reached, so nothing was shown: {unhit}"
    tries = {t["task_id"]: t["try_number"] for t in whole.airflow.tasks(first)}
    assert tries["open_incidents"] > 1
    assert tries["relate"] > 2  # died after its comment, and again after its relationship
    assert tries["block.waf.akamai_client_lists"] > 1
    assert tries["block.edr.crowdstrike_falcon"] > 1
    assert tries["watch.splunk"] > 1
    held = whole.vendors()
    decision = whole.airflow.xcom(first, "decide")
    high = sum(p["high"] for p in decision["priorities"])
    ours = {title: n for title, n in held["incidents"].items() if "[TR-" in title}
    assert high >= 3
    assert len(ours) == high
    for kind, found in held.items():
        if kind != "comments":
            assert max(found.values()) == 1, (kind, found.most_common(3))
    states = {t["task_id"]: t["state"] for t in whole.airflow.tasks(first)}
    assert states.pop("fail_the_run") == "skipped"
    # Nothing was held: nobody is asked, and what acts on an answer has nothing to do.
    later = {task: state for task, state in states.items() if task.startswith("approved.")}
    assert set(later.values()) == {"skipped"}
    assert {state for task, state in states.items() if task not in later} == {"success"}

    # 2 and 3. The same window once more by hand, and as a backfill, both at the same time.
    whole.sim("DELETE", "/calls")
    hour = whole.end_at - timedelta(hours=1)
    whole.airflow.backfill(hour, hour, conf={"effects": "apply"}, at_once=1)
    second = whole.airflow.trigger(conf=whole.window, run_id="second")
    whole.airflow.unpause()
    third = _backfill_run(whole)
    assert whole.wait(second, third) == {second: "success", third: "success"}, whole.explain(second) + whole.explain(
        third
    )
    assert _changes(whole, held) == {}
    assert whole.writes() == []

    # 4. With the ledger deleted.
    for file in (whole.place.home / "threat-response").glob("ledger.db*"):
        file.unlink()
    fourth = whole.airflow.trigger(conf=whole.window, run_id="fourth")
    assert whole.wait(fourth) == {fourth: "success"}, whole.explain(fourth)
    assert _changes(whole, held) == {}
    assert whole.writes() == []


def _changes(whole: Whole, held: dict[str, Any]) -> dict[str, Any]:
    """What the vendors hold now and did not before, or no more."""
    now = whole.vendors()
    return {kind: (now[kind] - held[kind], held[kind] - now[kind]) for kind in held if now[kind] != held[kind]}


def _backfill_run(whole: Whole) -> str:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for run in whole.airflow.runs():
            if run["run_type"] == "backfill":
                return str(run["dag_run_id"])
        time.sleep(0.5)
    raise AssertionError("Airflow made no backfill run")


def test_a_run_asks_first_and_what_then_fails_turns_it_red_and_costs_only_itself(whole: Whole) -> None:
    """
    More addresses of one network than a run may block by itself: it stops and asks. Approved, it goes on. The WAF
    refuses everything, Respond refuses one incident; the EDR and the other incidents are as they should be.
    """
    end_at = whole.end_at - timedelta(hours=2)
    window = {"window_start": (end_at - timedelta(hours=4)).isoformat(), "window_end": end_at.isoformat()}
    before = whole.vendors()
    # The WAF, since its confirmation succeeds on what the failed control could still publish.
    waf = {"product": "akamai_client_lists", "kind": "status", "status": 403, "path": "/items", "times": -1}
    one = {"product": "cyware_respond", "kind": "status", "status": 400, "method": "POST", "path": "/v1/incident/$"}
    whole.sim("POST", "/faults", waf)
    whole.sim("POST", "/faults", one)
    whole.place.own_policy.write_text("block: {maximum_per_network: 1}\n")
    red = whole.airflow.trigger(conf={**window, "effects": "apply"}, run_id="red")
    _approve(whole, red, before)
    assert whole.wait(red) == {red: "failed"}
    states = {t["task_id"]: t["state"] for t in whole.airflow.tasks(red)}
    assert states["open_incidents"] == "failed"
    assert states["approved.block.waf.akamai_client_lists"] == "failed"
    assert states["fail_the_run"] == "failed"
    assert states["approve_blocks"] == "success"
    assert states["update_incidents"] == states["approved.update_incidents"] == "success"
    approved = {i["observable"]["value"] for i in whole.airflow.xcom(red, "approve_blocks")["indicators"]}
    assert approved == {i["observable"]["value"] for i in whole.airflow.xcom(red, "decide")["held"]} != set()
    outcomes = Counter(ref["outcome"] for ref in whole.airflow.xcom(red, "open_incidents")["incidents"])
    assert outcomes["failed"] == 1
    assert outcomes["created"] >= 1
    now = whole.vendors()
    assert len(now["incidents"] - before["incidents"]) == outcomes["created"]
    assert now["indicators"] - before["indicators"], "one refused incident kept the EDR from acting on the others"
    assert now["items"] == before["items"]
    respond = whole.sim("GET", "/cyware_respond/state")
    told = [c["description"] for found in respond["comments"].values() for c in found]
    assert any("akamai_client_lists" in text and "failed" in text for text in told)
    assert _told(whole, "Held before blocking, then approved by admin at ")
    whole.sim("DELETE", "/faults")


def _approve(whole: Whole, run_id: str, before: dict[str, Any]) -> None:
    """The run has stopped before blocking: look at what there is, then say yes as a person would."""
    states = _wait_for_the_question(whole, run_id)
    assert {s for t, s in states.items() if t.startswith("approved.")} == {None}
    waiting = whole.vendors()
    # What is watched does not wait.
    assert waiting["items"] == before["items"]
    assert waiting["incidents"] - before["incidents"]
    assert _told(whole, "Held: ")
    # Whatever ends the task now, the controls find nothing to act on.
    assert whole.airflow.xcom(run_id, "approve_blocks")["indicators"] == []
    path = f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/approve_blocks/-1/hitlDetails"
    assert "/24 in one run" in whole.airflow.call("GET", path)["body"]
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        state = {t["task_id"]: t["state"] for t in whole.airflow.tasks(run_id)}["approve_blocks"]
        if state == "success":
            return
        # Perhaps more than once: Airflow 3.3.2 takes a task for lost whose answer comes within about a second, and then
        # asks again.
        if state == "awaiting_input" and not whole.airflow.call("GET", path)["response_received"]:
            whole.airflow.call("PATCH", path, json={"chosen_options": ["Approve all"], "params_input": {}})
        time.sleep(0.5)
    raise AssertionError(f"the answer was not taken: {state}")


def _wait_for_the_question(whole: Whole, run_id: str) -> dict[str, str | None]:
    """Until the run waits for its answer and has done all that it does before; the tasks' states."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        states = {t["task_id"]: t["state"] for t in whole.airflow.tasks(run_id)}
        done = states.get("relate") == states.get("update_incidents") == "success"
        if states.get("approve_blocks") == "awaiting_input" and done:
            return states
        time.sleep(0.5)
    raise AssertionError(f"the run asked nobody: {states}")


def _told(whole: Whole, words: str) -> bool:
    """Whether an incident says so, in its description or in a comment."""
    respond = whole.sim("GET", "/cyware_respond/state")
    texts = [incident["description"] or "" for incident in respond["incidents"]]
    texts += [c["description"] for found in respond["comments"].values() for c in found]
    return any(words in text for text in texts)


def test_no_secret_is_in_anything_that_the_runs_wrote(whole: Whole) -> None:
    used = {value.encode() for knobs in whole.secrets.values() for value in knobs.values()}
    used.add(json.loads(whole.place.password_file.read_text())["admin"].encode())
    ours = {"secrets.json", "connections.json", whole.place.password_file.name}
    leaks, searched = [], 0
    for path in whole.place.home.rglob("*"):
        if path.is_file() and path.name not in ours:
            content = _database(path) if path.suffix == ".db" else path.read_bytes()
            searched += len(content)
            leaks += [str(path.relative_to(whole.place.home)) for secret in used if secret in content]
            if b"Signature=" in content.replace(b"Signature=***", b""):
                leaks.append(f"a signature in {path.name}")
    assert searched > 1_000_000
    assert leaks == []


def _database(path: Path) -> bytes:
    """A SQLite file as text, but for the table in which Airflow keeps the connections themselves."""
    with sqlite3.connect(path) as database:
        lines = [line for line in database.iterdump() if not line.startswith('INSERT INTO "connection" ')]
    return "\n".join(lines).encode()


def test_the_dag_is_what_the_ui_shows(whole: Whole) -> None:
    tasks = {t["task_id"] for t in whole.airflow.call("GET", f"/dags/{DAG_ID}/tasks")["tasks"]}
    acting = ["block.waf.akamai_client_lists", "block.waf.akamai_client_lists_active", "block.edr.crowdstrike_falcon"]
    acting += ["watch.splunk", "update_incidents"]
    assert {
        "fetch.akamai_api_security",
        "fetch.akamai_sia",
        "extract",
        "enrich.abuseipdb",
        "enrich.refresh_abuseipdb",
        "enrich.refresh_list_feed",
        "enrich.list_feed",
        "decide",
        "plan_blocks",
        "approve_blocks",
        "open_incidents",
        "relate",
        *acting,
        *(f"approved.{task}" for task in acting),
        "fail_the_run",
    } == tasks
