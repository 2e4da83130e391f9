"""The vendor-less stages, as JSON -> JSON functions: what a task takes and gives is what the XCom tab shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from include.soar.extract.text import NOTHING_OWN, OwnSurface, observe
from include.soar.judge import decision as decision_
from include.soar.judge import verdict
from include.soar.judge.verdict import History, Judgement
from include.soar.model import (
    Answer,
    CaseBatch,
    Decision,
    FetchBatch,
    Finding,
    Reputation,
    ReputationBatch,
    Severity,
    Window,
)
from include.soar.policy.rules import Policy


class NothingFetched(ValueError):
    """No source gave a batch: there is nothing to work on, and that must not look like a quiet night."""


def extract(
    batches: Sequence[Mapping[str, Any] | None],
    own: OwnSurface = NOTHING_OWN,
    carried_over: Sequence[Finding] = (),
) -> dict[str, Any]:
    """
    Stage 2: the sources' batches become one case with its observables.

    :param batches: ``FetchBatch`` JSON per source; None for a source that was skipped or failed
    :param own: what of it is our own API
    :param carried_over: findings of earlier windows that this run is to finish
    :return: ``CaseBatch`` JSON
    :raises NothingFetched: every source is missing
    """
    fetched = [FetchBatch.model_validate(batch) for batch in batches if batch is not None]
    if not fetched:
        raise NothingFetched("no source has given a batch: each was skipped (no connection) or failed")
    new = [finding for batch in fetched for finding in batch.findings]
    findings = _distinct([*carried_over, *new])
    windows = [batch.window for batch in fetched]
    window = Window(
        start_at=min(w.start_at for w in windows),
        end_at=max(w.end_at for w in windows),
        chosen_by=windows[0].chosen_by,
    )
    case = CaseBatch(
        window=window,
        findings=findings,
        observed=observe(findings, own),
        rejected=tuple(r for batch in fetched for r in batch.rejected),
        carried_over=tuple(sorted({f.uid for f in carried_over} - {f.uid for f in new})),
    )
    return case.to_json()


def _distinct(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Each finding once, by time and uid."""
    if not findings:
        return ()
    # Imported here: it costs more than a second, and every task of the DAG imports this file.
    import pandas as pd

    frame = pd.DataFrame(
        {
            "uid": [f.uid for f in findings],
            "detected_at": [f.detected_at for f in findings],
            "place": range(len(findings)),
        }
    )
    kept = frame.drop_duplicates("uid", keep="last").sort_values(["detected_at", "uid"], kind="stable")
    return tuple(findings[place] for place in kept["place"])


def decide(
    case: Mapping[str, Any],
    answers: Mapping[str, Mapping[str, Any] | None],
    *,
    policy: Policy,
    minimum_severity: Severity | None,
    now: datetime,
    history: Mapping[str, History] = MappingProxyType({}),
) -> dict[str, Any]:
    """
    The end of stage 3: everything the providers said becomes verdicts and a plan.

    :param case: ``CaseBatch`` JSON
    :param answers: ``ReputationBatch`` JSON by provider; None for one that was skipped or failed
    :param history: what the ledger answers to :func:`history_question`
    :return: ``Decision`` JSON
    """
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
        history=history,
        minimum_severity=minimum_severity,
        silent_providers=sorted(
            {name for name, answer in answers.items() if answer is None}
            | {provider.provider for provider in said if _is_silent(provider)}
        ),
        now=now,
    ).to_json()


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
) -> list[Judgement]:
    """
    Every verdict of a decision with what it followed from, for the ledger.

    :param case: ``CaseBatch`` JSON
    :param decision: ``Decision`` JSON that :func:`decide` made of it with the same policy, history and ``now``
    """
    batch, decided = CaseBatch.model_validate(case), Decision.model_validate(decision)
    findings = {f.uid: f for f in batch.findings}
    said = {v.observable: v.reputations for v in decided.verdicts}
    gate = policy.gate_at(now)
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
