"""What each profile does to attackers and to honest people: ``python -m include.bench.response``.

The kinds of ``archetypes.py`` come for a week and are decided about hour by hour, by the whole decision: verdicts, ways
to evidence, roles, shared addresses, gate, caps, and what was blocked before. Who is blocked is not seen until the
block ends. Nobody answers a question, so that what waits is never blocked. The same for the same seed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from include.bench.measure import table
from include.bench.pure import END, POLICY
from include.bench.response.archetypes import KINDS, WEEK_HOURS, Actor, Visit, World, people
from include.soar.gate.gate import Gate
from include.soar.gate.layers import Hit
from include.soar.judge.decision import Basis, decide
from include.soar.judge.verdict import Earlier
from include.soar.model import (
    FAILED_LOGINS,
    Answer,
    CaseBatch,
    Decision,
    Finding,
    Observable,
    ObservableType,
    Observed,
    Reputation,
    ReputationBatch,
    Role,
    Rung,
    Severity,
    Sighting,
    Traffic,
    Window,
)
from include.soar.policy.file import load_policy
from include.soar.policy.rules import Policy

PROFILES = ("cautious", "balanced", "strict")
DEFAULT_SOURCES = ("abuseipdb", "list_feed")
HOUR = timedelta(hours=1)
MONDAY = END - WEEK_HOURS * HOUR
#: From a decision until the WAF's network has the block.
DELAY = timedelta(minutes=15)


class PlayedGate(Gate):
    """The gate and its labels as the archetypes have them."""

    def __init__(self, actors: Sequence[Actor]) -> None:
        self._gated = {a.address for a in actors if a.is_gated}
        self._tagged = {a.address for a in actors if a.is_tagged}

    def check(self, observable: Observable) -> Hit | None:
        if observable.value not in self._gated:
            return None
        return Hit(layer="warning-list", entry=observable.value, reason="protected")

    def tags(self, observable: Observable) -> tuple[str, ...]:
        return ("vpn-ipv4",) if observable.value in self._tagged else ()


@dataclass
class Fate:
    """What became of one address in the week: rungs that it was on, whether a person was asked, and its blocks."""

    rungs: set[Rung] = field(default_factory=set)
    asked: bool = False
    blocks: list[tuple[int, int, Rung]] = field(default_factory=list)  # minutes of the week

    @property
    def top(self) -> str:
        return max(self.rungs, key=lambda rung: rung.rank).value if self.rungs else "asked" if self.asked else "nothing"

    def minutes(self) -> int:
        """How long it was blocked, within the week."""
        return sum(self._blocked(minute, minute + 60) for minute in range(0, WEEK_HOURS * 60, 60))

    def stopped(self, actor: Actor) -> int:
        """How many minutes of its visits the blocks covered."""
        return sum(self._blocked(v.start * 60, min(v.start + v.hours, WEEK_HOURS) * 60) for v in actor.visits)

    def _blocked(self, start: int, end: int) -> int:
        covered, reached = 0, start
        for first, last, _ in sorted(self.blocks):
            first, last = max(first, reached), min(last, end)
            if last > first:
                covered, reached = covered + last - first, last
        return covered

    def is_blocked(self, minute: int) -> bool:
        return any(first <= minute < last for first, last, _ in self.blocks)


@dataclass
class Outcome:
    """A week under one policy. ``questions`` by day; a crowded network or system is one."""

    actors: list[Actor]
    fates: list[Fate]
    questions: Counter[int]

    def share(self, rung: Rung, *, bad: bool = True, name: str | None = None) -> float:
        """How many of them were on this rung or a higher one."""
        chosen = self.of(bad, name)
        return sum(any(r.rank >= rung.rank for r in f.rungs) for _, f in chosen) / max(1, len(chosen))

    def of(self, bad: bool, name: str | None = None) -> list[tuple[Actor, Fate]]:
        return [
            (a, f)
            for a, f in zip(self.actors, self.fates, strict=True)
            if a.kind.bad is bad and name in (None, a.kind.name)
        ]

    def hours(self, *, bad: bool) -> float:
        return sum(f.minutes() for _, f in self.of(bad)) / 60

    def stopped(self) -> tuple[float, float]:
        """Hours of attack that blocks covered, and all of them."""
        return sum(f.stopped(a) for a, f in self.of(True)) / 60, sum(
            v.hours for a, _ in self.of(True) for v in a.visits
        )

    def precision(self, rung: Rung) -> float:
        """Of those blocked on this rung, how many are attackers."""
        bad, good = (sum(rung in f.rungs for _, f in self.of(b)) for b in (True, False))
        return bad / (bad + good) if bad + good else 1.0


def play(policy: Policy, world: World, sources: Sequence[str] = DEFAULT_SOURCES) -> Outcome:
    """The week, hour by hour."""
    actors = people(world)
    fates = [Fate() for _ in actors]
    gate, questions = PlayedGate(actors), Counter[int]()
    for hour in range(WEEK_HOURS):
        there = [
            (n, visit)
            for n, actor in enumerate(actors)
            if (visit := actor.at(hour)) and not fates[n].is_blocked(hour * 60 + 30)
        ]
        if there:
            decision = _decide(policy, [(actors[n], v, fates[n]) for n, v in there], gate, hour, sources)
            by_address = {actors[n].address: fates[n] for n, _ in there}
            _remember(decision, by_address, hour)
            questions[hour // 24] += _questions(decision)
    return Outcome(actors, fates, questions)


def _decide(
    policy: Policy, there: Sequence[tuple[Actor, Visit, Fate]], gate: Gate, hour: int, sources: Sequence[str]
) -> Decision:
    start, seen = MONDAY + hour * HOUR, MONDAY + hour * HOUR + HOUR / 2
    findings: list[Finding] = []
    observed, earlier = [], {}
    said: dict[str, list[Reputation]] = {source: [] for source in sources}
    for actor, visit, fate in there:
        observable = Observable(type=ObservableType.IPV4, value=actor.address)
        findings += _findings(actor, visit, hour)
        sighting = Sighting(
            finding_uid=f"{actor.address}/{hour}", field="attacker.IP", role=Role.ATTACKER, seen_at=seen
        )
        observed.append(Observed(observable=observable, sightings=(sighting,)))
        if fate.blocks:
            starts = tuple(MONDAY + timedelta(minutes=first) for first, *_ in fate.blocks)
            earlier[observable.key] = Earlier(blocked_at=starts)
        for source in sources:
            score = actor.scores[source]
            said[source].append(
                Reputation(
                    observable=observable,
                    provider=source,
                    answer=Answer.LISTED if score else Answer.NOT_LISTED,
                    score=score,
                    known_at=seen,
                    last_reported_at=None if source == "list_feed" else seen - actor.ages[source] * HOUR,
                )
            )
    window = Window(start_at=start, end_at=start + HOUR, chosen_by="bench")
    case = CaseBatch(window=window, findings=tuple(findings), observed=tuple(observed))
    answers = {source: ReputationBatch(provider=source, reputations=tuple(batch)) for source, batch in said.items()}
    return decide(case, answers, Basis(policy, gate, None, start + HOUR), earlier=earlier).decision


def _findings(actor: Actor, visit: Visit, hour: int) -> Iterator[Finding]:
    seen = MONDAY + hour * HOUR + HOUR / 2
    about = {"source": "bench", "vendor_id": "bench", "title": actor.kind.name, "detected_at": seen}
    yield Finding(
        **about,
        uid=f"{actor.address}/{hour}",
        severity=Severity.CRITICAL if visit.is_critical else Severity.HIGH,
        confidence=visit.sure,
        behaviour=FAILED_LOGINS if visit.is_behaviour else "",
        traffic=(Traffic(address=actor.address, asn=actor.asn),),
    )
    if actor.is_shared:
        crowd = tuple(f"user{n}" for n in range(100))
        traffic = (Traffic(address=actor.address, users=crowd),)
        yield Finding(**about, uid=f"{actor.address}/{hour}/crowd", severity=Severity.LOW, traffic=traffic)


def _remember(decision: Decision, fates: Mapping[str, Fate], hour: int) -> None:
    for indicator in decision.indicators:
        fate = fates[indicator.observable.value]
        fate.rungs |= {step.rung for step in indicator.steps}
        if indicator.rung and indicator.rung.is_block:
            ends = int((indicator.expires_at - MONDAY).total_seconds() // 60)
            fate.blocks.append(((hour + 1) * 60 + int(DELAY.total_seconds() // 60), ends, indicator.rung))
    for item in decision.held:
        if item.observable.value in fates:
            fates[item.observable.value].asked = True


def _questions(decision: Decision) -> int:
    caps = {reason for item in decision.held for reason in item.hold_reasons if " in one run: " in reason}
    alone = [i for i in decision.held if not any(reason in caps for reason in i.hold_reasons)]
    return len(caps) + len(alone)


# --- what is printed -----------------------------------------------------------------------------------------------


def policy_of(profile: str) -> Policy:
    """The shipped policy with this profile."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile.yaml"
        path.write_text(f"response: {{profile: {profile}}}\n", encoding="utf-8")
        return load_policy([POLICY[0], path])


