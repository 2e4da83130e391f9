"""What an incident says: its description, its comments, and the same as plain text. Pure: data in, HTML out.

Everything foreign (a path, a user agent, a provider's summary) was written by an attacker or may have been, and is
rendered to analysts. So HTML is only ever built by :func:`tag`: a plain ``str`` child is escaped there, and only an
:class:`Html`, which nothing but this file makes, goes through as it is. Observables are shown defanged.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from include.soar.incident.clean import _LINKABLE, CELL, ROWS, TEXT, _has_host, clean, defang, when
from include.soar.incident.question import APPROVAL_TASK
from include.soar.model import (
    Action,
    ActionBatch,
    Answer,
    Approval,
    CaseBatch,
    Decision,
    Finding,
    Observable,
    Observed,
    Outcome,
    Refusal,
    Relation,
    Reputation,
    Standing,
    Verdict,
    digest,
)

#: Tags of one source that are shown, and kinds of silence of one source.
MOST_TAGS, MOST_SILENCES = 8, 3


class Html(str):
    """Markup that this file wrote."""

    __slots__ = ()


def tag(name: str, *children: str, href: str | None = None) -> Html:
    """An element. Children that are not :class:`Html` are foreign: cleaned and escaped, quotes too."""
    inside = "".join(child if isinstance(child, Html) else html.escape(clean(child, TEXT)) for child in children)
    attribute = f' href="{html.escape(href)}"' if href else ""
    return Html(f"<{name}{attribute}>{inside}</{name}>")


def link(text: str, url: str | None) -> Html:
    """A link where ``url`` is plain http or https, else the text alone: a ``javascript:`` must never be clickable."""
    if url and _LINKABLE.fullmatch(url) and _has_host(url):
        return tag("a", text, href=url)
    return tag("span", text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    rows = list(rows)
    lines = [tag("tr", *(tag("th", name) for name in head))]
    for row in rows[:ROWS]:
        cells = (cell if isinstance(cell, Html) else clean(cell) for cell in row)
        lines.append(tag("tr", *(tag("td", cell) for cell in cells)))
    more = tag("p", f"and {len(rows) - ROWS} more") if len(rows) > ROWS else Html("")
    return Html(tag("table", *lines) + more)


def facts(pairs: Iterable[tuple[str, str]]) -> Html:
    """A table of two columns, without the rows that have nothing to say."""
    return tag("table", *(tag("tr", tag("th", name), tag("td", value)) for name, value in pairs if value))


def _document(*parts: Html | None) -> str:
    return "".join(part for part in parts if part)


# --- references ---------------------------------------------------------------------------------------------
# Short tokens in titles and texts, by which a repeated run finds what an earlier one wrote.


def title(finding: Finding, source: str, mark: str, *, limit: int = 200) -> str:
    """
    ``source: what happened [TR-…]``. Plain text; angle and square brackets of foreign text are exchanged, so that
    it neither becomes markup in a careless view nor forges a mark.
    """
    foreign = clean(f"{source}: {finding.title}", limit).translate(str.maketrans("<>[]", "‹›()"))
    suffix = f" [{mark}]"
    return clean(foreign, limit - len(suffix)) + suffix


# --- selections ---------------------------------------------------------------------------------------------


def observed_in(case: CaseBatch, finding: Finding) -> list[Observed]:
    """What was seen in one finding, with the sightings of that finding only."""
    chosen = []
    for item in case.observed:
        sightings = tuple(s for s in item.sightings if s.finding_uid == finding.uid)
        if sightings:
            chosen.append(item.model_copy(update={"sightings": sightings}))
    return chosen


_WORST_FIRST = (Standing.MALICIOUS, Standing.SUSPICIOUS, Standing.UNKNOWN, Standing.BENIGN)


def _judged(case: CaseBatch, decision: Decision, finding: Finding) -> list[tuple[Observed, Verdict | None]]:
    """Every observable of the finding with its verdict, worst first."""
    verdicts = {v.observable: v for v in decision.verdicts}

    def place(one: tuple[Observed, Verdict | None]) -> tuple[int, str]:
        item, verdict = one
        return _WORST_FIRST.index(verdict.standing) if verdict else len(_WORST_FIRST), item.observable.key

    return sorted(((i, verdicts.get(i.observable)) for i in observed_in(case, finding)), key=place)


def _why(verdict: Verdict | None) -> Html:
    """The reasons by which a verdict can be worked out again. What speaks neither way stands with the sources only."""
    if verdict is None:
        return Html("")
    said = {r.provider: r for r in verdict.reputations}
    lines = []
    for reason in verdict.reasons:
        source = said.get(reason.partition(": ")[0])
        if source is None or source.answer is Answer.LISTED:
            lines.append(tag("li", clean(reason)))
    return tag("ul", *lines) if lines else Html("")


def _context(verdict: Verdict | None) -> tuple[str, ...]:
    """What sources know that say nothing good or bad: whose network it is, say."""
    without_opinion = (r for r in verdict.reputations if r.answer is Answer.NOT_APPLICABLE) if verdict else ()
    return tuple(dict.fromkeys(word for r in without_opinion for word in r.tags))[:MOST_TAGS]


def _findings_table(judged: Sequence[tuple[Observed, Verdict | None]]) -> Html:
    """Every observable of the finding, worst first."""
    rows = []
    for item, verdict in judged:
        seen = ", ".join(sorted({f"{s.role.value} ({s.field})" for s in item.sightings}))
        known = "".join(f"; {word}" for word in _context(verdict))
        judgement = f"{verdict.standing.value} {verdict.confidence}" if verdict else "not judged"
        rows.append((defang(item.observable), f"{item.observable.type.value}; {seen}{known}", judgement, _why(verdict)))
    if not rows:
        return tag("p", "No observable was found in this event.")
    return table(("observable", "what", "verdict", "why"), rows)


# --- what the sources say -----------------------------------------------------------------------------------

_GRADE = re.compile(r"; grade ([A-F]) \(")


def _sources(judged: Sequence[tuple[Observed, Verdict | None]]) -> Html | None:
    """
    One row for each source that has something to tell about a value; those that do not list it share one. Each links to
    the source's own page about the value.
    """
    rows: list[tuple[str, ...]] = []
    for item, verdict in judged:
        answered = [r for r in verdict.reputations if r.score is not None] if verdict else []
        telling = [r for r in answered if r.answer is Answer.LISTED or r.tags or r.techniques]
        for said in sorted(telling, key=lambda r: (-(r.score or 0), r.provider)):
            rows.append(
                (
                    defang(item.observable),
                    Html(_page(said) + html.escape(_grade(verdict, said.provider))),
                    f"{said.answer.value.replace('_', ' ')} {said.score}",
                    ", ".join((*said.techniques[:MOST_TAGS], *said.tags[:MOST_TAGS])),
                    _days(said),
                )
            )
        if others := [r for r in answered if r not in telling]:
            names = Html(", ".join(map(_page, others[:MOST_TAGS])))
            rows.append((defang(item.observable), names, "not listed", "", ""))
    if not rows:
        return None
    head = ("value", "source (grade)", "says", "techniques, tags", "reported")
    return Html(_heading("What the sources say") + table(head, rows))


def _page(said: Reputation) -> Html:
    """The source's name, as a link to its page about the value: a long one is left out, since there may be hundreds."""
    return link(said.provider, said.reference if len(said.reference or "") <= CELL else None)


