"""Which of a run's observables, verdicts, refusals and actions are about one finding, in the order of its texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from include.soar.incident.clean import when
from include.soar.incident.diff import of_values
from include.soar.incident.inputs import InForce
from include.soar.model import (
    Action,
    ActionBatch,
    ApprovalAnswer,
    CaseBatch,
    Decision,
    Finding,
    Indicator,
    Observed,
    Outcome,
    Reached,
    Refusal,
    Rung,
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


def answer_words(decision: Decision) -> str:
    """
    ``approved by jane at …``, or ``2 approved by jane at …, 3 rejected``; empty without an answer.

    :param decision: with all that the answer led to
    """
    approval = decision.approval
    if approval is None:
        return ""
    told = f"{approval.answer.value}{f' by {approval.by}' if approval.by else ''} at {when(approval.at)}"
    approved = len(approved_of(decision))
    rejected = sum(r.layer == APPROVAL and r.entry == "rejected" for r in decision.refusals)
    if approval.answer is ApprovalAnswer.NOBODY and approved:
        return f"{told}, {approved} acted on all the same, as the policy says"
    if approval.answer is ApprovalAnswer.APPROVED and rejected:
        return f"{approved} {told}, {rejected} rejected"
    return told


def concerns(decision: Decision, finding: Finding) -> bool:
    """Whether the answer of a decision is about something of this finding."""
    approval = decision.approval
    if approval is None:
        return False
    refused = (r.finding_uids for r in decision.refusals if r.layer == APPROVAL)
    approved = (i.finding_uids for i in approved_of(decision))
    return any(finding.uid in uids for uids in (*approved, *refused))


def approved_of(decision: Decision) -> list[Indicator]:
    """What is acted on by the answer: since a person said so, or since nobody did and the policy says so."""
    approval = decision.approval
    if approval is None or (approval.chosen is None and approval.answer is not ApprovalAnswer.APPROVED):
        return []
    return [i for i in decision.indicators if approval.chosen is None or i.observable.key in approval.chosen]


def in_force_of(
    decision: Decision, finding: Finding, in_force: Sequence[InForce]
) -> tuple[list[Refusal], list[tuple[InForce, Refusal]]]:
    """
    What is refused and not in force; and what is in force though it is refused now. A value that is only watched is
    among both: it is not blocked.
    """
    by_key: dict[str, list[InForce]] = {}
    for there in sorted(in_force, key=lambda one: (one.observable.key, one.control)):
        by_key.setdefault(there.observable.key, []).append(there)
    refused, still = [], []
    for refusal in refusals_of(decision, finding):
        there_are = by_key.pop(refusal.observable.key, [])
        still += [(there, refusal) for there in there_are]
        if not any(there.rung is not Rung.WATCH for there in there_are):
            refused.append(refusal)
    return refused, still


def there_now(decision: Decision, key: str) -> list[str]:
    """At which controls a value has an effect already, and until when, as the plan found it."""
    found = []
    for control, entry in of_values(decision.plan, {key}):
        if entry.in_force:
            until = f"until {when(entry.was_until)}" if entry.was_until else "without an end"
            found.append(f"{control.control} {until}")
    return list(dict.fromkeys(found))


def reached_words(action: Action) -> str:
    """The rung of proof that an action has reached, in words, and never more."""
    reached = action.reached
    if reached is None:
        return ""
    version, network = action.proof.get("version"), action.proof.get("network")
    if reached is Reached.LISTED and version is not None:
        return f"in version {version}"
    if reached is Reached.ACTIVE and network is not None:
        return f"active on {str(network).lower()}"
    return _REACHED[reached]


_REACHED = {
    Reached.INTENDED: "intended; whether it was written is not known",
    Reached.ACCEPTED: "accepted",
    Reached.LISTED: "reads back",
    Reached.STAGING: "active on staging",
    Reached.ACTIVE: "in force",
    Reached.GONE: "seen gone",
}
#: The layer of what a person rejected, or did not answer.
APPROVAL = "approval"
