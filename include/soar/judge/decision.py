"""From a case and the providers' answers to verdicts, and to what is acted on, held or refused. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from include.soar.enrich.sift import Unfinished, unfinished
from include.soar.gate.asn import AsnTable
from include.soar.gate.gate import Gate
from include.soar.judge.candidate import Candidate
from include.soar.judge.caps import BLOCKS, Exceeded, as_one, check_caps
from include.soar.judge.refusals import Plan, plan_for
from include.soar.judge.steps import merged
from include.soar.judge.traffic import Statement, behind, by_address, good_users
from include.soar.judge.verdict import (
    ACT,
    HOLD,
    LEAVE,
    REFUSE,
    Earlier,
    History,
    Inputs,
    Judgement,
    gather,
    judge,
    voices,
)
from include.soar.model import (
    Answer,
    CaseBatch,
    Decision,
    Finding,
    Indicator,
    Priority,
    Reputation,
    ReputationBatch,
    Role,
    Rung,
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
    earlier: Mapping[str, Earlier] = MappingProxyType({}),
) -> Decided:
    """
    The end of stage 3: everything that the providers say becomes verdicts and a decision.

    :param answers: by provider; None for one that failed
    :param history: by observable key, what we decided about it over the findings before :func:`history_period`'s end
    :param earlier: by observable key, what we did about it
    :return: what exceeds a cap is held, what does not is acted on
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
        # Only who attacks from an address that many share is judged by such labels.
        tagged = item.observable.is_address and Role.ATTACKER in item.roles
        inputs.append(
            gather(
                item,
                findings,
                said.get(key, ()),
                history=history.get(key),
                hit=hit,
                tags=basis.gate.tags(item.observable) if tagged else (),
                earlier=earlier.get(key),
            )
        )
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
    judged: list[tuple[Inputs, Verdict]] = []
    plans: list[Plan] = []
    for one in inputs:
        said = voices(one, policy)
        verdict = judge(one, policy, said)
        judged.append((one, verdict))
        plans.append(plan_for(Candidate(one, said, verdict, high, statements, policy, basis.now)))
    in_force = {one.observable.key for one in inputs if one.earlier and one.earlier.is_blocked}
    exceeded = check_caps(
        [plan.acted for plan in plans if plan.acted], statements, policy.block, basis.asns, in_force=in_force
    )
    plans = [_capped(plan, exceeded) for plan in plans]
    waiting: dict[str, Indicator] = {}
    for item in (*(plan.held for plan in plans if plan.held), *_offers(exceeded, statements, basis)):
        # A crowded network may have been seen as such, too: one question about one value.
        key = item.observable.key
        waiting[key] = merged(waiting[key], item) if key in waiting else item
    held = tuple(waiting.values())
    decision = Decision(
        policy_digest=policy.digest,
        priorities=priorities,
        verdicts=tuple(verdict for _, verdict in judged),
        indicators=tuple(plan.acted for plan in plans if plan.acted),
        held=held,
        hold_reasons=tuple(dict.fromkeys(reason for item in held for reason in item.hold_reasons)),
        remarks=exceeded.remarks,
        refusals=tuple(plan.refusal for plan in plans if plan.refusal),
        silent_providers=tuple(silent_providers),
    )
    judgements = [_judgement(one, verdict, plan) for (one, verdict), plan in zip(judged, plans, strict=True)]
    return decision, judgements


def _capped(plan: Plan, exceeded: Exceeded) -> Plan:
    """With the blocks that exceed a cap among what waits. The milder steps go through."""
    if not plan.acted or not (reasons := exceeded.reasons.get(plan.acted.observable.key)):
        return plan
    waits = plan.acted.only(BLOCKS)
    if waits is None:
        return plan
    words = f"not blocked until a person agrees: {'; '.join(reasons)}"
    waits = waits.model_copy(update={"hold_reasons": reasons, "enough": words})
    mild = plan.acted.only(frozenset(Rung) - BLOCKS)
    return Plan(mild and mild.model_copy(update={"enough": words}), merged(plan.held, waits))


def _offers(exceeded: Exceeded, statements: Mapping[str, list[Statement]], basis: Basis) -> Iterator[Indicator]:
    """Each crowded network as one item, where policy and gate let it and no good users share it."""
    for network, members in exceeded.crowded.items():
        offer = as_one(network, members, basis.policy)
        if offer is None or basis.gate.check(offer.observable):
            continue
        if not good_users(behind(offer.observable, statements), basis.policy.block.shared_address):
            yield offer


def _judgement(inputs: Inputs, verdict: Verdict, plan: Plan) -> Judgement:
    if plan.held:
        return Judgement(inputs, verdict, HOLD, merged(plan.acted, plan.held))
    if plan.acted:
        return Judgement(inputs, verdict, ACT, plan.acted)
    return Judgement(inputs, verdict, REFUSE if plan.refusal else LEAVE, plan.refusal)


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