def figures(outcome: Outcome) -> tuple[object, ...]:
    stopped, attacked = outcome.stopped()
    bad, good = outcome.hours(bad=True), outcome.hours(bad=False)
    return (
        outcome.share(Rung.WATCH),
        outcome.share(Rung.BLOCK_SHORT),
        outcome.share(Rung.BLOCK_LONG),
        stopped / attacked,
        outcome.precision(Rung.BLOCK_LONG),
        sum(any(r.is_block for r in f.rungs) for _, f in outcome.of(False)),
        good,
        100 * good / bad if bad else 0.0,
        max(outcome.questions.values(), default=0),
    )


COLUMNS = (
    "watched",
    "blocked",
    "blocked long",
    "attack hours stopped",
    "precision long",
    "good blocked",
    "honest hours",
    "honest/attacker hours, %",
    "questions a day",
)


def report(attackers: int = 1000) -> Iterator[str]:
    world = World(attackers=attackers)
    policies = {profile: policy_of(profile) for profile in PROFILES}
    outcomes = {profile: play(policy, world) for profile, policy in policies.items()}
    balanced = outcomes["balanced"]
    alarms = len(balanced.of(False))
    yield table(
        f"1g. The response to {len(balanced.of(True)):,} attackers and {alarms} false alarms in a week, by profile",
        ("profile", *COLUMNS),
        [(profile, *figures(outcome)) for profile, outcome in outcomes.items()],
        "Sources: AbuseIPDB and one list such as DROP. All attackers begin on the first day. Shares are of them and",
        "count a rung and those above; `blocked` is automatic. Attack hours: those of their visits. Good blocked:",
        "false alarms; honest hours: all hours of their blocks in the week, and their ratio to those of attackers.",
        "Questions: on the worst day; a crowded network or AS is one. Nobody answers, so what waits is not blocked.",
        "ASSUMED, not measured: every share in response/archetypes.py. Table 1j varies what matters most.",
    )
    for profile, outcome in outcomes.items():
        yield _by_kind(profile, outcome)
    yield _ablation(policies["balanced"], world, balanced)
    small = replace(world, attackers=min(attackers, 400))
    yield _sensitivity(policies, small)
    yield _goals(outcomes, play(policies["balanced"], world, ("list_feed",)))


