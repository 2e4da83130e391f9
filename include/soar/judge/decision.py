"""From a case and the providers' answers to verdicts, and to what is acted on, held or refused. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from include.soar.enrich.sift import Unfinished, unfinished
from include.soar.gate.asn import AsnTable
from include.soar.gate.gate import Gate
from include.soar.judge.caps import check_caps
from include.soar.judge.refusals import Candidate, plan_for
from include.soar.judge.traffic import by_address
from include.soar.judge.verdict import ACT, HOLD, LEAVE, REFUSE, History, Inputs, Judgement, gather, judge, voices
from include.soar.model import (
    Answer,
    CaseBatch,
    Decision,
    Finding,
    Indicator,
    Priority,
    Refusal,
    Reputation,
    ReputationBatch,
    Severity,
    Verdict,
)
from include.soar.policy.rules import Policy


@dataclass(frozen=True)
class Basis:
    """
    What a run decides by.

    :param gate: the never-block gate as it is at ``now``
    :param asns: the table that ``block.asn_table`` names, if any
    :param now: a block that would have expired by then is refused
    :param minimum_severity: overrides the policy's
    """

    policy: Policy
    gate: Gate
    asns: AsnTable | None
    now: datetime
    minimum_severity: Severity | None = None


class Decided(NamedTuple):
    """
    :param judgements: every verdict with what it followed from, for the ledger
    :param unfinished: the high-priority findings that a later run can still learn something about
    """

    decision: Decision
    judgements: list[Judgement]
    unfinished: list[Unfinished]


def decide(
    case: CaseBatch,
    answers: Mapping[str, ReputationBatch | None],
    basis: Basis,
    *,
    history: Mapping[str, History] = MappingProxyType({}),
) -> Decided:
    """
    The end of stage 3: everything that the providers say becomes verdicts and a decision.

    :param answers: by provider; None for one that failed
    :param history: by observable key, what we decided about it over the findings before :func:`history_period`'s end
    :return: where a cap is exceeded, the decision acts on nothing and holds everything
    """
    findings = {f.uid: f for f in case.findings}
    said: dict[str, list[Reputation]] = {}
    for batch in answers.values():
        for reputation in batch.reputations if batch else ():
            said.setdefault(reputation.observable.key, []).append(reputation)
    inputs = []
    for item in case.observed:
        key = item.observable.key
        hit = basis.gate.check(item.observable)
        inputs.append(gather(item, findings, said.get(key, ()), history=history.get(key), hit=hit))
    silent = sorted(
        {name for name, batch in answers.items() if batch is None}
        | {batch.provider for batch in answers.values() if batch and _is_silent(batch)}
    )
    decision, judgements = decide_inputs(case.findings, inputs, basis, silent_providers=silent)
    return Decided(decision, judgements, unfinished(case, decision))


def history_period(case: CaseBatch, policy: Policy) -> tuple[datetime, datetime]:
    """``[since, before)``: the event time from which earlier verdicts count, and the case's first sighting."""
    first_seen_at = min((s.seen_at for item in case.observed for s in item.sightings), default=case.window.start_at)
    return first_seen_at - timedelta(days=policy.verdict.history.days), first_seen_at


def decide_inputs(
    findings: Sequence[Finding], inputs: Sequence[Inputs], basis: Basis, *, silent_providers: Iterable[str] = ()
) -> tuple[Decision, list[Judgement]]:
    """The decision over inputs that are gathered already, and each verdict with what it followed from."""
    policy = basis.policy
    priorities = _priorities(findings, basis.minimum_severity or policy.priority.minimum_severity)
    high = {p.finding_uid for p in priorities if p.high}
    statements = by_address(findings)
    outcomes: list[tuple[Inputs, Verdict, Indicator | Refusal | None]] = []
    for one in inputs:
        said = voices(one, policy)
        verdict = judge(one, policy, said)
        plan = plan_for(Candidate(one, said, verdict, high, statements, policy, basis.now))
        outcomes.append((one, verdict, plan))
    indicators = tuple(plan for *_, plan in outcomes if isinstance(plan, Indicator))
    exceeded = check_caps(indicators, statements, policy.block, basis.asns)
    decision = Decision(
        policy_digest=policy.digest,
        priorities=priorities,
        verdicts=tuple(verdict for _, verdict, _ in outcomes),
        indicators=() if exceeded.reasons else indicators,
        held=indicators if exceeded.reasons else (),
        hold_reasons=exceeded.reasons,
        remarks=exceeded.remarks,
        refusals=tuple(plan for *_, plan in outcomes if isinstance(plan, Refusal)),
        silent_providers=tuple(silent_providers),
    )
    words = {Indicator: HOLD if exceeded.reasons else ACT, Refusal: REFUSE, type(None): LEAVE}
    return decision, [Judgement(one, verdict, words[type(plan)], plan) for one, verdict, plan in outcomes]


def _priorities(findings: Iterable[Finding], floor: Severity) -> tuple[Priority, ...]:
    priorities = []
    for finding in findings:
        high = finding.severity.rank >= floor.rank
        reason = f"severity {finding.severity.value} is {'at least' if high else 'below'} {floor.value}"
        priorities.append(Priority(finding_uid=finding.uid, high=high, reason=reason))
    return tuple(priorities)


def _is_silent(batch: ReputationBatch) -> bool:
    """Whether a provider was asked something and did not answer all of it."""
    return any(r.answer in (Answer.NOT_CHECKED, Answer.ERROR) for r in batch.reputations)
