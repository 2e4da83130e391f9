"""Measurement 2: the nine stages, each by its operator or function in this process, against the simulators.

The simulators run in a process of their own, so that two cores work, as in production. Airflow is imported in here
only, after the environment says where it lives.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import requests

from include.bench.load import Record, build_load
from include.bench.measure import number, seconds, table, times
from include.bench.pure import POLICY
from include.demo.place import ROOT, connections, free_port, make_secrets, write_private
from include.simulators.app import SIMULATORS

ROUND_TRIPS = 200


class BenchFailed(RuntimeError):
    """Something that is measured did not work: its numbers would mean nothing."""


@dataclass
class Step:
    """One task of one day: how many items it worked on, for how long, and how often it asked whom."""

    stage: str
    items: int
    seconds: float
    calls: Counter[str]
    #: What the task takes and gives, as JSON and back: what it costs at least where no vendor is asked.
    json_seconds: float


@dataclass
class Simulated:
    """The simulators in a process of their own."""

    url: str
    secrets: dict[str, dict[str, str]]
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.trust_env = False  # no proxy between us and loopback

    def call(self, method: str, path: str, document: Any = None) -> Any:
        answer = self.session.request(method, f"{self.url}{path}", json=document, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def fresh(self, day: dict[str, Record]) -> None:
        """Everything forgotten, and the day's data loaded."""
        self.call("POST", "/_sim/reset", {})
        for product, knobs in self.secrets.items():
            self.call("POST", f"/_sim/{product}/configure", knobs)
        for product, data in day.items():
            self.call("POST", f"/_sim/{product}/seed", data)

    def take_calls(self) -> Counter[str]:
        """How often each product was called since this was last asked."""
        calls = Counter(call["product"] for call in self.call("GET", "/_sim/calls"))
        self.call("DELETE", "/_sim/calls")
        return calls

    def round_trip(self, product: str, count: int) -> tuple[float, float]:
        """
        The median seconds of the cheapest call there is: on an open connection, to a path that the product does
        not have. It is logged, routed and refused, and nothing else. Once by the standard library, once by requests.
        """
        simulator = getattr(import_module(f"include.simulators.{product}"), SIMULATORS[product])
        path = f"{simulator.prefixes[0]}/there-is-no-such-path"
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)

        def ask() -> None:
            connection.request("GET", path)
            connection.getresponse().read()

        try:
            ask()
            return seconds(ask, count), seconds(lambda: self.session.get(self.url + path, timeout=30), count)
        finally:
            connection.close()
            self.call("DELETE", "/_sim/calls")


