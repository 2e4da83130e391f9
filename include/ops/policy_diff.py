"""Archived decisions under two policies: which blocks are gained, which are lost, and which hit something good."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from include.ops.replay import Rules, Run
from include.ops.text import outcome_words, safe, shown, when
from include.soar.incident.clean import defang
from include.soar.judge.verdict import ACT, HOLD, Judgement
from include.soar.model import Indicator, Observable, ObservableType

MOST_LISTED = 50


class GoodValues:
    """Addresses, networks and domains that must not be hit: a file of them, one a line, ``#`` begins a comment."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        """:raises ValueError: naming the line that is none of these"""
        self._networks: dict[tuple[int, int], dict[int, str]] = {}
        self._domains: set[str] = set()
        for number, line in enumerate(lines, 1):
            text = line.split("#", 1)[0].strip().lower()
            try:
                network = ipaddress.ip_network(text)
            except ValueError:
                if text and ("." not in text or not set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")):
                    raise ValueError(f"line {number}: {text!r} is no address, network or domain") from None
                self._domains |= {text.strip(".")} - {""}
                continue
            known = self._networks.setdefault((network.version, network.prefixlen), {})
            known[int(network.network_address) >> (network.max_prefixlen - network.prefixlen)] = str(network)

    @classmethod
    def read(cls, path: Path) -> GoodValues:
        return cls(path.read_text("utf-8").splitlines())

    def entry(self, observable: Observable) -> str | None:
        """Which entry holds the value, the widest first; a network is held where its first address is."""
        if observable.is_address or observable.type is ObservableType.CIDR:
            network = ipaddress.ip_network(observable.value)
            for (version, length), known in sorted(self._networks.items()):
                shift = network.max_prefixlen - length
                if version == network.version and (entry := known.get(int(network.network_address) >> shift)):
                    return entry
        elif observable.type is ObservableType.DOMAIN:
            labels = observable.value.split(".")
            return next((d for n in range(len(labels)) if (d := ".".join(labels[n:])) in self._domains), None)
        return None


#: A decision about one value in one run: run, observable's key.
Place = tuple[str, str]


@dataclass
class Side:
    """What one policy does in all runs."""

    rules: Rules
    acted: dict[Place, Judgement] = field(default_factory=dict)
    #: What it makes of a value that only the other acts on.
    left: dict[Place, Judgement] = field(default_factory=dict)
    #: Runs that stop and ask, since a cap is exceeded.
    held: list[str] = field(default_factory=list)


@dataclass
class Difference:
    a: Side
    b: Side
    #: Of each run: when it decided, and about how many values.
    runs: list[tuple[datetime, int]] = field(default_factory=list)
    #: Why a value that is acted on is good. Under either policy, so that neither judges itself.
    good: dict[Place, str] = field(default_factory=dict)

    @property
    def gained(self) -> list[Place]:
        return sorted(self.b.acted.keys() - self.a.acted.keys())

    @property
    def lost(self) -> list[Place]:
        return sorted(self.a.acted.keys() - self.b.acted.keys())

    def good_hit(self, side: Side) -> list[Place]:
        return sorted(side.acted.keys() & self.good.keys())


def compare(runs: Iterable[Run], a: Rules, b: Rules, good: GoodValues) -> Difference:
    """
    Decide every run again under both. Only blocks are compared; what waits for a person counts as one.

    Known good is what the gate of either policy protects, and what the file holds.
    """
    difference = Difference(Side(a), Side(b))
    sides = (difference.a, difference.b)
    for run in runs:
        difference.runs.append((run.decided_at, len(run.inputs)))
        made: list[dict[Place, Judgement]] = []
        for side in sides:
            decision, judgements = run.decide(side.rules)
            made.append({(run.run_id, j.inputs.observable.key): j for j in judgements})
            side.acted |= {place: j for place, j in made[-1].items() if _blocks(j)}
            side.held += [run.run_id] if decision.held else []
        for place in made[0]:
            if any(place in side.acted for side in sides):
                for side, judged in zip(sides, made, strict=True):
                    side.left |= {place: judged[place]} if place not in side.acted else {}
                if why := _known_good(made[0][place].inputs.observable, a, b, good, run.decided_at):
                    difference.good[place] = why
    return difference


def _blocks(judgement: Judgement) -> bool:
    """Whether it blocks, now or once a person agrees. Before there were rungs, everything did."""
    plan = judgement.plan
    if judgement.outcome not in (ACT, HOLD) or not isinstance(plan, Indicator):
        return False
    return plan.rung is None or plan.rung.is_block


def _known_good(observable: Observable, a: Rules, b: Rules, good: GoodValues, now: datetime) -> str | None:
    for name, rules in (("A", a), ("B", b)):
        if hit := rules.gate(now).check(observable):
            return f"protected by {name}: {hit.layer} {hit.list_name} {hit.entry}"
    entry = good.entry(observable)
    return entry and f"on the list of good values: {entry}"


def render(difference: Difference, names: tuple[str, str]) -> str:
    a, b = difference.a, difference.b
    whens, sizes = [at for at, _ in difference.runs], [size for _, size in difference.runs]
    period = f"{when(min(whens))} to {when(max(whens))}" if whens else "nothing decided in that time"
    lines = [f"{len(sizes)} runs with {sum(sizes):,} verdicts, {period}"]
    for letter, side, name in (("A", a, names[0]), ("B", b, names[1])):
        values = len({key for _, key in side.acted})
        lines.append(
            f"{letter}  {shown(name)} ({side.rules.policy.digest[:12]}): {len(side.acted)} blocks of {values} values, "
            f"{len(difference.good_hit(side))} of them known good; {len(side.held)} runs stop and ask"
        )
    gained, lost = difference.gained, difference.lost
    lines += ["", f"Gained by B: {len(gained)}", *_listed(gained, b.acted, a.left, "A")]
    lines += ["", f"Lost by B: {len(lost)}", *_listed(lost, a.acted, b.left, "B")]
    hits = sorted({*difference.good_hit(a), *difference.good_hit(b)})
    lines += ["", f"Known good, and hit: {len(hits)}"]
    for place in hits[:MOST_LISTED]:
        by = " and ".join(letter for letter, side in (("A", a), ("B", b)) if place in side.acted)
        judgement = (a.acted | b.acted)[place]
        value = shown(defang(judgement.inputs.observable))
        lines.append(f"  {value}  by {by}, run {shown(place[0])}; {safe(difference.good[place])}")
    lines += _more(hits)
    return "\n".join(lines) + "\n"


def _listed(
    places: Sequence[Place],
    acted: dict[Place, Judgement],
    left: dict[Place, Judgement],
    other: str,
) -> list[str]:
    lines = []
    for place in places[:MOST_LISTED]:
        made, not_made = acted[place], left[place]
        lines.append(f"  {shown(defang(made.inputs.observable))}  run {shown(place[0])}")
        verdict = not_made.verdict
        words = outcome_words(not_made.outcome, not_made.plan)
        lines.append(f"      under {other}: {verdict.standing.value}, confidence {verdict.confidence}; {words}")
    return lines + _more(places)


def _more(places: Sequence[object]) -> list[str]:
    return [f"  and {len(places) - MOST_LISTED} more"] if len(places) > MOST_LISTED else []
