"""One view for each text, gathered from a run's case and decision. Imported when a text is made."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from include.soar.incident import choices, diff, views
from include.soar.incident.clean import CELL, ROWS, Link, clean, defang, when
from include.soar.incident.inputs import Asking, InForce, Note, State
from include.soar.incident.selections import (
    OUTCOME_ORDER,
    Judged,
    answer_words,
    approved_of,
    concerns,
    in_force_of,
    judged,
    observed_in,
    reached_words,
    refusals_of,
    there_now,
)
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
    Outcome,
    PlanEntry,
    Refusal,
    Relation,
    Reputation,
    Rung,
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
        acting=_rows([i for i in decision.indicators if finding.uid in i.finding_uids], _degree),
        held=_held(decision, finding),
        refusals=_rows(refusals_of(decision, finding), _refusal_row),
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
    refused, in_force = in_force_of(decision, finding, state.in_force)
    return views.StateReport(
        counts=tuple(f"{number} {outcome.value}" for outcome, number in counts.items() if number),
        at=when(state.at),
        run=Link(clean(state.run.text), state.run.url),
        changes=_changes(case, decision, finding),
        planned=_planned(case, decision, finding, state.actions),
        actions=_rows(state.actions, _action_row),
        degrees=_rows([i for i in decision.indicators if i.steps and finding.uid in i.finding_uids], _degree),
        held=_held(decision, finding),
        in_force=_rows(in_force, _in_force_row),
        refusals=_rows(refused, _refusal_row),
        relations=_rows(state.relations, _relation_row),
        observables=_rows(told, _observable_row, left_out(case, finding)),
        sources=_sources(told),
        unanswered=_unanswered(decision, told),
        skipped=tuple(state.skipped),
        reference=state.reference,
    )


def response_note(note: Note) -> views.ResponseNote:
    counts = {o: sum(a.outcome is o for a in note.actions) for o in OUTCOME_ORDER}
    said = ", ".join(f"{number} {outcome.value.replace('_', ' ')}" for outcome, number in counts.items() if number)
    return views.ResponseNote(
        headline=f"Response: {said}",
        by=clean(note.by),
        because=clean(note.because),
        at=when(note.at),
        run=Link(clean(note.run.text), note.run.url),
        actions=_rows(note.actions, _action_row),
        reference=note.reference,
    )


def question(decision: Decision, asking: Asking) -> views.Question:
    held = choices.held_in_order(decision)
    verdicts = {v.observable.key: v for v in decision.verdicts}
    acted_on = {i.observable.key for i in decision.indicators}
    numbered = list(enumerate(held, 1))
    return views.Question(
        number=len(held),
        there=sum(bool(there_now(decision, i.observable.key)) for i in held),
        meanwhile=sum(i.observable.key in acted_on for i in held),
        hours=f"{asking.wait.total_seconds() / 3600:g}",
        because=tuple(map(clean, decision.hold_reasons)),
        controls=tuple(diff.summary(control) for control in decision.plan.controls) if decision.plan else (),
        all_of=choices.ALL,
        none_of=choices.NONE,
        unanswered=_without_an_answer(asking),
        held=_rows(numbered, lambda one: _question_row(*one, decision, asking, verdicts.get(one[1].observable.key))),
    )


def _without_an_answer(asking: Asking) -> str:
    acts = sorted(asking.acts_unanswered, key=lambda rung: rung.rank)
    if not acts:
        return "none of it is acted on"
    return f"what waits for {' or '.join(_words(rung) for rung in acts)} is acted on, and nothing else"


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


def _refusal_row(refusal: Refusal) -> views.RefusalRow:
    told = (defang(refusal.observable), refusal.layer, refusal.list_name, refusal.entry, refusal.reason)
    return views.RefusalRow(*map(clean, told))


def _in_force_row(one: tuple[InForce, Refusal]) -> views.InForceRow:
    there, refusal = one
    return views.InForceRow(
        value=clean(defang(there.observable)),
        control=clean(f"{there.control}, {_words(there.rung)}" if there.rung else there.control),
        since=when(there.since),
        until=when(there.until) if there.until else "no end",
        reason=clean(f"{refusal.layer}: {refusal.reason}"),
    )


def _words(rung: Rung | None) -> str:
    return rung.value.replace("_", " ") if rung else ""


def _degree(indicator: Indicator) -> views.UntilRow:
    return views.UntilRow(
        value=clean(defang(indicator.observable)),
        until=when(indicator.expires_at),
        rung=_words(indicator.rung),
        because=clean("; ".join(_ways(indicator))),
        enough=clean(indicator.enough),
    )


def _ways(indicator: Indicator) -> tuple[str, ...]:
    """The ways to evidence of its highest rung."""
    return indicator.steps[-1].ways if indicator.steps else ()


def _held(decision: Decision, finding: Finding) -> views.Held | None:
    """That something of this finding waits for a person, or what that person answered."""
    held = [i for i in decision.held if finding.uid in i.finding_uids]
    answered = decision.approval if not held and concerns(decision, finding) else None
    if not held and not answered:
        return None
    approved = [i for i in approved_of(decision) if finding.uid in i.finding_uids] if answered else []
    return views.Held(
        of_run=len(decision.held),
        of_event=len(held),
        task=APPROVAL_TASK,
        waiting=_rows(held, lambda one: _held_row(one, decision)),
        answer=answer_words(decision) if answered else "",
        because=tuple(map(clean, decision.hold_reasons)),
        comment=clean(answered.comment) if answered else "",
        approved=_rows(approved, _degree),
    )


def _held_row(indicator: Indicator, decision: Decision) -> views.HeldRow:
    there = "; ".join(there_now(decision, indicator.observable.key)) if decision.plan else "not looked up yet"
    return views.HeldRow(
        value=clean(defang(indicator.observable)),
        rung=_words(indicator.rung),
        until=when(indicator.expires_at),
        there=clean(there),
        because=clean("; ".join(indicator.hold_reasons)),
    )


def _changes(case: CaseBatch, decision: Decision, finding: Finding) -> tuple[str, ...]:
    """The plan for this finding's values, a line for each control that it concerns."""
    keys = {item.observable.key for item in observed_in(case, finding)}
    lines = []
    for control in decision.plan.controls if decision.plan else ():
        mine = tuple(entry for entry in control.entries if entry.observable.key in keys)
        if mine:
            lines.append(diff.summary(control.model_copy(update={"entries": mine})))
    return tuple(lines)