def _by_kind(profile: str, outcome: Outcome) -> str:
    rows = []
    for kind in KINDS:
        chosen = outcome.of(kind.bad, kind.name)
        tops = Counter(fate.top for _, fate in chosen)
        asked = sum(fate.asked for _, fate in chosen)
        rows.append((kind.name, len(chosen), *(tops[word] for word in ("nothing", *Rung)), asked))
    return table(
        f"1h. Profile {profile}: the highest rung that each address reached",
        ("kind", "addresses", "nothing", "watch", "detect", "block short", "block long", "asked about"),
        rows,
        "The last seven kinds are false alarms. Who was asked about can be on a milder rung as well.",
    )


def _ablation(policy: Policy, world: World, whole: Outcome) -> str:
    rows = []
    for words, sources in (
        ("AbuseIPDB and list", DEFAULT_SOURCES),
        ("without AbuseIPDB", ("list_feed",)),
        ("without the list", ("abuseipdb",)),
        ("no source at all", ()),
        ("with GreyNoise", (*DEFAULT_SOURCES, "greynoise")),
        ("with VirusTotal", (*DEFAULT_SOURCES, "virustotal")),
    ):
        outcome = whole if sources == DEFAULT_SOURCES else play(policy, world, sources)
        rows.append((words, changed(whole, outcome), *figures(outcome)))
    return table(
        "1i. Profile balanced: what each source changes",
        ("sources", "outcomes changed", *COLUMNS),
        rows,
        "Outcomes changed: the share of attackers whose highest rung is another.",
    )


