"""TODO: what decide is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context

from include.soar.enrich.sift import unfinished
from include.soar.judge import decision as decision_
from include.soar.judge import verdict
from include.soar.judge.verdict import History, Judgement
from include.soar.ledger import Ledger
from include.soar.model import (
    Answer,
    CaseBatch,
    Decision,
    Reputation,
    ReputationBatch,
    Severity,
)
from include.soar.policy.rules import Policy
from include.soar.vendor.errors import one_line
from threat_response.runtime import settings
from threat_response.runtime.run import Run

if TYPE_CHECKING:
    from include.soar.gate.gate import Gate


def decide(
    case: Mapping[str, Any],
    answers: Mapping[str, Mapping[str, Any] | None],
    *,
    policy: Policy,
    minimum_severity: Severity | None,
    now: datetime,
    history: Mapping[str, History] = MappingProxyType({}),
    gate: Gate | None = None,
) -> dict[str, Any]:
    """
    The end of stage 3: everything the providers said becomes verdicts and a plan.

    :param case: ``CaseBatch`` JSON
    :param answers: ``ReputationBatch`` JSON by provider; None for one that was skipped or failed
    :param history: what the ledger answers to :func:`history_question`
    :param gate: if not that of ``policy`` and the installed warning lists
    :return: ``Decision`` JSON
    """
    from include.soar.policy.file import asn_table

    batch = CaseBatch.model_validate(case)
    said = [ReputationBatch.model_validate(answer) for answer in answers.values() if answer is not None]
    by_observable: dict[str, list[Reputation]] = {}
    for reputation in (r for provider in said for r in provider.reputations):
        by_observable.setdefault(reputation.observable.key, []).append(reputation)
    return decision_.decide(
        batch.findings,
        batch.observed,
        by_observable,
        policy,
        gate=gate or _gate_of(policy, now),
        asns=asn_table(policy.block),
        history=history,
        minimum_severity=minimum_severity,
        silent_providers=sorted(
            {name for name, answer in answers.items() if answer is None}
            | {provider.provider for provider in said if _is_silent(provider)}
        ),
        now=now,
    ).to_json()


def _gate_of(policy: Policy, now: datetime) -> Gate:
    from include.soar.gate.gate import gate_of
    from include.soar.gate.index_file import shipped

    return gate_of(policy.never_block, shipped(), now)


def history_question(case: Mapping[str, Any], policy: Policy) -> dict[str, Any]:
    """
    What to ask ``Ledger.history`` before deciding: about all observables, up to the case's first sighting.

    :param case: ``CaseBatch`` JSON
    """
    batch = CaseBatch.model_validate(case)
    first_seen_at = min((s.seen_at for item in batch.observed for s in item.sightings), default=batch.window.start_at)
    return {
        "observables": [item.observable for item in batch.observed],
        "since": first_seen_at - timedelta(days=policy.verdict.history.days),
        "before": first_seen_at,
    }


def judgements(
    case: Mapping[str, Any],
    decision: Mapping[str, Any],
    *,
    policy: Policy,
    history: Mapping[str, History],
    now: datetime,
    gate: Gate | None = None,
) -> list[Judgement]:
    """
    Every verdict of a decision with what it followed from, for the ledger.

    :param case: ``CaseBatch`` JSON
    :param decision: ``Decision`` JSON that :func:`decide` made of it with the same policy, history and ``now``
    """
    batch, decided = CaseBatch.model_validate(case), Decision.model_validate(decision)
    findings = {f.uid: f for f in batch.findings}
    said = {v.observable: v.reputations for v in decided.verdicts}
    gate = gate or _gate_of(policy, now)
    return verdict.judgements(
        decided,
        (
            verdict.gather(
                item,
                findings,
                said[item.observable],
                history=history.get(item.observable.key),
                hit=gate.check(item.observable),
            )
            for item in batch.observed
        ),
    )


def _is_silent(batch: ReputationBatch) -> bool:
    """Whether a provider was asked something and did not answer all of it."""
    return any(r.answer in (Answer.NOT_CHECKED, Answer.ERROR) for r in batch.reputations)


def counts(case: Mapping[str, Any], decision: Mapping[str, Any]) -> dict[str, int]:
    """The run's numbers for its log: findings, high ones, observables, verdicts by standing, plan, refusals."""
    standings = Counter(v["standing"] for v in decision["verdicts"])
    return {
        "findings": len(case["findings"]),
        "carried_over": len(case["carried_over"]),
        "high_priority": sum(p["high"] for p in decision["priorities"]),
        "observables": len(case["observed"]),
        **{f"verdict_{standing}": number for standing, number in sorted(standings.items())},
        "indicators": len(decision["indicators"]),
        "refused": len(decision["refusals"]),
        "held": len(decision["held"]),
        "rejected_records": len(case["rejected"]),
    }


def cancel_protected(context: Context, ledger: Ledger) -> None:
    """Say which blocks a later entry speaks against. A run that only plans its blocks changes nothing."""
    if not Run.of(context).may_write(blocks=True):
        return
    moment = settings.now()
    for row, hit in ledger.actions.cancel_protected(settings.gate(moment), run_id=Run.of(context).name, now=moment):
        settings.log.warning(
            "Cancelled: %s at %s is in force, and now %s protects it (%s): lift it, see docs/runbook.md",
            one_line(row.observable),
            row.control,
            hit.layer,
            one_line(hit.reason),
        )


def remember_decided(context: Context, ledger: Ledger, case: Mapping[str, Any], decision: Mapping[str, Any]) -> None:
    """
    After a decision: when its window was first decided, and what a later run has to finish, since an answer is missing
    that may still come.

    :param case: ``CaseBatch`` JSON
    :param decision: ``Decision`` JSON
    """
    batch = CaseBatch.model_validate(case)
    left = unfinished(batch, Decision.model_validate(decision))
    moment = settings.now()
    if not Run.of(context).answers_are_frozen:
        ledger.windows.record_decided(batch.window, now=moment)
    for one in left:
        settings.log.warning(
            "Unfinished: finding %s: no answer yet by %s; %s",
            one_line(one.finding.uid),
            ", ".join(one.providers),
            f"a run after {one.retry_at:%Y-%m-%d %H:%M:%S} UTC finishes it"
            if Run.of(context).finishes
            else "this run only plans its blocks, so no later run finishes it: run it again",
        )
    if not Run.of(context).finishes:
        return
    open_uids = {one.finding.uid for one in left}
    days = settings.policy().enrichment.carry_over.days
    given_up = ledger.unfinished.record(
        left,
        done=[f.uid for f in batch.findings if f.uid not in open_uids],
        give_up_before=moment - timedelta(days=days),
        now=moment,
    )
    if given_up:
        settings.log.warning("Given up: %d findings are still unfinished after %g days", given_up, days)
