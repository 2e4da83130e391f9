"""The demo's course: one live run and a backfill of the day before it, with progress, ending in a summary."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from include.demo import processes
from include.demo.airflow_api import Airflow
from include.demo.place import Place
from include.simulators.demo_feed import build_demo
from include.soar.ledger import Ledger
from include.soar.ledger.actions import Kind
from include.soar.model import Outcome, Verb

#: Stage -> the beginning of its tasks' ids, in the order of the runbook.
STAGES = (
    ("1 fetch", "fetch."),
    ("2 extract", "extract"),
    ("3 enrich", "enrich."),
    ("3 decide", "decide"),
    ("4 open incidents", "open_incidents"),
    ("5 relate", "relate"),
    ("6 block on the WAF", "block.waf."),
    ("7 block on the EDR", "block.edr."),
    ("8 watch on the SIEM", "watch."),
    ("9 update incidents", "update_incidents"),
)
DAGS = ("api_threat_response", "lift_expired_blocks", "reconcile_blocks", "lift_block", "block_by_hand", "allow_value")
ENDED = ("success", "failed")
#: A block by hand that has ended when the demo's day is through: nobody saw this address in it.
BY_HAND = {"value": "203.0.113.251", "hours": 0.01, "rung": None, "reason": "demo: seen in a partner's report"}
LIFT_REASON = "demo: a customer called"


class DemoFailed(RuntimeError):
    """A run did not end green."""


def run(place: Place, known: dict[str, dict[str, str]]) -> int:
    started_at = time.monotonic()

    def tell(text: str) -> None:
        print(f"[{time.monotonic() - started_at:5.0f} s] {text}", flush=True)

    day_end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    day_start = day_end - timedelta(hours=24)
    tell(f"A demo day of Akamai events: {day_start:%Y-%m-%d %H:%M} to {day_end:%Y-%m-%d %H:%M} UTC")
    processes.start(place, known, day_end=day_end.isoformat(), tell=tell)
    airflow = Airflow(place)
    # All of them: while others are still being stored, SQLite is locked time and again.
    for dag_id in DAGS:
        airflow.wait_for_dag(dag_id)
    tell(f"Airflow is up: {place.ui}")

    tell("Backfill of the 23 hours before the last, asked to apply its blocks (by default a backfill only plans them)")
    airflow.backfill(day_start, day_end - timedelta(hours=2), conf={"effects": "apply"}, at_once=4)
    # Unpausing also starts the scheduled run of the latest complete hour: that is the live run.
    airflow.unpause()
    made = {"block_by_hand": airflow.trigger(dag_id="block_by_hand", conf=BY_HAND)}
    tell(f"By hand: {BY_HAND['value']} is blocked for 36 seconds, by the trigger form's DAG block_by_hand")
    tell("Live run: the hour that has just ended, by the schedule")
    live = _wait_for_live(airflow, tell)
    # The block by hand has ended. It is removed now, and once the network has taken the list over the run at the end
    # says so.
    made["lift_expired_blocks"] = airflow.trigger(dag_id="lift_expired_blocks", conf={})
    tell("What has ended is lifted: the DAG lift_expired_blocks")
    _wait_for_all(airflow, 24, tell)
    _wait_for(airflow, made)
    made |= _lift(place, airflow, tell)
    failed = [r for r in airflow.runs() if r["state"] != "success"]
    failed += [
        {"dag_run_id": f"{dag_id} {run_id}", "state": state}
        for dag_id, run_id in made.items()
        if (state := airflow.state(dag_id, run_id)) != "success"
    ]
    print(summary(place, airflow, live, build_demo(day_end)["_truth"], time.monotonic() - started_at))
    if failed:
        raise DemoFailed("; ".join(f"{r['dag_run_id']} is {r['state']}" for r in failed))
    return 0


def _lift(place: Place, airflow: Airflow, tell: Callable[[str], None]) -> dict[str, str]:
    """A person lifts one block, and what has ended is read back as gone. Gives the runs that did it, by DAG."""
    with _ledger(place) as ledger:
        rows = ledger.actions.rows_in_force(datetime.now(UTC), "akamai_client_lists")
    lifting = next((row.observable.value for row in rows if row.observable.value != BY_HAND["value"]), None)
    made = {"lift_expired_blocks": airflow.trigger(dag_id="lift_expired_blocks", conf={})}
    if lifting:
        tell(f"A person lifts {lifting}: the trigger form's DAG lift_block")
        made["lift_block"] = airflow.trigger(dag_id="lift_block", conf={"value": lifting, "reason": LIFT_REASON})
    _wait_for(airflow, made)
    return made


def _wait_for(airflow: Airflow, made: dict[str, str], patience: float = 120) -> None:
    deadline = time.monotonic() + patience
    while any(airflow.state(dag_id, run_id) not in ENDED for dag_id, run_id in made.items()):
        if time.monotonic() > deadline:
            raise DemoFailed(f"{' and '.join(made)} have not ended")
        time.sleep(1)


@contextmanager
def _ledger(place: Place) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{place.home / 'threat-response' / 'ledger.db'}")
    try:
        yield ledger
    finally:
        ledger.close()


def lifted_lines(ledger: Ledger) -> list[str]:
    """What was lifted at its end, and what by whom and why, from the ledger's log."""
    by_time: set[str] = set()
    by_person: dict[str, str] = {}
    for event in ledger.actions.events():
        value = event.observable.partition(":")[2]
        if event.kind == Kind.LIFTED:
            by_person[value] = f"by {event.by}: {event.reason}"
        elif (
            event.kind == Kind.REPORTED and event.verb == Verb.LIFT and event.outcome in (Outcome.LIFTED, Outcome.GONE)
        ):
            by_time.add(value)
    ended = sorted(by_time - by_person.keys())
    lines = ["Lifted", f"  at their end           {len(ended)}{': ' + ', '.join(ended[:6]) if ended else ''}"]
    return lines + [f"  by a person            {value}, {why}" for value, why in sorted(by_person.items())]


