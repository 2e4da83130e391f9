"""One view for each text, gathered from a run's case and decision. Imported when a text is made."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from include.soar.incident import views
from include.soar.incident.clean import CELL, ROWS, Link, clean, defang, when
from include.soar.incident.inputs import State
from include.soar.incident.selections import OUTCOME_ORDER, Judged, answer_words, judged, refusals_of
from include.soar.incident.views import Rows
from include.soar.model import (
    Action,
    Answer,
    CaseBatch,
    Decision,
    Finding,
    Indicator,
    Observable,
    Observed,
    Refusal,
    Relation,
    Reputation,
    Verdict,
)

#: Tags of one source that are shown, reasons of one source for not answering, and values shared with one incident.
MOST_TAGS, MOST_REASONS, MOST_SHARED = 8, 3, 20

Item = TypeVar("Item")
Row = TypeVar("Row")


def description(case: CaseBatch, decision: Decision, finding: Finding, source: str, mark: str) -> views.Description:
    told = judged(case, decision, finding)
    severity = finding.severity.value + (f", confidence {finding.confidence}" if finding.confidence is not None else "")
    return views.Description(
        source=source,
        event=Link(clean(finding.vendor_id), finding.url),
        detected=when(finding.detected_at),
        severity=severity,
        priority=next((p.reason for p in decision.priorities if p.finding_uid == finding.uid), ""),
        category=clean(finding.category),
        target=clean(finding.target),
        tags=clean(", ".join(finding.tags)),
        reference=mark,
        title=finding.title,
        description=finding.description,
        observables=_rows(told, _observable_row, left_out(case, finding)),
        sources=_sources(told),
        acting=_rows([i for i in decision.indicators if finding.uid in i.finding_uids], _until),
        held=_held(decision, finding),
        refusals=_refusals(decision, finding),
        unanswered=_unanswered(decision, told),
    )


def related_comment(
    case: CaseBatch,
    decision: Decision,
    finding: Finding,
    incident: Link,
    shared: Sequence[Observable],
    reference: str,
) -> views.RelatedComment:
    return views.RelatedComment(
        incident=incident,
        shares=_shared(shared),
        title=finding.title,
        detected=when(finding.detected_at),
        severity=finding.severity.value,
        target=clean(finding.target),
        observables=_rows(judged(case, decision, finding), _observable_row, left_out(case, finding)),
        reference=reference,
    )


def state_report(case: CaseBatch, decision: Decision, finding: Finding, state: State) -> views.StateReport:
    told = judged(case, decision, finding)
    counts = {o: sum(a.outcome is o for a in state.actions) for o in OUTCOME_ORDER}
    return views.StateReport(
        counts=tuple(f"{number} {outcome.value}" for outcome, number in counts.items() if number),
        at=when(state.at),
        run=Link(clean(state.run.text), state.run.url),
        actions=_rows(state.actions, _action_row),
        held=_held(decision, finding),
        refusals=_refusals(decision, finding),
        relations=_rows(state.relations, _relation_row),
        observables=_rows(told, _observable_row, left_out(case, finding)),
        sources=_sources(told),
        unanswered=_unanswered(decision, told),
        skipped=tuple(state.skipped),
        reference=state.reference,
    )


def question(decision: Decision, hours: float) -> views.Question:
    held = sorted(decision.held, key=lambda i: (-i.confidence, i.observable.key))
    return views.Question(
        number=len(held),
        hours=f"{hours:g}",
        because=tuple(map(clean, decision.hold_reasons)),
        held=_rows(held, _question_row),
    )


# --- rows ---------------------------------------------------------------------------------------------------


def left_out(case: CaseBatch, finding: Finding) -> int:
    """How many values of the finding the case does not even have."""
    return sum(one.values for one in case.left_out if one.finding_uid == finding.uid)


def _rows(items: Sequence[Item], row: Callable[[Item], Row], unseen: int = 0) -> Rows[Row]:
    """:param unseen: how many more there were that are not among the items"""
    return Rows(tuple(map(row, items[:ROWS])), more=max(0, len(items) - ROWS) + unseen)


def _shared(observables: Sequence[Observable]) -> str:
    return ", ".join(defang(o) for o in observables[:MOST_SHARED])


def _observable_row(one: tuple[Observed, Verdict | None]) -> views.ObservableRow:
    item, verdict = one
    seen = ", ".join(sorted({f"{s.role.value} ({s.field})" for s in item.sightings}))
    known = "".join(f"; {word}" for word in _context(verdict))
    return views.ObservableRow(
        value=clean(defang(item.observable)),
        what=clean(f"{item.observable.type.value}; {seen}{known}"),
        verdict=f"{verdict.standing.value} {verdict.confidence}" if verdict else "",
        reasons=_why(verdict),
    )


def _why(verdict: Verdict | None) -> tuple[str, ...]:
    """The reasons by which a verdict can be worked out again. What speaks neither way is told with the sources only."""
    said = {r.provider: r for r in verdict.reputations} if verdict else {}
    reasons = []
    for reason in verdict.reasons if verdict else ():
        source = said.get(reason.partition(": ")[0])
        if source is None or source.answer is Answer.LISTED:
            reasons.append(clean(reason))
    return tuple(reasons)


def _context(verdict: Verdict | None) -> tuple[str, ...]:
    """What sources know that says nothing good or bad: whose network it is, say."""
    without_opinion = (r for r in verdict.reputations if r.answer is Answer.NOT_APPLICABLE) if verdict else ()
    return tuple(dict.fromkeys(word for r in without_opinion for word in r.tags))[:MOST_TAGS]


_GRADE = re.compile(r"; grade ([A-F]) \(")


def _sources(told: Judged) -> Rows[views.SourceRow]:
    """One row for each source that has something to tell about a value; those that do not list it share one."""
    rows: list[views.SourceRow] = []
    for item, verdict in told:
        value = clean(defang(item.observable))
        answered = [r for r in verdict.reputations if r.score is not None] if verdict else []
        telling = [r for r in answered if r.answer is Answer.LISTED or r.tags or r.techniques]
        for said in sorted(telling, key=lambda r: (-(r.score or 0), r.provider)):
            rows.append(
                views.SourceRow(
                    value=value,
                    sources=(_page(said),),
                    grade=_grade(verdict, said.provider),
                    says=f"{said.answer.value.replace('_', ' ')} {said.score}",
                    labels=clean(", ".join((*said.techniques[:MOST_TAGS], *said.tags[:MOST_TAGS]))),
                    reported=_days(said),
                )
            )
        if others := [r for r in answered if r not in telling]:
            rows.append(views.SourceRow(value=value, sources=tuple(map(_page, others[:MOST_TAGS]))))
    return _rows(rows, lambda row: row)


def _page(said: Reputation) -> Link:
    """The source's name, as a link to its page about the value: a long one is left out, since there may be hundreds."""
    return Link(said.provider, said.reference if len(said.reference or "") <= CELL else None)