def _grade(verdict: Verdict | None, provider: str) -> str:
    """As its reason gives it: where it is weighed."""
    for reason in verdict.reasons if verdict else ():
        if reason.startswith(f"{provider}: ") and (found := _GRADE.search(reason)):
            return f" ({found[1]})"
    return ""


def _days(said: Reputation) -> str:
    first, last = said.first_reported_at, said.last_reported_at
    if first and last and first.date() != last.date():
        return f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
    return f"{last or first:%Y-%m-%d}" if last or first else ""


def _silent(decision: Decision, judged: Sequence[tuple[Observed, Verdict | None]]) -> Html | None:
    """Who gave no answer about a value of this incident, why, and when they can be asked again."""
    said = [r for _, verdict in judged if verdict for r in verdict.reputations]
    silences: dict[str, dict[str, list[Reputation]]] = {
        name: {} for name in decision.silent_providers if not any(r.provider == name for r in said)
    }
    for one in said:
        if one.answer in (Answer.NOT_CHECKED, Answer.ERROR):
            silences.setdefault(one.provider, {}).setdefault(one.summary, []).append(one)
    if not silences:
        return None
    lines = []
    for provider, by_reason in sorted(silences.items()):
        # The name is ours, but a name of any length would do here as well.
        words = [f"{clean(provider, 60)}: {_number_of(by_reason)}"]
        for reason, ones in list(by_reason.items())[:MOST_SILENCES]:
            retry_at = min((r.retry_at for r in ones if r.retry_at), default=None)
            again = f" (asked again from {when(retry_at)} on)" if retry_at and "asked again from" not in reason else ""
            words.append(f"{clean(reason, CELL)}{again}")
        if len(by_reason) > MOST_SILENCES:
            words.append(f"and {len(by_reason) - MOST_SILENCES} more reasons")
        lines.append(tag("li", "; ".join(words)))
    return Html(tag("p", "Gave no answer, which says nothing good or bad:") + tag("ul", *lines))