def _wait_for_live(airflow: Airflow, tell: Callable[[str], None], patience: float = 600) -> str:
    deadline = time.monotonic() + patience
    told: set[str] = set()
    while time.monotonic() < deadline:
        runs = [r for r in airflow.runs() if r["run_type"] == "scheduled"]
        if runs:
            run_id = str(runs[-1]["dag_run_id"])
            tasks = airflow.tasks(run_id)
            for name, beginning in STAGES:
                states = [t["state"] for t in tasks if t["task_id"].startswith(beginning)]
                if name not in told and states and all(s in (*ENDED, "skipped", "upstream_failed") for s in states):
                    told.add(name)
                    tell(f"  stage {name}: {', '.join(f'{n} {s}' for s, n in Counter(states).items())}")
                elif "up_for_reschedule" in states and f"{name} waits" not in told:
                    told.add(f"{name} waits")
                    tell(f"  stage {name}: waits until Akamai's events of the hour are complete (3 minutes after it)")
            if runs[-1]["state"] in ENDED:
                tell(f"  run {run_id}: {runs[-1]['state']}")
                return run_id
        time.sleep(1)
    raise DemoFailed("the live run has not ended")


def _wait_for_all(airflow: Airflow, expected: int, tell: Callable[[str], None], patience: float = 1500) -> None:
    deadline = time.monotonic() + patience
    last = -1
    while time.monotonic() < deadline:
        runs = airflow.runs()
        ended = sum(r["state"] in ENDED for r in runs)
        if ended != last and ended % 3 == 0:
            tell(f"  {max(0, ended - 1)} of {expected - 1} windows done")
        last = ended
        if ended >= expected and ended == len(runs):
            return
        time.sleep(2)
    raise DemoFailed(f"only {last} of {expected} runs have ended")


