"""What an incident says: its title, its description and its comments. Pure: data in, HTML out.

Each text is gathered as one view of plain data (``gather.py``, ``views.py``) and written by a template
(``templates/``), which a SOC can replace by its own. Everything foreign (a path, a user agent, a source's summary) was
written by an attacker or may have been, and is shown to analysts: every value that a template writes is cleaned and
escaped (``render.py``), and observables get there defanged only.

Views and Jinja2 are imported when a text is made: this module is read with the DAG.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.soar.incident import marks
from include.soar.incident.clean import Link, clean
from include.soar.incident.inputs import SHIPPED, Asking, InForce, Note, State, Templates
from include.soar.incident.selections import (
    actions_of,
    answer_words,
    concerns,
    in_force_of,
    observed_in,
    refusals_of,
)
from include.soar.model import Action, CaseBatch, Decision, Finding, Indicator, Observable, digest

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = [
    "Asking",
    "InForce",
    "Link",
    "Note",
    "State",
    "Templates",
    "actions_of",
    "answer_words",
    "concerns",
    "description",
    "duplicate_note",
    "environment",
    "observed_in",
    "question",
    "refusals_of",
    "related_comment",
    "response_note",
    "state_reference",
    "state_report",
    "title",
]


def environment(folders: Sequence[Path] = ()) -> Environment:
    """The Jinja2 environment of the texts: the shipped templates, and those of ``folders`` laid over them by name."""
    from include.soar.incident import render

    return render.environment(folders)


# --- titles -------------------------------------------------------------------------------------------------


def title(finding: Finding, source: str, mark: str, *, limit: int = 200) -> str:
    """
    ``source: what happened [TR-…]``. Plain text; angle and square brackets of foreign text are exchanged, so that
    it neither becomes markup in a careless view nor forges a mark. No template: the mark must be found again.
    """
    foreign = clean(f"{source}: {finding.title}", limit).translate(str.maketrans("<>[]", "‹›()"))
    suffix = f" [{mark}]"
    return clean(foreign, limit - len(suffix)) + suffix


# --- the incident's description -----------------------------------------------------------------------------


def description(
    case: CaseBatch,
    decision: Decision,
    finding: Finding,
    *,
    source: str,
    mark: str,
    templates: Templates = SHIPPED,
) -> str:
    """What happened, what was seen, what is thought of it. HTML, written once when the incident is opened."""
    from include.soar.incident import gather

    return templates.text(gather.description(case, decision, finding, source, mark))


# --- the comment on an older, related incident --------------------------------------------------------------


def related_comment(
    case: CaseBatch,
    decision: Decision,
    finding: Finding,
    *,
    incident: Link,
    shared: Sequence[Observable],
    reference: str,
    templates: Templates = SHIPPED,
) -> str:
    """
    The new findings, for an older incident that shares indicators with them.

    :param incident: the new incident
    :param reference: by which a repeated run finds the comment
    """
    from include.soar.incident import gather

    view = gather.related_comment(case, decision, finding, incident, shared, reference)
    return templates.text(view, must_show=reference)


def duplicate_note(name: str, *, templates: Templates = SHIPPED) -> str:
    """
    Why a second incident of one event is closed.

    :param name: the incident that is kept
    """
    from include.soar.incident.views import DuplicateNote

    return templates.text(DuplicateNote(name))


# --- the state report ---------------------------------------------------------------------------------------


def state_reference(
    case: CaseBatch,
    decision: Decision,
    finding: Finding,
    actions: Sequence[Action],
    in_force: Sequence[InForce] = (),
) -> str:
    """
    The mark of a state report: a digest of what is true, not of who said it when (and, of what was added to a finding
    later, of what it is about). The same state gives the same
    mark in every run. Who wrote it, the proof, the detail and the plan are not part of the state: the list's version,
    say, moves on with every other incident's block. Nor is who approved it: that is told once, see
    ``update_incidents``.
    """
    verdicts = {v.observable.key: v.standing.value for v in decision.verdicts}
    state: dict[str, Any] = {
        "actions": sorted(
            [
                a.control,
                a.verb.value,
                a.observable.key,
                a.outcome.value,
                _moment(a.expires_at),
            ]
            for a in actions
        ),
        "verdicts": sorted(
            [item.observable.key, verdicts.get(item.observable.key, "")] for item in observed_in(case, finding)
        ),
        "refusals": [[r.observable.key, r.layer, r.entry, r.reason] for r in refusals_of(decision, finding)],
    }
    if still := in_force_of(decision, finding, in_force)[1]:
        state["in_force"] = [[r.observable.key, one.control, _moment(one.until)] for one, r in still]
    if rungs := sorted([i.observable.key, i.rung.value] for i in decision.indicators if _is_of(i, finding) and i.rung):
        state["rungs"] = rungs
    if held := sorted(i.observable.key for i in decision.held if finding.uid in i.finding_uids):
        state["held"] = held
    return marks.state_reference(finding.uid, finding.grown_at, digest(state))


def _moment(at: datetime | None) -> str:
    return at.isoformat() if at else ""


def _is_of(indicator: Indicator, finding: Finding) -> bool:
    return finding.uid in indicator.finding_uids


def state_report(
    case: CaseBatch, decision: Decision, finding: Finding, state: State, *, templates: Templates = SHIPPED
) -> str:
    """
    What was found, what was done where with what proof and until when, what failed, what is pending, what was
    refused and why, who gave no answer.
    """
    from include.soar.incident import gather

    view = gather.state_report(case, decision, finding, state)
    return templates.text(view, must_show=state.reference)


def response_note(note: Note, *, templates: Templates = SHIPPED) -> str:
    """What became of blocks after the run that made them: lifted, expired, made by hand, taken off by somebody."""
    from include.soar.incident import gather

    return templates.text(gather.response_note(note), must_show=note.reference)


def question(decision: Decision, asking: Asking, *, templates: Templates = SHIPPED) -> tuple[str, str]:
    """What a person is asked when blocks are held: the subject, and the rest in Markdown."""
    from include.soar.incident import gather  # when it is asked, not when the DAG is read

    body = templates.text(gather.question(decision, asking))
    return f"Which of {len(decision.held)} held values may be acted on?", body