def _number_of(by_reason: Mapping[str, Sequence[Reputation]]) -> str:
    number = sum(map(len, by_reason.values()))
    return f"{number} value{'s' if number > 1 else ''} not answered" if number else "no answer at all"


def _refusals(refusals: Sequence[Refusal]) -> Html | None:
    """Each value that something spoke against and that is not blocked: which rule, which list, which entry, why."""
    if not refusals:
        return None
    rows = ((defang(r.observable), r.layer, r.list_name, r.entry, r.reason) for r in refusals)
    return Html(_heading("Not blocked, and why") + table(("observable", "layer", "list", "entry", "reason"), rows))


def _held(decision: Decision, finding: Finding) -> Html | None:
    """That the run stopped before blocking, for a finding that this concerns."""
    held = [i for i in decision.held if finding.uid in i.finding_uids]
    if held:
        parts = [
            _heading(f"Held: {len(decision.held)} blocks of this run wait for a person, {len(held)} of this event"),
            tag(
                "p",
                f"Nothing is blocked before. Answer in Airflow: Browse, Required Actions, task {APPROVAL_TASK}."
                " A run that only plans its blocks does not ask.",
            ),
            table(("observable", "until"), ((defang(i.observable), when(i.expires_at)) for i in held)),
        ]
    elif decision.approval and _concerns(decision, finding):
        parts = [_heading(f"Held before blocking, then {answer_words(decision.approval)}")]
    else:
        return None
    return Html("".join([*parts, facts(("because", clean(reason)) for reason in decision.hold_reasons)]))


def _concerns(decision: Decision, finding: Finding) -> bool:
    refused = (r.finding_uids for r in decision.refusals if r.layer == "approval")
    return any(finding.uid in uids for uids in (*(i.finding_uids for i in decision.indicators), *refused))


def answer_words(approval: Approval) -> str:
    who = f" by {approval.by}" if approval.by else ""
    return f"{approval.answer.value}{who} at {when(approval.at)}"


def refusals_of(decision: Decision, finding: Finding) -> list[Refusal]:
    chosen = [r for r in decision.refusals if finding.uid in r.finding_uids]
    return sorted(chosen, key=lambda r: (r.observable.key, r.layer, r.entry))


def _heading(text: str) -> Html:
    return tag("p", tag("b", text))


# --- the incident's description -------------------------------------------------------------------------------


def description(case: CaseBatch, decision: Decision, finding: Finding, *, source: str, mark: str) -> str:
    """What happened, what was seen, what is thought of it. HTML, written once when the incident is opened."""
    priority = next((p.reason for p in decision.priorities if p.finding_uid == finding.uid), "")
    severity = finding.severity.value + (f", confidence {finding.confidence}" if finding.confidence is not None else "")
    refusals = refusals_of(decision, finding)
    acting = [i for i in decision.indicators if finding.uid in i.finding_uids]
    judged = _judged(case, decision, finding)
    return _document(
        facts(
            (
                ("source", source),
                ("event", link(clean(finding.vendor_id), finding.url)),
                ("detected", when(finding.detected_at)),
                ("severity", severity),
                ("why an incident", priority),
                ("category", clean(finding.category)),
                ("target", clean(finding.target)),
                ("tags", clean(", ".join(finding.tags))),
                ("reference", mark),
            )
        ),
        tag("p", finding.title),
        tag("p", finding.description) if finding.description else None,
        _heading("Observables"),
        _findings_table(judged),
        _sources(judged),
        _heading("To be acted on") if acting else None,
        table(("observable", "until"), ((defang(i.observable), when(i.expires_at)) for i in acting))
        if acting
        else None,
        _held(decision, finding),
        _refusals(refusals),
        _silent(decision, judged),
    )


# --- the comment on an older, related incident ----------------------------------------------------------------


def related_comment(
    case: CaseBatch,
    decision: Decision,
    finding: Finding,
    *,
    incident: Html,
    shared: Sequence[Observable],
    reference: str,
) -> str:
    """
    The new findings, for an older incident that shares indicators with them.

    :param incident: a link to the new incident
    """
    return _document(
        tag("p", Html("Related: "), incident, Html(" shares "), ", ".join(defang(o) for o in shared[:20])),
        facts(
            (
                ("what", finding.title),
                ("detected", when(finding.detected_at)),
                ("severity", finding.severity.value),
                ("target", clean(finding.target)),
            )
        ),
        _findings_table(_judged(case, decision, finding)),
        tag("p", f"ref {reference}"),
    )