def changed(one: Outcome, other: Outcome) -> float:
    pairs = list(zip(one.of(True), other.of(True), strict=True))
    return sum(a.top != b.top for (_, a), (_, b) in pairs) / max(1, len(pairs))


VARIATIONS: tuple[tuple[str, dict[str, float]], ...] = (
    ("as assumed", {}),
    ("another seed", {"seed": 7}),
    ("sources independent", {"correlation": 0.0}),
    ("sources nearly copies", {"correlation": 0.8}),
    ("half as many critical findings", {"critical": 0.5}),
    ("vendor twice as sure of false alarms", {"sure_of_alarms": 0.6}),
    ("sources four times as wrong of good ones", {"bad_word": 4.0}),
    ("half of the labels", {"tagged": 0.5}),
    ("one false alarm to each attacker", {"alarms": 1.0}),
)


def _sensitivity(policies: Mapping[str, Policy], world: World) -> str:
    rows = []
    for words, changes in VARIATIONS:
        varied = replace(world, **changes)  # type: ignore[arg-type]
        rows += [(words, profile, *figures(play(policies[profile], varied))) for profile in ("cautious", "balanced")]
    return table(
        f"1j. How much hangs on the assumptions: {world.attackers} attackers",
        ("varied", "profile", *COLUMNS),
        rows,
        "One assumption is changed at a time, see World in include/bench/response/archetypes.py.",
    )


def _goals(outcomes: Mapping[str, Outcome], without: Outcome) -> str:
    balanced, cautious = outcomes["balanced"], outcomes["cautious"]
    watched, recall = balanced.share(Rung.WATCH), balanced.share(Rung.BLOCK_SHORT)
    times = recall / cautious.share(Rung.BLOCK_SHORT)
    moved, precise = changed(balanced, without), balanced.precision(Rung.BLOCK_LONG)
    honest = 100 * balanced.hours(bad=False) / balanced.hours(bad=True)
    asked = max(balanced.questions.values(), default=0)
    rows = [
        ("attackers watched or more", watched, "at least 0.95", watched >= 0.95),
        ("automatic blocks, times those of cautious", times, "at least 5", times >= 5),
        ("outcomes that AbuseIPDB changes", moved, "at least 0.1", moved >= 0.1),
        ("precision of long blocks", precise, "at least 0.99", precise >= 0.99),
        ("honest hours, % of attacker hours", honest, "at most 2", honest <= 2),
        ("questions a day for 1,000 attackers", asked, "at most 20", asked <= 20),
    ]
    return table(
        "1k. Profile balanced against its goals",
        ("goal", "reached", "wanted", "met"),
        [(*row, "yes" if met else "NO") for *row, met in rows],
    )


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m include.bench.response", description=__doc__)
    parser.add_argument("--attackers", type=int, default=1000)
    for text in report(parser.parse_args(given).attackers):
        print(text, flush=True)
    return 0
