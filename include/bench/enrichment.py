"""Measurement 4: what a week's questions cost, and how close to the limit they are asked.

The simulators run in a process of their own; the questions are asked by the operators, as a backfill's tasks would.
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from include.bench.load import Record
from include.bench.measure import table, times
from include.bench.pure import POLICY
from include.bench.stages import BenchFailed, Simulated, settle_in, simulators
from include.simulators.app import SIMULATORS
from include.simulators.demo_feed import build_demo
from include.simulators.demo_feed.cast import CONFIG_ID

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
#: Asked about values, one after another or several in a call. The others are local lists.
PROVIDERS = ("abuseipdb", "virustotal", "greynoise", "alienvault_otx", "urlhaus", "threatfox", "misp")
CALL_SECONDS = 0.05
#: What the free keys may do is lifted, so that all there is to ask is asked.
KNOBS = {"virustotal": {"plan": "premium"}, "greynoise": {"weekly_limit": 1_000_000}}
#: In the demo's IPv4 range of attackers, defanged or not; and from where on in 192.0.2.0/24 there is nobody.
_ATTACKER = re.compile(r"203(\.|\[\.\])0(?:\1)113(?:\1)(\d+)")
FIRST_NEW = 64
PUBLIC = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")


def report(*, days: int, values: int) -> Iterator[str]:
    """
    :param days: how long the backfill is
    :param values: how many are asked about for the time
    """
    with tempfile.TemporaryDirectory(prefix="threat-response-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        with simulators(home) as simulated:
            settle_in(home, simulated)
            _connect(simulated)
            yield _calls(home, simulated, days)
            yield _time(home, simulated, values)


# --- calls ------------------------------------------------------------------------------------------------------


def week(end: datetime, days: int) -> dict[str, Record]:
    """
    The seed of the simulators for so many demo days before ``end``: each with other ids, and on every further day
    every second attacker among the IPv4 addresses is a new one. Victims, destinations and the other attackers come
    again.

    :param end: a full UTC hour
    """
    whole: dict[str, Record] = {}
    for number_of_day in range(days):
        day = _day(end - number_of_day * DAY, number_of_day)
        if not whole:
            whole = day
            continue
        for kind in ("incidents", "findings"):
            whole["akamai_api_security"][kind] += day["akamai_api_security"][kind]
        whole["akamai_sia"]["configs"][CONFIG_ID] += day["akamai_sia"]["configs"][CONFIG_ID]
        whole["abuseipdb"]["addresses"] |= day["abuseipdb"]["addresses"]
    return whole


def _day(end: datetime, number_of_day: int) -> dict[str, Record]:
    demo = {product: data for product, data in build_demo(end, seed=7 + number_of_day).items() if product[0] != "_"}
    if number_of_day == 0:
        return demo

    text = json.dumps(demo)
    replaced = sorted({int(host) for _, host in _ATTACKER.findall(text) if int(host) % 2 == 0})
    first = FIRST_NEW + (number_of_day - 1) * len(replaced)

    def other(found: re.Match[str]) -> str:
        dot, host = found[1], int(found[2])
        return found[0] if host % 2 else dot.join(("192", "0", "2", str(first + replaced.index(host))))

    varied: dict[str, Record] = json.loads(_ATTACKER.sub(other, text))
    return varied


def _calls(home: Path, simulated: Simulated, days: int) -> str:
    from include.ops import plan_enrichment
    from threat_response import registry
    from threat_response.runtime import settings
    from threat_response.stages.enrich import Enrich
    from threat_response.transport.hook import hook_class

    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - HOUR
    start = end - days * DAY
    _use(home, "week", quotas={name: [] for name in PROVIDERS})
    simulated.fresh(week(end, days))
    _configure(simulated)
    found = {
        source: plan_enrichment.findings_by_window(read(task_id=source), settings.ledger(), start, end)
        for source, read in registry.operators("fetch").items()
    }
    cases = list(plan_enrichment.cases(found, start, end))
    planned = {one.provider: one.calls for one in plan_enrichment.plan(start, end).forecasts}
    by_sighting, by_run, values = Counter[str](), Counter[str](), set()
    again = seen = 0
    simulated.take_calls()
    for case in cases:
        values_of_case = {item.observable for item in case.observed}
        again += len(values_of_case & values)
        seen += len(values_of_case)
        values |= values_of_case
        for name in PROVIDERS:
            known = [item for item in case.observed if item.observable.type in hook_class(name).types]
            by_sighting[name] += sum(len(item.sightings) for item in known)
            by_run[name] += len(known)
            Enrich(task_id=name, vendor=name, case=case.to_json()).execute(_backfill())
    ours = simulated.take_calls()
    rows: list[tuple[Any, ...]] = []
    for name in PROVIDERS:
        quota = max(hook_class(name)().quotas or (), key=lambda one: one.period, default=None)
        rows.append(
            (
                name,
                by_sighting[name],
                by_run[name],
                ours[name],
                planned[name],
                times(ours[name], by_sighting[name]),
                times(ours[name], by_run[name]),
                str(quota) if quota else "one's own server",
                _periods(by_sighting[name], quota),
                _periods(ours[name], quota),
            )
        )
    return table(
        f"4a. Calls for a backfill of {days} days, {sum(len(case.findings) for case in cases):,} findings",
        (
            *("provider", "per sighting", "per run", "ours", "planned", "ours/sighting", "ours/run", "free key"),
            *("days, per sighting", "days, ours"),
        ),
        rows,
        f"The demo's day, {days} times, every second IPv4 attacker new on each: {len(values):,} values;",
        f"{again / seen:.0%} of those in an hour's window were in an earlier one.",
        "Per sighting: a client that asks wherever it sees a value of a type that the provider takes. Per run: once",
        "in a run. Ours: counted in the simulators' logs; planned: by `make plan-enrichment`. Beside repetitions we",
        "leave out what is private, ours or never blocked anyway, and what AbuseIPDB's blacklist names (none here).",
        "MISP takes many values in a call. Quotas are lifted for the count; the last columns say how many days the",
        "calls would take with the free key's whole quota. These are counts: noise does not change them.",
    )


def _periods(calls: int, quota: Any) -> str:
    return f"{math.ceil(calls / quota.calls) * max(1, quota.period // DAY):,}" if quota and quota.period >= DAY else "-"


# --- time -------------------------------------------------------------------------------------------------------


def _time(home: Path, simulated: Simulated, values: int) -> str:
    burst, seconds = max(1, values * 2 // 5), max(1, values // 200)
    rows = []
    for connections, quota in ((8, None), (16, None), (8, (burst, seconds))):
        quotas = [] if quota is None else [{"name": "lookup", "calls": quota[0], "seconds": quota[1]}]
        _use(
            home,
            f"time-{connections}-{len(quotas)}",
            connections=connections,
            longest_wait_seconds=600,
            quotas={"virustotal": quotas},
        )
        simulated.fresh({})
        _configure(simulated)
        simulated.call("POST", "/_sim/faults", _delay())
        spent = _ask(simulated, values)
        limit = least_seconds(values, connections, quota)
        words = f"{quota[0]:,} calls in {quota[1]} s" if quota else "none"
        rows.append((f"{connections} connections", words, limit, spent, times(spent, limit), values / spent))
    return table(
        f"4b. Time for {values:,} values at {CALL_SECONDS * 1000:.0f} ms a call",
        ("", "quota", "limit s", "seconds", "against limit", "calls/s"),
        rows,
        "VirusTotal's operator: reservations in the ledger, answers parsed and stored, one log line a value. Limit:",
        "calls x time / connections, and where a quota is shorter, its periods before the last one.",
        "A quota of a period is kept wherever one may lay it, so what is sent at the end of a period counts on in the",
        "next one: that is the third row's distance from its limit.",
    )


def least_seconds(values: int, connections: int, quota: tuple[int, int] | None) -> float:
    """The least time for so many calls: at most so many at once, and at most ``quota`` calls in so many seconds."""
    if quota is None:
        return math.ceil(values / connections) * CALL_SECONDS
    calls, seconds = quota
    full, rest = divmod(values - 1, calls)
    return max(
        math.ceil(values / connections) * CALL_SECONDS,
        full * seconds + math.ceil((rest + 1) / connections) * CALL_SECONDS,
    )


def _delay() -> dict[str, Any]:
    return {"product": "virustotal", "kind": "delay", "seconds": CALL_SECONDS, "times": -1}


def _ask(simulated: Simulated, values: int) -> float:
    from include.soar.extract.findings import observe
    from include.soar.model import CaseBatch, Finding, Mention, Role, Severity, Window
    from threat_response.runtime import settings
    from threat_response.stages.enrich import Enrich

    settings.ledger().close()  # makes its tables: once in an installation's life
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    text = " ".join(f"2001:db8:1::{n:x}" for n in range(1, values + 1))
    finding = Finding(
        uid="bench",
        source="akamai_api_security",
        vendor_id="bench",
        title="bench",
        severity=Severity.HIGH,
        detected_at=end,
        mentions=(Mention(field="attackers", role=Role.ATTACKER, text=text),),
    )
    window = Window(start_at=end - HOUR, end_at=end, chosen_by="the benchmark")
    case = CaseBatch(window=window, findings=(finding,), observed=observe([finding])).to_json()
    simulated.take_calls()
    started_at = time.perf_counter()
    batch = Enrich(task_id="virustotal", vendor="virustotal", case=case).execute(_backfill("manual"))
    spent = time.perf_counter() - started_at
    answered = sum(r["score"] is not None for r in batch["reputations"])
    if answered != values or simulated.take_calls()["virustotal"] != values:
        raise BenchFailed(f"{answered} of {values} values were answered")
    return spent


# --- the installation --------------------------------------------------------------------------------------------


def _use(home: Path, name: str, **enrichment: Any) -> None:
    """A policy with these fields, and a ledger of its own."""
    folder = home / name
    folder.mkdir()
    rules = {"providers": list(PROVIDERS), "live_share": 0.0, **enrichment}
    (folder / "policy.yaml").write_text(yaml.safe_dump({"enrichment": rules}))
    os.environ["AIRFLOW__THREAT_RESPONSE__POLICY"] = ":".join(map(str, (*POLICY, folder / "policy.yaml")))
    os.environ["AIRFLOW__THREAT_RESPONSE__HOME"] = str(folder)


def _connect(simulated: Simulated) -> None:
    from threat_response.transport.hook import hook_class

    host, _, port = simulated.url.rpartition(":")
    for name in PROVIDERS:
        hook = hook_class(name)
        known: Mapping[str, str] = simulated.secrets.get(name, {})
        knobs = getattr(import_module(f"include.simulators.{name}"), SIMULATORS[name]).settings
        document = {
            "conn_type": hook.conn_type,
            "host": host,
            "port": int(port),
            "password": known.get("api_key", knobs["api_key"]),
        }
        os.environ[f"AIRFLOW_CONN_{hook.default_conn_name.upper()}"] = json.dumps(document)


def _configure(simulated: Simulated) -> None:
    for name, knobs in KNOBS.items():
        simulated.call("POST", f"/_sim/{name}/configure", knobs)
    simulated.call("POST", "/_sim/abuseipdb/configure", {"daily_limits": {"check": 1_000_000}})
    networks: Sequence[str] = (*PUBLIC, "2001:db8::/32")
    simulated.call("POST", "/_sim/greynoise/seed", {"public_networks": PUBLIC})
    simulated.call("POST", "/_sim/alienvault_otx/seed", {"public_networks": networks})


def _backfill(run_type: str = "backfill") -> Any:
    run = SimpleNamespace(dag_id="bench", run_id="bench", run_type=run_type)
    return {"dag_run": run, "params": {}}
