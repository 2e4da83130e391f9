"""Stage 9: each incident says what was found, what was done where, what failed, what is pending, what was refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context

from include.soar.incident import marks
from include.soar.model import (
    IN_FORCE,
    SCHEMA_VERSION,
    Action,
    ActionBatch,
    Decision,
    Finding,
    IncidentRef,
    Outcome,
    Relation,
    RelationBatch,
    Rung,
    Verb,
)
from include.soar.vendor.errors import Rejected, VendorError, one_line
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.stages.incident_system import Comment, IncidentWork, OpenedIncidentOperator, State, Words

#: What the log says last of an action that is in force no longer.
_ENDS = frozenset({Outcome.LIFTED, Outcome.GONE, Outcome.NOT_OURS})

if TYPE_CHECKING:
    from include.soar.incident.inputs import InForce


class UpdateIncidents(OpenedIncidentOperator):
    """
    Each incident tells what was found, what was done where, what failed, what is pending and what was refused. Runs
    even when other stages failed.

    The comment bears a mark made of the state that it tells. A repeated run with the same state adds none, a changed
    state adds one.

    It is in the DAG twice: once for what did not have to wait, and once more after a person has answered, for all.

    :param relations: the ``RelationBatch``, or None where that stage gave none (templated)
    :param actions: ``ActionBatch`` by control; None for one that gave none, which the incident then says (templated)
    :param approved: the ``Decision`` that a person's answer has led to, if any (templated)
    :param approved_actions: what the controls did about that, as ``actions`` (templated)
    :return: per incident what became of its comment and labels
    """

    template_fields: Sequence[str] = ("relations", "actions", "approved", "approved_actions")

    def __init__(
        self,
        *,
        relations: Any = None,
        actions: Any = None,
        approved: Any = None,
        approved_actions: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.relations = relations
        self.actions = actions
        self.approved = approved
        self.approved_actions = approved_actions

    def execute(self, context: Context) -> dict[str, Any]:
        opened, updates = self.opened(), []
        first = _batches(self.actions)
        if self.approved is not None:
            # The answer may have taken half a day, in which a person lifted something.
            first = {name: _as_it_is_now(batch) if batch else None for name, batch in first.items()}
        batches = _merged(first, _batches(self.approved_actions))
        related = RelationBatch.model_validate(self.relations).relations if self.relations is not None else ()
        with self.work(context) as work:
            if self.approved is not None:
                work.decision = _after(work.decision, Decision.model_validate(self.approved))
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


def _batches(given: Any) -> dict[str, ActionBatch | None]:
    return {name: ActionBatch.model_validate(b) if b is not None else None for name, b in dict(given or {}).items()}


def _as_it_is_now(batch: ActionBatch) -> ActionBatch:
    """What was in force when it was reported, and was lifted or removed since, as the ledger knows it now."""
    log = settings.ledger().actions
    actions = []
    for action in batch.actions:
        if action.outcome in IN_FORCE:
            events = log.events(observable=action.observable, control=batch.control)
            reports = [event for event in events if event.control and event.outcome in _ENDS]
            started = [event for event in events if event.control and event.outcome in IN_FORCE]
            if reports and (not started or reports[-1].number > started[-1].number):
                last = reports[-1]
                fields = {
                    "verb": Verb.LIFT,
                    "outcome": Outcome(last.outcome),
                    "reached": last.reached,
                    "changed": False,
                }
                action = action.model_copy(update=fields | {"detail": last.detail, "expires_at": None})
        actions.append(action)
    return batch.model_copy(update={"actions": tuple(actions)})


def _merged(first: dict[str, ActionBatch | None], then: dict[str, ActionBatch | None]) -> dict[str, ActionBatch | None]:
    """By control, what it did last about each value. One that was not needed the second time is not missing."""
    merged = dict(first)
    for name, later in then.items():
        before = merged.get(name)
        if later is None or before is None:
            merged[name] = later or before
            continue
        again = {action.observable for action in later.actions}
        kept = [action for action in before.actions if action.observable not in again]
        merged[name] = later.model_copy(update={"actions": (*kept, *later.actions)})
    return merged


def _after(before: Decision, answer: Decision) -> Decision:
    """The whole decision: what did not wait, and what was approved."""
    again = {indicator.observable for indicator in answer.indicators}
    kept = [indicator for indicator in before.indicators if indicator.observable not in again]
    # By the keys it is told which of the two an indicator is.
    keys = tuple(sorted(observable.key for observable in again))
    approval = answer.approval.model_copy(update={"chosen": keys}) if answer.approval else None
    return answer.model_copy(update={"indicators": (*kept, *answer.indicators), "approval": approval})


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

        id, work = str(ref.unique_id), self.work
        actions = texts.actions_of(work.case, finding, self.batches)
        reference = texts.state_reference(work.case, work.decision, finding, actions, self._in_force(finding))
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
            in_force=self._in_force(finding),
        )
        markup = texts.state_report(work.case, work.decision, finding, state, templates=work.templates)
        markup = marks.signed(markup, reference, word="ref")
        if not work.system.writes_allowed:
            settings.log.info("would be added as a comment:\n%s", plain.render_text(markup))
        return markup

    def _in_force(self, finding: Finding) -> list[InForce]:
        from include.soar.incident import texts

        keys = {item.observable.key for item in texts.observed_in(self.work.case, finding)}
        return [there for there in self._there if there.observable.key in keys]

    @cached_property
    def _there(self) -> list[InForce]:
        """What the ledger knows to be in force of what this run refuses: such a value is not "not blocked"."""
        from include.soar.incident.inputs import InForce

        refused = {refusal.observable.key for refusal in self.work.decision.refusals}
        rows = self.work.ledger.actions.rows_in_force(settings.now()) if refused else []
        return [
            InForce(
                observable=row.observable,
                control=row.control,
                since=row.since,
                until=row.expires_at,
                rung=row.rung or (Rung.WATCH if row.verb is Verb.WATCH else None),
            )
            for row in rows
            if row.observable.key in refused and not row.ended
        ]

    def _must_say(self, finding: Finding) -> str:
        """Who answered when is no part of the state, but every incident that it concerns must have said it once."""
        from include.soar.incident import texts
        from include.soar.incident.clean import when

        approval = self.work.decision.approval
        return when(approval.at) if approval and texts.concerns(self.work.decision, finding) else ""

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
                words = self._must_say(finding)
                added = self.work.comment_once(id, markup, lambda found: tells(found, reference, words), hold=hold)
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


def tells(comments: Iterable[Comment], reference: str, words: str = "") -> bool:
    """
    Whether the latest state report about the same (a finding, or what was added to one) is this one. A state that
    returns after another one is news again; where the product's comments have no time, any report of this state counts.

    :param words: what it must say besides
    """
    about = marks.subject(reference)
    told = [(c.created_at, c.text, mark) for c in comments if (mark := marks.state_told(c.text))]
    reports = [one for one in told if marks.subject(one[2]) == about]
    same = [(created, text) for created, text, mark in reports if mark == reference and words in text]
    times = [created for created, *_ in reports if created is not None]
    if len(times) < len(reports):
        return bool(same)
    return any(created == max(times) for created, _ in same)


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