# --- the state report -----------------------------------------------------------------------------------------

#: How bad an outcome is for the reader: what needs a person comes first.
_OUTCOME_ORDER = {
    outcome: place
    for place, outcome in enumerate(
        (
            Outcome.FAILED,
            Outcome.PENDING,
            Outcome.BLOCKED,
            Outcome.DETECT_ONLY,
            Outcome.WATCHED,
            Outcome.PROTECTED,
            Outcome.EXPIRED,
            Outcome.UNSUPPORTED,
            Outcome.PLANNED,
        )
    )
}


def actions_of(case: CaseBatch, finding: Finding, batches: Iterable[ActionBatch]) -> list[Action]:
    """What was done about one finding's observables."""
    keys = {item.observable.key for item in observed_in(case, finding)}
    chosen = [a for batch in batches for a in batch.actions if a.observable.key in keys]
    return sorted(chosen, key=lambda a: (_OUTCOME_ORDER[a.outcome], a.control, a.verb.value, a.observable.key))


def state_reference(case: CaseBatch, decision: Decision, finding: Finding, actions: Sequence[Action]) -> str:
    """
    The mark of a state report: a digest of what is true, not of who said it when. The same state gives the same
    mark in every run. Who wrote it, the proof and the detail are not part of the state: the list's version, say,
    moves on with every other incident's block.
    """
    verdicts = {v.observable.key: v.standing.value for v in decision.verdicts}
    state: dict[str, Any] = {
        "actions": sorted(
            [
                a.control,
                a.verb.value,
                a.observable.key,
                a.outcome.value,
                a.expires_at.isoformat() if a.expires_at else "",
            ]
            for a in actions
        ),
        "verdicts": sorted(
            [item.observable.key, verdicts.get(item.observable.key, "")] for item in observed_in(case, finding)
        ),
        "refusals": [[r.observable.key, r.layer, r.entry, r.reason] for r in refusals_of(decision, finding)],
    }
    if held := sorted(i.observable.key for i in decision.held if finding.uid in i.finding_uids):
        state["held"] = held
    return "TR-S-" + digest(state)[:16]


def state_report(
    case: CaseBatch,
    decision: Decision,
    finding: Finding,
    *,
    actions: Sequence[Action],
    relations: Sequence[Relation],
    skipped: Sequence[str],
    run: str,
    run_url: str | None,
    at: datetime,
    reference: str,
) -> str:
    """
    What was found, what was done where with what proof and until when, what failed, what is pending, what was
    refused and why, who was silent.

    :param skipped: names of stages that did not take part
    :param run: name of the Airflow run, for the link
    """
    refusals = refusals_of(decision, finding)
    counts: Mapping[Outcome, int] = {o: sum(a.outcome is o for a in actions) for o in _OUTCOME_ORDER}
    summary = ", ".join(f"{n} {o.value}" for o, n in counts.items() if n) or "nothing was acted on"
    judged = _judged(case, decision, finding)
    return _document(
        tag("p", tag("b", f"Response: {summary}")),
        tag("p", Html("As of "), when(at), Html(", by run "), link(clean(run), run_url)),
        table(
            ("control", "did", "observable", "outcome", "until", "proof", "detail"),
            (
                (
                    a.control,
                    a.verb.value,
                    defang(a.observable),
                    tag("b", a.outcome.value),
                    when(a.expires_at),
                    ", ".join(f"{name} {value}" for name, value in a.proof.items() if value is not None),
                    a.detail,
                )
                for a in actions
            ),
        )
        if actions
        else None,
        _held(decision, finding),
        _refusals(refusals),
        _heading("Related incidents") if relations else None,
        table(
            ("incident", "shares", "outcome", "detail"),
            (
                (
                    r.related_readable_id or r.related_id,
                    ", ".join(defang(o) for o in r.shared[:20]),
                    r.outcome,
                    r.detail,
                )
                for r in relations
            ),
        )
        if relations
        else None,
        _heading("Found"),
        _findings_table(judged),
        _sources(judged),
        _silent(decision, judged),
        tag("p", "Stages that did not take part: " + ", ".join(skipped)) if skipped else None,
        tag("p", f"ref {reference}"),
    )


# --- the question whether to block ----------------------------------------------------------------------------


# --- plain text -----------------------------------------------------------------------------------------------
