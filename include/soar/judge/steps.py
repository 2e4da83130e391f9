"""Which rungs a candidate reaches, by which ways and until when, what waits, and what would take more. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from include.soar.judge.candidate import Candidate
from include.soar.judge.evidence import lacking, met
from include.soar.model import Indicator, Rung, Severity, Step
from include.soar.policy.response import BlockRung, Escalation, Repetition

Ways = dict[Rung, tuple[str, ...]]
#: The rungs that block, the mildest first.
BLOCKS = tuple(rung for rung in Rung if rung.is_block)


@dataclass
class Ladder:
    """
    What a candidate reaches.

    :param steps: at once, the mildest first
    :param waiting: once a person agrees
    :param why_waiting: in words
    :param ways: every rung to which its evidence leads, whatever then keeps it away
    :param kept_away: why it is not blocked although its evidence leads there; empty: nothing does
    :param expired: the last of the ends, where every step has ended by now
    """

    steps: list[Step] = field(default_factory=list)
    waiting: list[Step] = field(default_factory=list)
    why_waiting: list[str] = field(default_factory=list)
    ways: Ways = field(default_factory=dict)
    asked: Ways = field(default_factory=dict)
    kept_away: str = ""
    expired: datetime | None = None


def ladder(candidate: Candidate) -> Ladder:
    """Every rung, from its evidence to its end."""
    made = Ladder(ways=_reached(candidate), asked=_asked(candidate))
    kind = candidate.observable.type
    timed = {rung for rung, rules in candidate.policy.response.rungs.each.items() if kind in rules.hours}
    automatic = [rung for rung in Rung if rung in made.ways and rung in timed]
    waits = [rung for rung in Rung if rung in made.asked and rung in timed and rung not in automatic]
    why = ["its evidence is enough to ask, not to block"] if waits else []
    if candidate.sharing and (blocks := [rung for rung in automatic if rung.is_block]):
        automatic = [rung for rung in automatic if not rung.is_block]
        if candidate.severity is Severity.CRITICAL:
            waits, why = sorted({*waits, *blocks}, key=lambda rung: rung.rank), [*why, candidate.sharing[1]]
        else:
            made.kept_away, waits = candidate.sharing[1], []
    elif candidate.sharing and candidate.severity is not Severity.CRITICAL:
        waits = []
    ways = made.asked | made.ways
    steps = [Step(rung=rung, expires_at=_end(rung, candidate), ways=ways[rung]) for rung in (*automatic, *waits)]
    lasting = [step for step in steps if step.expires_at > candidate.now]
    made.steps = _no_shorter_than_above([step for step in lasting if step.rung in automatic])
    made.waiting = [step for step in lasting if step.rung in waits]
    made.why_waiting = why if made.waiting else []
    if steps and not lasting:
        made.expired = max(step.expires_at for step in steps)
    return made


def _reached(candidate: Candidate) -> Ways:
    """By rung, the ways that lead to it. What reaches a rung is on every milder one."""
    rules = candidate.policy.response.rungs.each
    own = {rung: _met([w for w in rules[rung].evidence if not isinstance(w, Repetition)], candidate) for rung in Rung}
    order = list(Rung)
    today = {rung for rung, ways in own.items() if ways}
    for below, rung in pairwise(order):
        # Repetition leads up from where the evidence of today leads, or yesterday's mistake would prove itself.
        if today.intersection(order[order.index(below) :]):
            own[rung] += _met([w for w in rules[rung].evidence if isinstance(w, Repetition)], candidate)
    reached: Ways = {}
    ways: tuple[str, ...] = ()
    for rung in reversed(order):
        ways = own[rung] or ways
        if ways:
            reached[rung] = ways
    return reached


def _asked(candidate: Candidate) -> Ways:
    each = candidate.policy.response.rungs.each
    blocks = {rung: each[rung] for rung in BLOCKS}
    asked = {
        rung: tuple(words for way in rules.ask if (words := met(way, candidate, asking=True)))
        for rung, rules in blocks.items()
        if isinstance(rules, BlockRung)
    }
    return {rung: ways for rung, ways in asked.items() if ways}


def _met(ways: Iterable[object], candidate: Candidate) -> tuple[str, ...]:
    return tuple(words for way in ways if (words := met(way, candidate)))  # type: ignore[arg-type]


def _end(rung: Rung, candidate: Candidate) -> datetime:
    """From the last sighting, not from now: a repeated run then asks for the very same."""
    rules = candidate.policy.response.rungs.each[rung]
    hours = rules.hours[candidate.observable.type]
    if isinstance(rules, BlockRung) and rules.up_to_hours:
        escalated = escalated_hours(candidate.past_blocks, candidate.last_seen_at, candidate.policy.response.escalation)
        hours = max(hours, min(rules.up_to_hours, escalated))
    return candidate.last_seen_at + timedelta(hours=hours)


def escalated_hours(blocks: Sequence[datetime], at: datetime, rules: Escalation) -> float:
    """
    How long a block lasts by how often there was one before. Clean time takes away: a block fewer for each
    ``clean_days``.

    :param blocks: when the earlier ones began, oldest first
    :param at: when it was seen last
    :return: hours; 0 where the policy has no escalation
    """
    if not rules.hours:
        return 0
    clean = timedelta(days=rules.clean_days)
    level = 0
    for block, until in pairwise([*blocks, at]):
        level = max(0, level + 1 - (until - block) // clean)
    return rules.hours[min(level, len(rules.hours) - 1)]


def _no_shorter_than_above(steps: Sequence[Step]) -> list[Step]:
    """What is blocked is watched at least as long."""
    made: list[Step] = []
    for step in reversed(steps):
        ends = max(step.expires_at, made[-1].expires_at) if made else step.expires_at
        made.append(step.model_copy(update={"expires_at": ends}))
    return made[::-1]


def enough(candidate: Candidate, made: Ladder) -> str:
    """Why it is not on the next rung that blocks, and what would have been enough; empty: it is on the last."""
    reached = {step.rung for step in made.steps}
    rungs, kind = candidate.policy.response.rungs.each, candidate.observable.type
    timed = [rung for rung in BLOCKS if kind in rungs[rung].hours and rungs[rung].evidence]
    missed = next((rung for rung in timed if rung not in reached), None)
    if missed is None or (reached and max(r.rank for r in reached) > missed.rank):
        return ""
    words = "not blocked" if not any(rung.is_block for rung in reached) else "not blocked for longer"
    if made.kept_away:
        return f"{words}: {made.kept_away}"
    if made.waiting:
        return f"{words} until a person agrees: {'; '.join(made.why_waiting)}"
    ways = [told for way in rungs[missed].evidence if (told := lacking(way, candidate))]
    if missed is Rung.BLOCK_SHORT:
        # What is enough for the long block is enough for the short one.
        ways += [told for way in rungs[Rung.BLOCK_LONG].evidence if (told := lacking(way, candidate))]
    return f"{words}: it takes {'; or '.join(dict.fromkeys(ways))}" if ways else ""


def merged(first: Indicator | None, second: Indicator) -> Indicator:
    """One indicator with the steps of both; of two for the same rung the one that ends later."""
    if first is None:
        return second
    steps: Mapping[Rung, Step] = {}
    for step in sorted((*first.steps, *second.steps), key=lambda s: s.expires_at):
        steps = {**steps, step.rung: step}
    ordered = tuple(sorted(steps.values(), key=lambda s: s.rung.rank))
    reasons = tuple(dict.fromkeys((*first.hold_reasons, *second.hold_reasons)))
    changes = {"steps": ordered, "expires_at": ordered[-1].expires_at, "hold_reasons": reasons}
    return first.model_copy(update={**changes, "enough": second.enough})
