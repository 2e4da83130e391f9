"""The policy's ways to evidence: how a candidate meets one, in words, and else what it lacks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import assert_never

from include.soar.judge.candidate import Candidate
from include.soar.judge.verdict import Voice
from include.soar.model import ENUMERATION, FAILED_LOGINS, Finding, Reliability, Role, Severity, Standing
from include.soar.policy.response import (
    AnySource,
    HighScore,
    IndependentSources,
    InRole,
    OwnDetection,
    Repetition,
    Suspicious,
    TopGrade,
)

AnyWay = IndependentSources | TopGrade | HighScore | OwnDetection | Repetition | AnySource | Suspicious | InRole
#: So many sources are named as those that could have said it.
MOST_NAMED = 6


def met(way: AnyWay, candidate: Candidate, *, asking: bool = False) -> str:
    """
    How the candidate meets a way, in words; empty: it does not.

    :param asking: a person decides: a label that says that many people are behind it does not matter then
    """
    match way:
        case IndependentSources():
            families = _families(candidate.said, way.grade)
            told = f"{len(families)} independent sources of grade {way.grade.value} or better: {_listed(families)}"
            return told if len(families) >= way.sources else ""
        case TopGrade():
            named = _names(candidate, way.grade, Standing.MALICIOUS)
            told = f"one source of grade {way.grade.value}, severity {candidate.severity.value}: {_listed(named)}"
            return told if named and not _milder(candidate, way.severity) else ""
        case HighScore():
            return _high_score(way, candidate)
        case OwnDetection():
            return _own_detection(way, candidate, asking)
        case Repetition():
            times = _times(way, candidate)
            return f"blocked {times} × within {way.days} days before" if times >= way.times else ""
        case AnySource():
            named = _names(candidate, way.grade, Standing.MALICIOUS)
            return f"called malicious by {_listed(named)}" if named else ""
        case Suspicious():
            named = _names(candidate, way.grade, Standing.SUSPICIOUS)
            return f"called suspicious by {_listed(named)}" if named else ""
        case InRole():
            return _in_role(way, candidate)
        case _:
            assert_never(way)


def lacking(way: AnyWay, candidate: Candidate) -> str:
    """What would meet a way that leads to a block, in words; empty: it cannot be had, or the way leads to no block."""
    match way:
        case IndependentSources():
            families = _families(candidate.said, way.grade)
            said = f"{len(families)} ({_listed(families)})" if families else "none"
            words = f"{way.sources} independent sources of grade {way.grade.value} that call it malicious"
            return f"{words}, of which there is {said}{_could(candidate, way.grade, but=families)}"
        case TopGrade():
            could = _could(candidate, way.grade)
            words = f"one of grade {way.grade.value} and severity {way.severity.value}"
            return words + (f" (it is {candidate.severity.value})" if _milder(candidate, way.severity) else could)
        case HighScore():
            graded = [voice for voice in _graded(candidate.said, way.grade) if voice.score]
            best = max(graded, key=lambda voice: voice.score or 0, default=None)
            there = f" ({best.provider} says {best.score}, {_age(candidate, best)})" if best else ""
            words = f"a score of {way.score} by one of grade {way.grade.value}, reported within {way.fresh_hours:g} h"
            severity = f" and severity {way.severity.value}" if _milder(candidate, way.severity) else ""
            return f"{words}{severity}{there}"
        case OwnDetection() if candidate.observable.is_address:
            tagged = f", were it not labelled {candidate.shared_tag}" if candidate.shared_tag else ""
            sure = f"severity {way.severity.value} and confidence {way.confidence}"
            return f"{FAILED_LOGINS} or {ENUMERATION} detected with {sure}{tagged}"
        case _:
            return ""


def _milder(candidate: Candidate, than: Severity) -> bool:
    return candidate.severity.rank < than.rank


# --- sources -------------------------------------------------------------------------------------------------------


def _graded(said: Iterable[Voice], grade: Reliability) -> list[Voice]:
    return [voice for voice in said if voice.rule and voice.rule.reliability.is_at_least(grade)]


def _families(said: Iterable[Voice], grade: Reliability) -> dict[str, Reliability]:
    """The families that call it malicious, each with the grade of its best member: copies of each other count once."""
    best: dict[str, Reliability] = {}
    for voice in _graded(said, grade):
        if voice.standing is Standing.MALICIOUS and voice.rule:
            known = best.get(voice.family)
            if known is None or voice.rule.reliability.is_at_least(known):
                best[voice.family] = voice.rule.reliability
    return best


def _names(candidate: Candidate, grade: Reliability, standing: Standing) -> dict[str, Reliability]:
    return {v.provider: v.rule.reliability for v in _graded(candidate.said, grade) if v.standing is standing and v.rule}


def _listed(names: dict[str, Reliability]) -> str:
    return ", ".join(f"{name} (grade {grade.value})" for name, grade in sorted(names.items()))


def speaking(candidate: Candidate) -> str:
    """Who calls it malicious, in words."""
    return _listed(_families(candidate.said, Reliability.F)) or "no source"


def _could(candidate: Candidate, grade: Reliability, but: Iterable[str] = ()) -> str:
    """Which sources could say it: those that were asked and do not, and those without a connection."""
    asked = {r.provider for r in candidate.inputs.reputations}
    spoken = {v.provider for v in candidate.said if v.standing is Standing.MALICIOUS}
    could = [
        name
        for name, rule in sorted(candidate.policy.sources.items())
        if rule.reliability.is_at_least(grade) and name not in spoken and (rule.family or name) not in but
    ]
    silent = [name for name in could if name in asked]
    absent = [name for name in could if name not in asked]
    parts = [f"connected: {_some(silent)}" if silent else "", f"not connected: {_some(absent)}" if absent else ""]
    told = "; ".join(filter(None, parts))
    return f" ({told})" if told else ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _high_score(way: HighScore, candidate: Candidate) -> str:
    if _milder(candidate, way.severity):
        return ""
    for voice in _graded(candidate.said, way.grade):
        fresh = candidate.last_seen_at - voice.said_at <= timedelta(hours=way.fresh_hours)
        if voice.standing is Standing.MALICIOUS and (voice.score or 0) >= way.score and fresh and voice.rule:
            grade = voice.rule.reliability.value
            told = f"score {voice.score} by {voice.provider} (grade {grade}), {_age(candidate, voice)}"
            return f"{told}, severity {candidate.severity.value}"
    return ""


def _age(candidate: Candidate, voice: Voice) -> str:
    hours = max(timedelta(), candidate.last_seen_at - voice.said_at) // timedelta(hours=1)
    return f"{'reported' if voice.reputation.last_reported_at else 'said'} {hours} h before the sighting"


# --- findings ------------------------------------------------------------------------------------------------------


def _severe(findings: Iterable[Finding], severity: Severity) -> list[Finding]:
    return [f for f in findings if f.severity.rank >= severity.rank]


def _in_role(way: InRole, candidate: Candidate) -> str:
    findings = _severe(candidate.findings_as(way.roles), way.severity)
    if not findings:
        return ""
    worst = max((f.severity for f in findings), key=lambda severity: severity.rank)
    roles = ", ".join(role for role in candidate.roles if role in way.roles)
    return f"seen as {roles} in a finding of severity {worst.value}"


def _own_detection(way: OwnDetection, candidate: Candidate, asking: bool) -> str:
    if not candidate.observable.is_address or (candidate.shared_tag and not asking):
        return ""
    for finding in _severe(candidate.findings_as({Role.ATTACKER}), way.severity):
        if finding.behaviour and (finding.confidence or 0) >= way.confidence:
            told = f"severity {finding.severity.value}, confidence {finding.confidence}"
            labelled = f", though labelled {candidate.shared_tag}" if candidate.shared_tag else ""
            return f"own detection of {finding.behaviour}: {told}{labelled}"
    return ""


def _times(way: Repetition, candidate: Candidate) -> int:
    since = candidate.first_seen_at - timedelta(days=way.days)
    return sum(at >= since for at in candidate.past_blocks)
