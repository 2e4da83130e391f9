"""
Random histories: whatever happens in whatever order, the controls, the ledger and the incidents end up in agreement.

A bounded number of steps, the same each time. ``HISTORIES=all`` does at least 10,000 and prints how many it was, round
by round, with the round's seed: ``HISTORIES_SEED`` begins with another.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from include.soar.model import Severity
from tests.stages.in_force.histories import PROTECTED, VALUES, Histories
from tests.support import SimServer
from threat_response import groups

ALL = os.environ.get("HISTORIES") == "all"
CONTROLS = tuple(groups.controls())
values = st.sampled_from(VALUES)
controls = st.integers(0, len(CONTROLS) - 1)
FINDING: dict[str, Any] = {
    "some": st.lists(st.sampled_from((*VALUES, PROTECTED)), min_size=1, max_size=3, unique=True),
    "severity": st.sampled_from([Severity.HIGH, Severity.CRITICAL]),
    "score": st.sampled_from([0, 50, 95]),
    "listed": st.booleans(),
    "minutes_ago": st.sampled_from([0, 20, 300]),
}


class Machine(RuleBasedStateMachine):
    """Each rule is one step. What must hold at any time is compared by ``Histories`` on the way."""

    steps: ClassVar[Counter[str]] = Counter()

    def __init__(self, sim: SimServer, folder: Path) -> None:
        super().__init__()
        self.sim, self.folder = sim, folder
        self.world: Any = None

    @initialize(names=st.sampled_from([*((name,) for name in CONTROLS), CONTROLS]))
    def begin(self, names: tuple[str, ...]) -> None:
        """With one control, which is soon done, or with all of them."""
        self.world = Histories(self.sim, self.folder, names)

    def teardown(self) -> None:
        if self.world is not None:
            try:
                self.world.settled()
            finally:
                self.world.end()

    def _control(self, number: int) -> str:
        names = list(self.world.controls)
        return str(names[number % len(names)])

    def _step(self, name: str, work: Callable[[], Any] | None = None) -> None:
        self.steps[name] += 1
        self.world.forward(timedelta(seconds=30))
        if work is not None:
            self.world.watched(work)

    @rule(**FINDING)
    def new_finding(self, some: list[str], severity: Severity, score: int, listed: bool, minutes_ago: int) -> None:
        scores = {"abuseipdb": score, "list_feed": 100 if listed else 0}
        self._step(
            "new finding",
            lambda: self.world.found(some, severity=severity, scores=scores, minutes_ago=minutes_ago),
        )

    # Without these, few histories would have much to undo.
    @rule(**FINDING)
    def one_more_finding(self, **found: Any) -> None:
        self.new_finding(**found)

    @rule(**FINDING)
    def yet_another_finding(self, **found: Any) -> None:
        self.new_finding(**found)

    @precondition(lambda self: self.world.asked)
    @rule(which=st.integers(0, 9), how=st.sampled_from(["all", "some", "none", "nobody"]))
    def answer(self, which: int, how: str) -> None:
        asked = self.world.asked[which % len(self.world.asked)]
        self._step(f"answer: {how}", lambda: self.world.answer(asked, how))

    @precondition(lambda self: self.world.past)
    @rule(which=st.integers(0, 9))
    def replay(self, which: int) -> None:
        self._step("replay", lambda: self.world.go(self.world.past[-1 - which % len(self.world.past)]))

    @precondition(lambda self: self.world.past)
    @rule(which=st.integers(0, 9))
    def try_controls_again(self, which: int) -> None:
        asked = self.world.past[-1 - which % len(self.world.past)]
        self._step("controls again", lambda: self.world.act(asked, asked.decision))

    @rule(number=controls, kind=st.sampled_from(["status", "reset_after_commit"]))
    def control_down(self, number: int, kind: str) -> None:
        self._step("control down")
        self.world.down(self._control(number), kind)

    @precondition(lambda self: self.world.sim.world.faults)
    @rule()
    def control_up(self) -> None:
        self._step("control up")
        self.world.up()

    @rule(outcome=st.sampled_from(["ACTIVE", "ACTIVE", "FAILED"]), seconds=st.sampled_from([0, 0, 600]))
    def activation(self, outcome: str, seconds: int) -> None:
        self._step(f"activation {outcome} after {seconds} s")
        self.world.sim.configure("akamai_client_lists", activation_outcome=outcome, activation_seconds=seconds)

    @rule(number=controls, value=values, kind=st.sampled_from(["put", "change", "remove"]))
    def person(self, number: int, value: str, kind: str) -> None:
        world, control = self.world, self._control(number)
        there = value in world.raw(control)
        if kind == "put" and not there:
            self._step("a person puts an item")
            world.put(control, value)
        elif kind != "put" and value in world.ours(control):
            self._step(f"a person {kind}s ours")
            (world.change if kind == "change" else world.remove)(control, value)

    @rule(time=st.sampled_from([timedelta(minutes=20), timedelta(hours=5), timedelta(days=8)]))
    def clock(self, time: timedelta) -> None:
        self._step("clock forward")
        self.world.forward(time)

    @rule(value=values, hours=st.sampled_from([2, 200]))
    def allow(self, value: str, hours: int) -> None:
        self._step("allow", lambda: self.world.allow(value, hours))

    @rule(value=values)
    def end_allow(self, value: str) -> None:
        self._step("end of an allow entry", lambda: self.world.end_allow(value))

    @rule(value=values)
    def lift(self, value: str) -> None:
        self._step("lift", lambda: self.world.lift(value))

    @rule(only_expired=st.booleans())
    def reconcile(self, only_expired: bool) -> None:
        name = "lift what has expired" if only_expired else "reconcile"
        self._step(name, lambda: self.world.reconcile(only_expired=only_expired))

    @rule()
    def lose_ledger(self) -> None:
        self._step("ledger lost")
        self.world.forget_ledger()

    @rule()
    def settle(self) -> None:
        self._step("all reconciled")
        self.world.settled()


def run(sim: SimServer, folder: Path, *, histories: int, steps: int, number: int) -> int:
    """:return: how many steps were done"""
    Machine.steps.clear()

    def machine() -> Machine:
        return Machine(sim, folder)

    run_state_machine_as_test(
        seed(number)(machine),
        settings=settings(
            max_examples=histories,
            stateful_step_count=steps,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],  # a shorter history would take minutes to find
        ),
    )
    return sum(Machine.steps.values())


@pytest.mark.timeout(4 * 3600)
def test_whatever_happens_the_controls_the_ledger_and_the_incidents_agree(
    sim: SimServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted, histories, steps = (10_000, 5, 40) if ALL else (60, 5, 15)
    done, number = 0, int(os.environ.get("HISTORIES_SEED", "1"))
    while done < wanted:
        done += run(sim, tmp_path, histories=histories, steps=steps, number=number)
        number += 1
        capsys.readouterr()
        with capsys.disabled():
            print(
                f"{done:,} steps of random histories, seeds up to {number - 1}; the last round: {dict(Machine.steps)}"
            )