@contextmanager
def simulators(home: Path) -> Iterator[Simulated]:
    known, port = make_secrets(), free_port(0)
    secrets_file = write_private(home / "secrets.json", json.dumps(known))
    command = [sys.executable, "-m", "include.simulators", "--port", str(port), "--secrets", str(secrets_file)]
    with (home / "simulators.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        simulated = Simulated(f"http://127.0.0.1:{port}", known)
        deadline = time.monotonic() + 60
        while True:
            try:
                simulated.call("GET", "/_sim/health")
                break
            except requests.RequestException:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchFailed((home / "simulators.log").read_text()[-2000:]) from None
                time.sleep(0.1)
        yield simulated
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def report(*, findings: int, high: int, rounds: int) -> Iterator[str]:
    """:param rounds: how many days to run, each on fresh simulators and an empty ledger; medians are shown"""
    with tempfile.TemporaryDirectory(prefix="threat-response-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        with simulators(home) as simulated:
            settle_in(home, simulated)
            end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
            day = build_load(end, findings=findings, high=high)
            bare = {product: simulated.round_trip(product, ROUND_TRIPS) for product in SIMULATORS}
            days = []
            for n in range(rounds):
                os.environ["THREAT_RESPONSE_HOME"] = str(home / f"day-{n}")
                (home / f"day-{n}").mkdir()
                simulated.fresh(day)
                days.append(_Day(simulated, end).run())
    yield render(days, bare, findings=findings)


def render(days: list[list[Step]], bare: dict[str, tuple[float, float]], *, findings: int) -> str:
    """:param bare: product -> seconds of a bare round trip, by the standard library and by requests"""
    rows: list[tuple[Any, ...]] = []
    totals = [0.0, 0.0]
    for same in zip(*days, strict=True):
        step = same[0]
        spent, calls = median(s.seconds for s in same), step.calls.total()
        floor = sum(count * bare[product][0] for product, count in step.calls.items())
        floor = floor or median(s.json_seconds for s in same)
        totals[0] += spent
        totals[1] += floor
        rows.append(
            (
                step.stage,
                step.items,
                spent,
                calls,
                f"{calls / step.items:.2f}" if step.items and calls else "-",
                floor,
                times(spent, floor),
            )
        )
    rows.append(("all", "", totals[0], sum(row[3] for row in rows), "", totals[1], times(*totals)))
    plain, by_requests = (1000 * median(trip[n] for trip in bare.values()) for n in (0, 1))
    return table(
        f"2. Seconds per stage for a window of {findings:,} findings",
        ("stage", "items", "seconds", "calls", "calls/item", "floor s", "against floor"),
        rows,
        f"Median of {len(days)} days, each on fresh simulators and an empty ledger; effects apply.",
        f"Floor: calls x one bare HTTP round trip to the same simulator, measured in this call ({number(plain)} ms; by",
        f"requests, on which Airflow's HTTP hook stands, {number(by_requests)} ms); where nothing is called, the JSON",
        "round trip of what the stage takes and gives. Above the floor lie the simulators' own work and ours.",
        "Items: records, findings, observables asked about, high findings, incidents, indicators.",
        "The simulated network activates a client list at once, so the sensor looks once: the real one takes minutes.",
    )


def settle_in(home: Path, simulated: Simulated) -> None:
    """The environment of a task: Airflow's own, the connections and the policy."""
    for name in [name for name in os.environ if name.startswith(("AIRFLOW", "THREAT_RESPONSE"))]:
        del os.environ[name]
    port = urlsplit(simulated.url).port or 0
    os.environ |= {
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "THREAT_RESPONSE_POLICY": ":".join(map(str, POLICY)),
        **{
            f"AIRFLOW_CONN_{conn_id.upper()}": json.dumps(connection)
            for conn_id, connection in connections(port, simulated.secrets).items()
        },
    }
    # Tasks write thousands of lines, as JSON: made as in production, and not written between our tables.
    from airflow.sdk.log import configure_logging

    nowhere = Path(os.devnull).open("wb")  # noqa: SIM115  (open as long as this process logs)
    configure_logging(json_output=True, output=nowhere)


@dataclass
class _Day:
    """One run of the workflow in the DAG's order, task by task."""

    simulated: Simulated
    end: datetime
    steps: list[Step] = field(default_factory=list)

    def run(self) -> list[Step]:
        from include.soar.model import Answer
        from threat_response import registry
        from threat_response.runtime import settings
        from threat_response.stages.decide import Decide
        from threat_response.stages.extract import Extract
        from threat_response.transport.form import vendor_of

        settings.ledger().close()  # makes its tables: once in an installation's life, not once a day
        batches = {
            name: self.do(f"1 fetch.{name}", read(task_id=name), items=lambda batch: batch["records"])
            for name, read in registry.FETCH.items()
        }
        extract = Extract(task_id="extract", batches=list(batches.values()))
        case = self.do("2 extract", extract, items=lambda case: len(case["findings"]))
        answers = {}
        for name, ask in registry.enrichers(settings.policy().enrichment.providers).items():
            more = {}
            if vendor_of(name).is_remote:
                more["local"] = {n: said for n, said in answers.items() if not vendor_of(n).is_remote}
            if name in registry.REFRESH:
                more["lists"] = self.do(
                    f"3 enrich.refresh_{name}", registry.REFRESH[name](task_id="refresh"), items=len
                )
            answers[name] = self.do(
                f"3 enrich.{name}",
                ask(task_id=name, case=case, **more),
                items=lambda batch: sum(r["answer"] != Answer.NOT_APPLICABLE for r in batch["reputations"]),
            )
        decide = Decide(task_id="decide", case=case, answers=answers)
        decision = self.do("3 enrich.decide", decide, items=lambda decision: len(decision["verdicts"]))
        base = {"case": case, "decision": decision}
        incidents = self.do(
            "4 open_incidents",
            registry.INCIDENTS.open(task_id="open", **base),
            items=lambda batch: len(batch["incidents"]),
        )
        count = len(incidents["incidents"])
        relations = self.do(
            "5 relate", registry.INCIDENTS.relate(task_id="relate", incidents=incidents, **base), items=lambda _: count
        )
        actions = {}
        for step, (place, controls) in enumerate(registry.BLOCK.items(), 6):
            stage = f"{step} block.{place}"
            for name, deny in controls.items():
                done = self._control(f"{stage}.{name}", deny, decision, incidents)
                if name in registry.CONFIRM:
                    sensor = registry.CONFIRM[name](task_id="confirm", actions=done)
                    done = self.measure(
                        f"{stage}.{name}_active",
                        partial(self._poke, sensor),
                        items=_acted,
                        takes=done,
                    )
                actions[name] = done
        for name, add in registry.WATCH.items():
            actions[name] = self._control(f"8 watch.{name}", add, decision, incidents)
        update = registry.INCIDENTS.update(
            task_id="update", incidents=incidents, relations=relations, actions=actions, **base
        )
        self.do("9 update_incidents", update, items=lambda batch: len(batch["updates"]))
        return self.steps

    def _control(self, stage: str, control: Any, decision: Any, incidents: Any) -> Any:
        return self.do(stage, control(task_id="control", decision=decision, incidents=incidents), items=_acted)

    def _poke(self, sensor: Any) -> Any:
        answer = sensor.poke(self.context())
        if not answer.is_done:
            raise BenchFailed("the client list is not active although its activation takes no time")
        return answer.xcom_value

    def do(self, stage: str, operator: Any, *, items: Callable[[Any], int]) -> Any:
        takes = [v for name in operator.template_fields if (v := getattr(operator, name)) is not None]
        return self.measure(stage, lambda: operator.execute(self.context()), items=items, takes=takes)

    def measure(self, stage: str, work: Callable[[], Any], *, items: Callable[[Any], int], takes: Any) -> Any:
        started_at = time.perf_counter()
        gives = work()
        spent = time.perf_counter() - started_at
        calls = self.simulated.take_calls()
        round_trip = seconds(lambda: json.loads(json.dumps([takes, gives])), 3)
        self.steps.append(Step(stage, items(gives), spent, calls, round_trip))
        return gives

    def context(self) -> dict[str, Any]:
        """What a task of a manual run knows, as far as ours ask."""
        window = {
            "window_start": (self.end - timedelta(hours=24)).isoformat(),
            "window_end": self.end.isoformat(),
        }
        return {
            "dag_run": SimpleNamespace(
                dag_id="bench", run_id="bench", run_type="manual", run_after=self.end, start_date=self.end
            ),
            "params": {"effects": "apply", **window},
            "ti": SimpleNamespace(xcom_push=lambda **_: None, get_first_reschedule_date=lambda _context: None),
        }


def _acted(batch: Any) -> int:
    return sum(action["outcome"] != "unsupported" for action in batch["actions"])