def state(place: Place, product: str) -> dict[str, Any]:
    answer = requests.get(f"{place.simulators}/_sim/{product}/state", timeout=60)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def summary(place: Place, airflow: Airflow, live: str, truth: dict[str, Any], seconds: float) -> str:
    """What a person wants to know at the end, from the ledger, the runs' batches and the vendors' own state."""
    ledger = Ledger(f"sqlite:///{place.home / 'threat-response' / 'ledger.db'}")
    windows, actions = ledger.windows.rows(), ledger.actions.rows()
    # By uid: a window's overlap may read an event that another window reads as well.
    findings: dict[str, str] = {}
    observables: set[str] = set()
    refusals: dict[str, str] = {}
    high: set[str] = set()
    skipped: set[str] = set()
    for dag_run in airflow.runs():
        run_id = dag_run["dag_run_id"]
        case = airflow.xcom(run_id, "extract")
        decision = airflow.xcom(run_id, "approve_blocks") or airflow.xcom(run_id, "decide")
        if case is None or decision is None:
            continue
        findings |= {f["uid"]: f["source"] for f in case["findings"]}
        observables |= {f"{o['observable']['type']}:{o['observable']['value']}" for o in case["observed"]}
        high |= {p["finding_uid"] for p in decision["priorities"] if p["high"]}
        refusals |= {r["observable"]["value"]: f"{r['layer']}: {r['reason']}" for r in decision["refusals"]}
        # What acts on an answer is skipped wherever nobody had to be asked.
        names = {t["task_id"] for t in airflow.tasks(run_id) if t["state"] == "skipped"} - {"fail_the_run"}
        skipped |= {name for name in names if not name.startswith("approved.")}
    lines = ["", "=" * 96, f"What Airflow did in {seconds:.0f} s", "=" * 96, "", "Events"]
    for source in sorted({w.source for w in windows}):
        mine = [w for w in windows if w.source == source]
        found = len({uid for uid, where in findings.items() if where == source})
        lines.append(
            f"  {source:<22} {found:>4} findings in {len(mine)} windows of an hour; "
            f"{_rejected(airflow, source)} not readable and kept aside"
        )
    respond = state(place, "cyware_respond")
    by_hand = [i for i in respond["incidents"] if i["title"].startswith("by_hand: ")]
    ours = [i for i in respond["incidents"] if "[TR-" in i["title"] and i not in by_hand]
    lines += [
        "",
        f"Observables              {len(observables)} distinct",
        f"Incidents                {len(ours)} opened for {len(high)} high-priority findings "
        f"and {len(by_hand)} for a block by hand "
        f"({len(respond['incidents']) - len(ours) - len(by_hand)} were there before)",
        f"Relationships            {_relationships(respond)} between incidents",
        "",
        "Indicators               state at the vendor, by control",
    ]
    for control in sorted({a.control for a in actions}):
        states = Counter(a.outcome for a in actions if a.control == control)
        lines.append(f"  {control:<22} {', '.join(f'{n} {s}' for s, n in sorted(states.items()))}")
    lines += ["", *lifted_lines(ledger)]
    lines += ["", f"Refused, and why         {len(refusals)}"]
    lines += [f"  {value:<34} {why}"[:150] for value, why in sorted(refusals.items())[:12]]
    lines.append(f"Skipped stages           {', '.join(sorted(skipped)) or 'none: every connection is there'}")
    lifted = {e.observable.partition(":")[2] for e in ledger.actions.events() if e.kind == Kind.LIFTED}
    lines += ["", *_against_truth(place, truth, lifted)]
    lines += [
        "",
        f"UI                       {place.ui}/dags/api_threat_response/runs/{live}",
        f"Sign in                  admin, with the password in {_short(place.password_file)}",
        f"Simulators               {place.simulators}/_sim/calls",
        "End it                   make demo-down",
        "",
    ]
    return "\n".join(lines)


def _short(path: Any) -> str:
    return str(path).replace(f"{processes.ROOT}/", "")


def _rejected(airflow: Airflow, source: str) -> int:
    kept: set[str] = set()
    for dag_run in airflow.runs():
        batch = airflow.xcom(dag_run["dag_run_id"], f"fetch.{source}") or {"rejected": []}
        kept |= {r["record"] for r in batch["rejected"]}
    return len(kept)


def _relationships(respond: dict[str, Any]) -> int:
    return sum(all(side[0] == "incident" for side in link["pair"]) for link in respond["links"])


def _against_truth(place: Place, truth: dict[str, Any], lifted: set[str]) -> list[str]:
    """What is in force at the enforcement points, against what the demo's author meant to be blocked."""
    lists, falcon = state(place, "akamai_client_lists"), state(place, "crowdstrike_falcon")
    acted = {
        item["value"]
        for entry in lists["lists"].values()
        for item in entry["items"]
        if "threat-response" in item["tags"]
    }
    acted |= {i["value"] for i in falcon["indicators"] if not i.get("deleted")}
    expected = {v for v, t in truth["observables"].items() if t["block_expected"]}
    wrong = sorted(v for v in acted if truth["observables"].get(v, {}).get("label") in ("protected", "benign"))
    ended = len(expected & lifted - acted)
    return [
        "Against the demo's answer sheet",
        f"  {len(expected & acted)} of {len(expected)} values that should be acted on are"
        f"{f', and {ended} was until a person lifted it' if ended else ''}",
        f"  {len(wrong)} protected or harmless values were acted on{': ' + ', '.join(wrong) if wrong else ''}",
        *[f"  missing: {value}" for value in sorted(expected - acted - lifted)[:10]],
    ]


if __name__ == "__main__":
    sys.exit("run python -m include.demo")
