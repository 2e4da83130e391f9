"""Stage 9: each incident says what was found, what was done where, what failed, what is pending, what was refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from airflow.sdk import Context

from include.soar.incident import marks
from include.soar.model import (
    SCHEMA_VERSION,
    Action,
    ActionBatch,
    Finding,
    IncidentRef,
    Outcome,
    Relation,
    RelationBatch,
)
from include.soar.vendor.errors import Rejected, VendorError, one_line
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.stages.incident_system import Comment, IncidentWork, OpenedIncidentOperator, State, Words


class UpdateIncidents(OpenedIncidentOperator):
    """
    Each incident tells what was found, what was done where, what failed, what is pending and what was refused. Runs
    even when other stages failed.

    The comment bears a mark made of the state that it tells. A repeated run with the same state adds none, a changed
    state adds one.

    :param relations: the ``RelationBatch``, or None where that stage gave none (templated)
    :param actions: ``ActionBatch`` by control; None for one that gave none, which the incident then says (templated)
    :return: per incident what became of its comment and labels
    """

    template_fields: Sequence[str] = ("relations", "actions")

    def __init__(self, *, relations: Any = None, actions: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.relations = relations
        self.actions = actions

    def execute(self, context: Context) -> dict[str, Any]:
        opened, updates = self.opened(), []
        given = dict(self.actions or {})
        batches = {name: ActionBatch.model_validate(b) if b is not None else None for name, b in given.items()}
        related = RelationBatch.model_validate(self.relations).relations if self.relations is not None else ()
        with self.work(context) as work:
            updating = _Updating(work, Run.of(context), batches, related)
            for finding, ref in self.pairs(work, opened):
                update = updating.update(finding, ref)
                self.log.info(
                    "incident %s: %s; state %s; %s",
                    one_line(update["incident"]),
                    update["outcome"],
                    update["reference"],
                    ref.url or "no link",
                )
                updates.append(update)
        return self.finish(context, {"schema_version": SCHEMA_VERSION, "updates": updates}, work.failures.errors)


class _Updating:
    """
    One run's updating.

    :param batches: by control; None for one that gave none
    """

    def __init__(
        self, work: IncidentWork, run: Run, batches: dict[str, ActionBatch | None], related: Sequence[Relation]
    ) -> None:
        self.work = work
        self.run = run
        self.batches = [batch for batch in batches.values() if batch is not None]
        self.absent = sorted(name for name, batch in batches.items() if batch is None)
        self.related = related

    def update(self, finding: Finding, ref: IncidentRef) -> dict[str, str]:
        from include.soar.incident import texts

        id = str(ref.unique_id)
        actions = texts.actions_of(self.work.case, finding, self.batches)
        reference = texts.state_reference(self.work.case, self.work.decision, finding, actions)
        outcome = self._write(finding, id, actions, self._report(finding, id, actions, reference), reference)
        return {"incident": ref.readable_id or id, "unique_id": id, "reference": reference, "outcome": outcome}

    def _report(self, finding: Finding, id: str, actions: Sequence[Action], reference: str) -> str:
        from include.soar.incident import plain, texts
        from include.soar.incident.clean import Link

        work = self.work
        state = texts.State(
            actions=actions,
            relations=[r for r in self.related if r.incident_id == id],
            skipped=self.absent,
            run=Link(self.run.name, self.run.url),
            at=settings.now(),
            reference=reference,
        )
        markup = texts.state_report(work.case, work.decision, finding, state, templates=work.templates)
        markup = marks.signed(markup, reference, word="ref")
        if not work.system.writes_allowed:
            settings.log.info("would be added as a comment:\n%s", plain.render_text(markup))
        return markup

    def _write(self, finding: Finding, id: str, actions: Sequence[Action], markup: str, reference: str) -> str:
        """What became of the comment and the labels."""
        system, failures = self.work.system, self.work.failures
        try:
            if failures.stopped_by:
                raise failures.stopped_by
            with self.work.commenting(id) as hold:
                case = system.get(id)
                if case is None:
                    raise Rejected(system.name, "get", f"incident {id} does not exist any more")
                if case.state is State.MERGED:
                    return "passed over: merged by an analyst, so it is read-only"
                if not system.writes_allowed:
                    return "planned: a comment would be added"
                added = self.work.comment_once(id, markup, lambda found: tells(found, reference), hold=hold)
                labels = wanted_labels(case.labels, actions, system.words)
                if finding.grown_at and system.words.pending in case.labels and system.words.pending not in labels:
                    labels.append(system.words.pending)  # it speaks of blocks that are not of this report
                if labels != list(case.labels):
                    hold()
                    system.label(id, labels)
        except VendorError as error:
            failures.add(error)
            return f"failed: {error}"
        failures.recovered()
        told = "comment added" if added else "comment is there already"
        return told if labels == list(case.labels) else f"{told}, labels now {one_line(', '.join(labels))}"


def tells(comments: Iterable[Comment], reference: str) -> bool:
    """
    Whether the latest state report about the same (a finding, or what was added to one) is this one. A state that
    returns after another one is news again; where the product's comments have no time, any report of this state counts.
    """
    about = marks.subject(reference)
    told = [(c.created_at, mark) for c in comments if (mark := marks.state_told(c.text))]
    reports = [(created, mark) for created, mark in told if marks.subject(mark) == about]
    times = [created for created, _ in reports if created is not None]
    if len(times) < len(reports):
        return any(mark == reference for _, mark in reports)
    return any(mark == reference for created, mark in reports if created == max(times))


def wanted_labels(current: Sequence[str], actions: Sequence[Action], words: Words) -> list[str]:
    """
    The incident's labels with ours. "Pending" is taken off again once nothing is: it would be untrue.
    """
    outcomes = {action.outcome for action in actions}
    labels = list(current)
    for label, holds in ((words.blocked, Outcome.BLOCKED in outcomes), (words.pending, Outcome.PENDING in outcomes)):
        if holds and label not in labels:
            labels.append(label)
    if Outcome.PENDING not in outcomes:
        labels = [label for label in labels if label != words.pending]
    return labels
