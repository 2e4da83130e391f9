"""What to ask a provider, in which order, and what not and why. Pure, so that a plan says what a run will do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from include.soar.extract.bounds import HARMLESS
from include.soar.gate.gate import Gate
from include.soar.model import (
    Answer,
    CaseBatch,
    Decision,
    Finding,
    Observable,
    ObservableType,
    Observed,
    Reputation,
    Severity,
    Tlp,
)
from include.soar.policy.rules import Policy, TlpPolicy

#: Why a value is not sent out: no such values there; it is ours or nobody's; never blocked anyway; its TLP.
TYPE, PRIVATE, PROTECTED, RESTRICTED = "type", "private", "protected", "TLP"
#: Values of one finding that are asked about before it is another finding's turn.
_TURN = 100


@dataclass(frozen=True)
class Source:
    """
    Who is to be asked.

    :param types: what it can be asked about
    :param is_remote: False for local lists: nothing leaves and no quota is used, so restricted and protected values are
        looked up as well
    """

    provider: str
    types: Collection[ObservableType]
    is_remote: bool


@dataclass(frozen=True)
class LeftOut:
    """
    A value that the provider is not asked about: NOT_APPLICABLE, or NOT_CHECKED where it is only not allowed.

    :param kind: TYPE, PRIVATE, PROTECTED or RESTRICTED
    """

    observable: Observable
    kind: str
    answer: Answer
    why: str


@dataclass(frozen=True)
class Sifted:
    """
    :param to_ask: each value once, the most valuable question first
    :param can_act: those of them that can become a block in this run. All others are asked about after them, and never
        take the quota that is kept for such values
    """

    to_ask: tuple[Observable, ...]
    left_out: tuple[LeftOut, ...]
    can_act: frozenset[Observable] = frozenset()


def sift(
    case: CaseBatch,
    policy: Policy,
    gate: Gate,
    source: Source,
    *,
    now: datetime,
    minimum_severity: Severity | None = None,
    listed: Collection[Observable] = (),
) -> Sifted:
    """
    :param now: what was last seen so long ago that a block would be over by then can become none
    :param minimum_severity: overrides the policy's, for what counts as high priority
    :param listed: what local lists name
    """
    findings = {f.uid: f for f in case.findings}
    left_out: list[LeftOut] = []
    to_ask: dict[Observable, Observed] = {}
    allowed = policy.enrichment.tlp.providers.get(source.provider, policy.enrichment.tlp.ask_up_to)
    for item in case.observed:
        reason = _not_applicable(item.observable, gate, source)
        marked = tlp_of(item, findings, policy.enrichment.tlp)
        if reason is not None:
            left_out.append(reason)
        elif source.is_remote and marked.rank > allowed.rank:
            words = f"TLP:{marked.value} is above TLP:{allowed.value}, the most that {source.provider} may see"
            left_out.append(LeftOut(item.observable, RESTRICTED, Answer.NOT_CHECKED, words))
        else:
            to_ask.setdefault(item.observable, item)
    floor = minimum_severity or policy.priority.minimum_severity
    worth = _Worth(findings, floor, policy, frozenset(listed), now)
    can_act = frozenset(observable for observable, item in to_ask.items() if worth.can_act(item))
    ordered = _in_turns(sorted(to_ask.values(), key=worth.key), can_act)
    return Sifted(tuple(item.observable for item in ordered), tuple(left_out), can_act)


def _in_turns(items: Sequence[Observed], can_act: Collection[Observable]) -> list[Observed]:
    """
    What can become a block first, and of each finding no more than the next hundred at a time: one finding that brings
    a thousand must not come before all of another.
    """
    counts = Counter[str]()
    turns: list[tuple[bool, int, int]] = []
    for place, item in enumerate(items):
        uids = {s.finding_uid for s in item.sightings}
        turns.append((item.observable not in can_act, min((counts[uid] for uid in uids), default=0) // _TURN, place))
        counts.update(uids)
    return [items[place] for *_, place in sorted(turns)]


def _not_applicable(observable: Observable, gate: Gate, source: Source) -> LeftOut | None:
    kind = why = ""
    if observable.type not in source.types:
        kind, why = TYPE, f"no {observable.type.value} here"
    elif hit := gate.private(observable):
        kind, why = PRIVATE, f"not sent out: {hit.reason}"
    elif source.is_remote and (hit := gate.check(observable)):
        kind, why = PROTECTED, f"never blocked anyway: {hit.reason}"
    return LeftOut(observable, kind, Answer.NOT_APPLICABLE, why) if kind else None


@dataclass(frozen=True)
class _Worth:
    """Which question comes first: what may become a block tonight, then what is likely bad, then what was seen most."""

    findings: Mapping[str, Finding]
    floor: Severity
    policy: Policy
    listed: frozenset[Observable]
    now: datetime

    def can_act(self, item: Observed) -> bool:
        """
        Whether it can become a block: seen in a role that is blocked, in one and the same high-priority finding, and
        not so long ago that the block would be over.
        """
        hours = self.policy.response.longest_block(item.observable.type)
        return hours is not None and any(
            s.role in self.policy.block.roles
            and self._is_high(s.finding_uid)
            and self.now - s.seen_at < timedelta(hours=hours)
            for s in item.sightings
        )

    def _is_high(self, finding_uid: str) -> bool:
        """A finding that is not in the case says nothing against its values."""
        finding = self.findings.get(finding_uid)
        return finding is None or finding.severity.rank >= self.floor.rank

    def key(self, item: Observed) -> tuple[object, ...]:
        found = [self.findings[s.finding_uid] for s in item.sightings if s.finding_uid in self.findings]
        severities = [finding.severity.rank for finding in found]
        return (
            not any(rank >= self.floor.rank for rank in severities),
            not any(s.role in self.policy.block.roles for s in item.sightings),
            item.observable not in self.listed,
            -max(severities, default=0),
            -len(item.sightings),
            item.observable.key,
        )


def tlp_of(item: Observed, findings: dict[str, Finding], rules: TlpPolicy) -> Tlp:
    """The most restricted of the findings that it was seen in."""
    sources = {findings[s.finding_uid].source for s in item.sightings if s.finding_uid in findings}
    marks: Sequence[Tlp] = [rules.sources.get(source, rules.findings) for source in sources] or [rules.findings]
    return max(marks, key=lambda mark: mark.rank)


@dataclass(frozen=True)
class Unfinished:
    """
    A finding decided although a source could not be asked about one of its values.

    :param providers: which sources
    :param retry_at: when asking again may help
    """

    finding: Finding
    providers: tuple[str, ...]
    retry_at: datetime


def unfinished(case: CaseBatch, decision: Decision) -> list[Unfinished]:
    """
    The case's high-priority findings of which a later run may still learn that something is to be blocked. Not those of
    which only claims and mentions were not asked about: there may be any number of them, and they would take the places
    of the others.
    """
    high = {p.finding_uid for p in decision.priorities if p.high}
    silent = {v.observable: [r for r in v.reputations if r.retry_at] for v in decision.verdicts}
    missing: dict[str, list[Reputation]] = {}
    for item in case.observed:
        for uid in {s.finding_uid for s in item.sightings if s.role not in HARMLESS} & high:
            missing.setdefault(uid, []).extend(silent.get(item.observable, ()))
    return [
        Unfinished(
            finding,
            tuple(sorted({r.provider for r in answers})),
            min(r.retry_at for r in answers if r.retry_at),
        )
        for finding in case.findings
        if (answers := missing.get(finding.uid))
    ]
