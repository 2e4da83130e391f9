"""Addresses planned, applied on three controls, found unchanged and lifted by a person, by the stages' operators."""

from __future__ import annotations

import ipaddress
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

from include.soar.model import (
    Decision,
    IncidentBatch,
    IncidentOutcome,
    IncidentRef,
    Indicator,
    Observable,
    ObservableType,
    Outcome,
    Role,
    Rung,
    Step,
)

#: How many of the values each incident tells of.
PER_INCIDENT = 2_000
CONTROLS = {"akamai_client_lists": "block.waf", "crowdstrike_falcon": "block.edr", "splunk": "watch"}
#: Reserved for measurements; the policy of the demo does not protect it.
FIRST = int(ipaddress.ip_address("2001:db8:5ca1:e::"))
#: An empty list, active on the network.
LIST_ID = "91596_SOCAUTOBLOCK"


class StoryFailed(RuntimeError):
    """What is measured did not work: its numbers would mean nothing."""


@dataclass(frozen=True)
class Measured:
    """One step: ``name`` as ``minimum`` takes it but without the product, ``calls`` by product."""

    name: str
    seconds: float
    calls: Counter[str]


@dataclass
class Story:
    """
    :param count: values, at most what the client list holds
    :param take_calls: how often each product was called since this was last asked
    """

    count: int
    take_calls: Callable[[], Counter[str]]
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    steps: list[Measured] = field(default_factory=list)

    def run(self) -> list[Measured]:
        from threat_response.groups import confirms, controls
        from threat_response.runtime import settings
        from threat_response.stages.in_force.asked import remember_lift
        from threat_response.stages.in_force.lift import Lift
        from threat_response.stages.plan_blocks import PlanBlocks

        made = {name: controls()[name] for name in CONTROLS}
        decision, incidents = decision_of(self.count, self.now)
        settings.ledger().close()
        self.take_calls()
        plan = PlanBlocks(task_id="plan", decision=decision.to_json(), controls=made)
        planned = self.do("plan", plan)
        self._check("plan", [e["change"] for c in planned["plan"]["controls"] for e in c["entries"]], {"add"})
        for name, make in made.items():
            control = make(decision=planned, incidents=incidents.to_json())
            actions = self.do(f"apply {name}", control)
            if name in confirms():
                sensor = confirms()[name](actions=actions)
                answer = self.measure(f"confirm {name}", partial(self._poke, sensor))
                actions = answer.xcom_value
            self._check(name, [a["outcome"] for a in actions["actions"]], _IN_FORCE)
        again = self.do("unchanged", PlanBlocks(task_id="again", decision=decision.to_json(), controls=made))
        self._check("unchanged", [e["change"] for c in again["plan"]["controls"] for e in c["entries"]], {"unchanged"})
        observables = [one.observable for one in decision.indicators]
        asked = {"observables": [o.to_json() for o in observables], "by": "bench", "reason": "measured"}
        self.measure("ask to lift", lambda: self._remember(remember_lift, observables))
        for name, make in made.items():
            lift = Lift(task_id="lift", vendor=name, control=make, asked=asked)
            lifted = self.do(f"lift {name}", lift)
            self._check(f"lift {name}", [a["outcome"] for a in lifted["actions"]], {Outcome.LIFTED, Outcome.PENDING})
        return self.steps

    def _poke(self, sensor: Any) -> Any:
        return sensor.poke(self.context())

    def _remember(self, remember: Callable[..., None], observables: list[Observable]) -> None:
        from threat_response.runtime import settings

        ledger = settings.ledger()
        try:
            remember(ledger, observables, by="bench", reason="measured", run_id="bench/bench")
        finally:
            ledger.close()

    def _check(self, what: str, found: list[str], wanted: set[Any]) -> None:
        counted = Counter(found)
        wrong = {name: n for name, n in counted.items() if name not in wanted}
        each = len(CONTROLS) if what in ("plan", "unchanged") else 1
        if wrong or len(found) != self.count * each:
            raise StoryFailed(f"{what}: {dict(counted)}, and {self.count} times {sorted(wanted)} was expected")

    def do(self, name: str, operator: Any) -> Any:
        return self.measure(name, lambda: operator.execute(self.context()))

    def measure(self, name: str, work: Callable[[], Any]) -> Any:
        started_at = time.perf_counter()
        gives = work()
        self.steps.append(Measured(name, time.perf_counter() - started_at, self.take_calls()))
        return gives

    def context(self) -> dict[str, Any]:
        run = SimpleNamespace(
            dag_id="bench", run_id="bench", run_type="manual", run_after=self.now, start_date=self.now
        )
        task = SimpleNamespace(xcom_push=lambda **_: None, get_first_reschedule_date=lambda _context: None)
        return {"dag_run": run, "params": {"effects": "apply"}, "ti": task}


_IN_FORCE = {Outcome.BLOCKED, Outcome.DETECT_ONLY, Outcome.WATCHED}


def decision_of(count: int, now: datetime) -> tuple[Decision, IncidentBatch]:
    """So many attackers, each on every rung, and the incidents that tell of them."""
    names = [f"finding-{n}" for n in range(-(-count // PER_INCIDENT))]
    refs = tuple(
        IncidentRef(
            finding_uid=name,
            marker=name,
            outcome=IncidentOutcome.CREATED,
            title="Measured",
            unique_id=f"id-{name}",
            readable_id=f"CSI-{n}",
        )
        for n, name in enumerate(names, 1)
    )
    indicators = tuple(_indicator(n, names[n // PER_INCIDENT], now) for n in range(count))
    decision = Decision(policy_digest="", priorities=(), verdicts=(), indicators=indicators, refusals=())
    return decision, IncidentBatch(incidents=refs)


def _indicator(number: int, finding: str, now: datetime) -> Indicator:
    ends = now + timedelta(days=1)
    return Indicator(
        observable=Observable(type=ObservableType.IPV6, value=str(ipaddress.ip_address(FIRST + number))),
        confidence=90,
        reasons=("listed by web-attackers",),
        roles=(Role.ATTACKER,),
        first_seen_at=now,
        last_seen_at=now,
        expires_at=ends,
        finding_uids=(finding,),
        steps=tuple(Step(rung=rung, expires_at=ends) for rung in (Rung.WATCH, Rung.DETECT, Rung.BLOCK_LONG)),
    )


def seeds(now: datetime) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the simulators are to hold before, by product: the demo's client list, emptied."""
    from include.simulators.demo_feed import build_demo

    lists = build_demo(now.replace(minute=0, second=0, microsecond=0), seed=7)["akamai_client_lists"]
    for one in lists["lists"]:
        one["items"] = []
    yield "akamai_client_lists", lists