def _planned(case: CaseBatch, decision: Decision, finding: Finding, actions: Sequence[Action]) -> Rows[views.PlanRow]:
    """The entries about which no control has said what became of them."""
    keys = {item.observable.key for item in observed_in(case, finding)}
    done = {(a.control, a.observable.key) for a in actions if a.outcome is not Outcome.PLANNED}
    entries = [
        (control.control, entry)
        for control, entry in diff.of_values(decision.plan, keys)
        if (control.control, entry.observable.key) not in done
    ]
    return _rows(entries, _plan_row)


def _plan_row(one: tuple[str, PlanEntry]) -> views.PlanRow:
    control, entry = one
    return views.PlanRow(
        control=clean(control),
        value=clean(defang(entry.observable)),
        change=diff.WORDS[entry.change],
        rung=_words(entry.rung),
        until=when(entry.expires_at) if entry.expires_at else "",
        there=(when(entry.was_until) if entry.was_until else "no end") if entry.in_force else "",
        reason=clean(diff.reason(entry).removeprefix("; ")),
    )


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
        rung=_words(action.rung),
        reached=clean(reached_words(action)),
    )


def _relation_row(relation: Relation) -> views.RelationRow:
    name = relation.related_readable_id or relation.related_id
    return views.RelationRow(*map(clean, (name, _shared(relation.shared), relation.outcome, relation.detail)))


def _question_row(
    number: int, indicator: Indicator, decision: Decision, asking: Asking, verdict: Verdict | None
) -> views.QuestionRow:
    key = indicator.observable.key
    said = [r for r in verdict.reputations if r.answer is Answer.LISTED] if verdict else []
    said.sort(key=lambda r: (-(r.score or 0), r.provider))
    mine = [ref for ref in asking.incidents if ref.finding_uid in indicator.finding_uids and ref.unique_id]
    return views.QuestionRow(
        number=number,
        value=defang(indicator.observable),
        kind=indicator.observable.type.value,
        roles=", ".join(role.value for role in indicator.roles),
        rung=_words(indicator.rung),
        confidence=indicator.confidence,
        until=when(indicator.expires_at),
        there="; ".join(there_now(decision, key)),
        evidence=tuple(map(clean, dict.fromkeys((*_ways(indicator), *indicator.reasons))))[:MOST_REASONS],
        sources=", ".join(f"{r.provider} {r.score}{_graded(verdict, r.provider)}" for r in said),
        network=clean(", ".join(_context(verdict))),
        tags=clean(", ".join(dict.fromkeys(word for r in said for word in (*r.techniques, *r.tags)))),
        incidents=tuple(Link(ref.readable_id or ref.unique_id or "", ref.url) for ref in mine[:MOST_TAGS]),
        because=tuple(map(clean, indicator.hold_reasons)),
        plan=tuple(
            f"{control.control}: {diff.change_words(entry)}" for control, entry in diff.of_values(decision.plan, {key})
        ),
        events=len(indicator.finding_uids),
    )


def _graded(verdict: Verdict | None, provider: str) -> str:
    grade = _grade(verdict, provider)
    return f" ({grade})" if grade else ""


#: Where a person answers: the id of the DAG's task that asks.
APPROVAL_TASK = "approve_blocks"