def _grade(verdict: Verdict | None, provider: str) -> str:
    """As its reason gives it: where it is weighed."""
    for reason in verdict.reasons if verdict else ():
        if reason.startswith(f"{provider}: ") and (found := _GRADE.search(reason)):
            return found[1]
    return ""


def _days(said: Reputation) -> str:
    first, last = said.first_reported_at, said.last_reported_at
    if first and last and first.date() != last.date():
        return f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
    return f"{last or first:%Y-%m-%d}" if last or first else ""


def _unanswered(decision: Decision, told: Judged) -> tuple[views.UnansweredSource, ...]:
    """Who gave no answer about a value of this incident, why, and when they can be asked again."""
    said = [r for _, verdict in told if verdict for r in verdict.reputations]
    reasons: dict[str, dict[str, list[Reputation]]] = {
        name: {} for name in decision.silent_providers if not any(r.provider == name for r in said)
    }
    for one in said:
        if one.answer in (Answer.NOT_CHECKED, Answer.ERROR):
            reasons.setdefault(one.provider, {}).setdefault(one.summary, []).append(one)
    return tuple(
        views.UnansweredSource(
            provider=clean(provider, 60),
            values=sum(map(len, by_reason.values())),
            reasons=tuple(_no_answer(reason, ones) for reason, ones in list(by_reason.items())[:MOST_REASONS]),
            more=max(0, len(by_reason) - MOST_REASONS),
        )
        for provider, by_reason in sorted(reasons.items())
    )


def _no_answer(reason: str, ones: Sequence[Reputation]) -> str:
    retry_at = min((r.retry_at for r in ones if r.retry_at), default=None)
    again = f" (asked again from {when(retry_at)} on)" if retry_at and "asked again from" not in reason else ""
    return f"{clean(reason, CELL)}{again}"


def _refusals(decision: Decision, finding: Finding) -> Rows[views.RefusalRow]:
    def row(r: Refusal) -> views.RefusalRow:
        return views.RefusalRow(*map(clean, (defang(r.observable), r.layer, r.list_name, r.entry, r.reason)))

    return _rows(refusals_of(decision, finding), row)


def _until(indicator: Indicator) -> views.UntilRow:
    return views.UntilRow(clean(defang(indicator.observable)), when(indicator.expires_at))


def _held(decision: Decision, finding: Finding) -> views.Held | None:
    """That the run stopped before blocking, for a finding that this concerns."""
    held = [i for i in decision.held if finding.uid in i.finding_uids]
    answered = decision.approval if not held and _concerns(decision, finding) else None
    if not held and not answered:
        return None
    return views.Held(
        of_run=len(decision.held),
        of_event=len(held),
        task=APPROVAL_TASK,
        waiting=_rows(held, _until),
        answer=answer_words(answered) if answered else "",
        because=tuple(map(clean, decision.hold_reasons)),
    )


def _concerns(decision: Decision, finding: Finding) -> bool:
    refused = (r.finding_uids for r in decision.refusals if r.layer == "approval")
    return any(finding.uid in uids for uids in (*(i.finding_uids for i in decision.indicators), *refused))


def _action_row(action: Action) -> views.ActionRow:
    proof = ", ".join(f"{name} {value}" for name, value in action.proof.items() if value is not None)
    return views.ActionRow(
        control=clean(action.control),
        did=action.verb.value,
        value=clean(defang(action.observable)),
        outcome=action.outcome.value,
        until=when(action.expires_at),
        proof=clean(proof),
        detail=clean(action.detail),
    )


def _relation_row(relation: Relation) -> views.RelationRow:
    name = relation.related_readable_id or relation.related_id
    return views.RelationRow(*map(clean, (name, _shared(relation.shared), relation.outcome, relation.detail)))


def _question_row(indicator: Indicator) -> views.QuestionRow:
    return views.QuestionRow(
        value=defang(indicator.observable),
        roles=", ".join(role.value for role in indicator.roles),
        confidence=indicator.confidence,
        until=when(indicator.expires_at),
        events=len(indicator.finding_uids),
    )


#: Where a person answers: the id of the DAG's task that asks.
APPROVAL_TASK = "approve_blocks"
