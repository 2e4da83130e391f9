"""Which of a run's observables, verdicts, refusals and actions are about one finding, in the order of its texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from include.soar.incident.clean import when
from include.soar.model import (
    Action,
    ActionBatch,
    Approval,
    CaseBatch,
    Decision,
    Finding,
    Observed,
    Outcome,
    Refusal,
    Standing,
    Verdict,
)

Judged = Sequence[tuple[Observed, Verdict | None]]


def observed_in(case: CaseBatch, finding: Finding) -> list[Observed]:
    """What was seen in one finding, with the sightings of that finding only."""
    chosen = []
    for item in case.observed:
        sightings = tuple(s for s in item.sightings if s.finding_uid == finding.uid)
        if sightings:
            chosen.append(item.model_copy(update={"sightings": sightings}))
    return chosen


_WORST_FIRST = (Standing.MALICIOUS, Standing.SUSPICIOUS, Standing.UNKNOWN, Standing.BENIGN)


def judged(case: CaseBatch, decision: Decision, finding: Finding) -> Judged:
    """Every observable of the finding with its verdict, worst first."""
    verdicts = {v.observable: v for v in decision.verdicts}

    def place(one: tuple[Observed, Verdict | None]) -> tuple[int, str]:
        item, verdict = one
        return _WORST_FIRST.index(verdict.standing) if verdict else len(_WORST_FIRST), item.observable.key

    return sorted(((i, verdicts.get(i.observable)) for i in observed_in(case, finding)), key=place)


def refusals_of(decision: Decision, finding: Finding) -> list[Refusal]:
    chosen = [r for r in decision.refusals if finding.uid in r.finding_uids]
    return sorted(chosen, key=lambda r: (r.observable.key, r.layer, r.entry))


#: How bad an outcome is for the reader: what needs a person comes first.
OUTCOME_ORDER = {
    outcome: place
    for place, outcome in enumerate(
        (
            Outcome.FAILED,
            Outcome.CANCELLED,
            Outcome.NOT_OURS,
            Outcome.PENDING,
            Outcome.BLOCKED,
            Outcome.DETECT_ONLY,
            Outcome.WATCHED,
            Outcome.PROTECTED,
            Outcome.EXPIRED,
            Outcome.LIFTED,
            Outcome.GONE,
            Outcome.UNSUPPORTED,
            Outcome.PLANNED,
        )
    )
}


def actions_of(case: CaseBatch, finding: Finding, batches: Iterable[ActionBatch]) -> list[Action]:
    """What was done about one finding's observables."""
    keys = {item.observable.key for item in observed_in(case, finding)}
    chosen = [a for batch in batches for a in batch.actions if a.observable.key in keys]
    return sorted(chosen, key=lambda a: (OUTCOME_ORDER[a.outcome], a.control, a.verb.value, a.observable.key))


def answer_words(approval: Approval) -> str:
    who = f" by {approval.by}" if approval.by else ""
    return f"{approval.answer.value}{who} at {when(approval.at)}"
