"""The vendor-less stages, as JSON -> JSON functions: what a task takes and gives is what the XCom tab shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from include.soar import plan
from include.soar.model import (
    Answer,
    CaseBatch,
    FetchBatch,
    Finding,
    Reputation,
    ReputationBatch,
    Severity,
    Window,
)
from include.soar.observables import observe
from include.soar.policy import Policy


class NothingFetched(ValueError):
    """No source gave a batch: there is nothing to work on, and that must not look like a quiet night."""


def extract(batches: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """
    Stage 2: the sources' batches become one case with its observables.

    :param batches: ``FetchBatch`` JSON per source; None for a source that was skipped or failed
    :return: ``CaseBatch`` JSON
    :raises NothingFetched: every source is missing
    """
    fetched = [FetchBatch.model_validate(batch) for batch in batches if batch is not None]
    if not fetched:
        raise NothingFetched("no source has given a batch: each was skipped (no connection) or failed")
    findings = _distinct([finding for batch in fetched for finding in batch.findings])
    windows = [batch.window for batch in fetched]
    window = Window(
        start_at=min(w.start_at for w in windows),
        end_at=max(w.end_at for w in windows),
        chosen_by=windows[0].chosen_by,
    )
    case = CaseBatch(
        window=window,
        findings=findings,
        observed=observe(findings),
        rejected=tuple(r for batch in fetched for r in batch.rejected),
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
) -> dict[str, Any]:
    """
    The end of stage 3: everything the providers said becomes verdicts and a plan.

    :param case: ``CaseBatch`` JSON
    :param answers: ``ReputationBatch`` JSON by provider; None for one that was skipped or failed
    :return: ``Decision`` JSON
    """
    batch = CaseBatch.model_validate(case)
    said = [ReputationBatch.model_validate(answer) for answer in answers.values() if answer is not None]
    by_observable: dict[str, list[Reputation]] = {}
    for reputation in (r for provider in said for r in provider.reputations):
        by_observable.setdefault(reputation.observable.key, []).append(reputation)
    return plan.decide(
        batch.findings,
        batch.observed,
        by_observable,
        policy,
        minimum_severity=minimum_severity,
        silent_providers=sorted(
            {name for name, answer in answers.items() if answer is None}
            | {provider.provider for provider in said if _is_silent(provider)}
        ),
        now=now,
    ).to_json()


def _is_silent(batch: ReputationBatch) -> bool:
    """Whether a provider was asked something and did not answer all of it."""
    return any(r.answer in (Answer.NOT_CHECKED, Answer.ERROR) for r in batch.reputations)


def counts(case: Mapping[str, Any], decision: Mapping[str, Any]) -> dict[str, int]:
    """The run's numbers for its log: findings, high ones, observables, verdicts by standing, plan, refusals."""
    standings = Counter(v["standing"] for v in decision["verdicts"])
    return {
        "findings": len(case["findings"]),
        "high_priority": sum(p["high"] for p in decision["priorities"]),
        "observables": len(case["observed"]),
        **{f"verdict_{standing}": number for standing, number in sorted(standings.items())},
        "indicators": len(decision["indicators"]),
        "refused": len(decision["refusals"]),
        "rejected_records": len(case["rejected"]),
    }
