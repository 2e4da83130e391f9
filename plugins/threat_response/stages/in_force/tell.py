"""The incidents concerned are told what became of blocks after the run that made them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context, TriggerRule

from include.soar.incident import marks
from include.soar.model import SCHEMA_VERSION, Action, ActionBatch, Outcome, Verb
from include.soar.vendor.errors import Rejected, VendorError, one_line
from threat_response.runtime import settings
from threat_response.runtime.alone import alone
from threat_response.runtime.run import Run
from threat_response.stages.base import Failures, StageOperator
from threat_response.stages.incident_system import COMMENT_LEASE, State, comment_once, incident_system

if TYPE_CHECKING:
    from include.soar.incident.clean import Link
    from include.soar.ledger import Ledger
    from threat_response.stages.incident_system import IncidentSystem

#: What ends a time in force, in the ledger's log.
ENDINGS = frozenset({Outcome.LIFTED.value, Outcome.GONE.value, Outcome.NOT_OURS.value})


@dataclass
class Telling:
    """
    One task's or command's telling.

    :param by: who wanted it; empty: nobody but the project itself
    :param told: by incident, what became of its comment
    """

    system: IncidentSystem
    ledger: Ledger
    claimant: str
    run: Link
    by: str = ""
    because: str = ""
    told: dict[str, str] = field(default_factory=dict)
    failures: Failures = field(default_factory=Failures)

    def tell(self, actions: Sequence[Action]) -> list[Action]:
        """
        Tell each incident concerned of its actions, once.

        :return: the actions of which no incident is known
        """
        by_incident: dict[str, list[Action]] = {}
        orphans = []
        for action in actions:
            ids = incidents_of(self.ledger, action)
            for id in ids:
                by_incident.setdefault(id, []).append(action)
            if not ids:
                orphans.append(action)
        for id, mine in sorted(by_incident.items()):
            try:
                if self.failures.stopped_by:
                    raise self.failures.stopped_by
                self.told[id] = self._tell_one(id, mine)
                self.failures.recovered()
            except VendorError as error:
                self.failures.add(error)
                self.told[id] = f"failed: {error}"
        return orphans

    def _tell_one(self, id: str, actions: Sequence[Action]) -> str:
        from include.soar.incident import texts

        # Neither the words nor the proof, which a later try may give differently.
        mark = marks.note_reference(id, [_state(action) for action in actions])
        note = texts.Note(actions, self.run, settings.now(), mark, self.by, self.because)
        markup = texts.response_note(note, templates=settings.incident_templates())
        markup = marks.signed(markup, mark, word="ref")
        where, doing = self.system.name, f"commenting on {id}"
        name, lease = f"comment:{id}", COMMENT_LEASE
        with alone(self.ledger, name, by=self.claimant, where=where, doing=doing, lease=lease) as hold:
            case = self.system.get(id)
            if case is None:
                raise Rejected(self.system.name, "get", f"incident {id} does not exist any more")
            if case.state is State.MERGED:
                return "passed over: merged by an analyst, so it is read-only"
            added = comment_once(
                self.system, id, markup, lambda found: any(marks.noted(c.text) == mark for c in found), hold=hold
            )
        return "comment added" if added else "comment is there already"


def _state(action: Action) -> tuple[str, ...]:
    ends = action.expires_at.isoformat() if action.expires_at else ""
    # Removed now, or found removed by the try before: it is the same.
    gone = action.outcome in (Outcome.LIFTED, Outcome.GONE)
    return action.control, action.observable.key, "gone" if gone else action.outcome.value, ends


def incidents_of(ledger: Ledger, action: Action) -> list[str]:
    """The product's ids of the incidents that told of what was in force until this action, in order."""
    names: set[str] = set()
    last: set[str] = set()
    for event in ledger.actions.events(observable=action.observable, control=action.control):
        names |= set(event.incidents)
        if event.verb == Verb.LIFT and event.outcome in ENDINGS and names:
            last, names = names, set()
    chosen = names or last
    if not chosen:
        return _by_verdict(ledger, action)
    known = ledger.incidents.named(sorted(chosen))
    return sorted({known.get(name, name) for name in chosen})


def _by_verdict(ledger: Ledger, action: Action) -> list[str]:
    """By the findings of the last verdict about the value."""
    row = ledger.verdicts.latest(action.observable, at=settings.now())
    plan: Mapping[str, Any] = row.plan or {} if row else {}
    found = (ledger.incidents.get(marks.marker(uid)) for uid in plan.get("finding_uids", ()))
    return sorted({incident.unique_id for incident in found if incident is not None})


class TellIncidents(StageOperator):
    """
    Tell the incidents concerned what became of blocks: lifted, gone at their end, left to a person who changed them,
    or still there. One comment for each incident and state.

    :param actions: ``ActionBatch`` by control; None for one that gave none (templated)
    :param asked: what a person asked for (``asked.py``); None: nobody did (templated)
    :return: per incident what became of its comment
    """

    template_fields: Sequence[str] = ("actions", "asked")

    def __init__(self, *, actions: Any, asked: Any = None, **kwargs: Any) -> None:
        # One control that fails must not keep the incidents from being told of the others.
        kwargs.setdefault("trigger_rule", TriggerRule.ALL_DONE)
        super().__init__(**kwargs)
        self.actions = actions
        self.asked = asked

    def execute(self, context: Context) -> dict[str, Any]:
        from include.soar.incident.clean import Link

        actions = list(_changes(self.actions))
        if not actions:
            self.log.info("Nothing has changed: nobody is told")
            return {"schema_version": SCHEMA_VERSION, "told": {}}
        run, ledger, asked = Run.of(context), settings.ledger(), self.asked or {}
        try:
            system = incident_system(self.vendor, self.conn_id, writes_allowed=True)
            telling = Telling(
                system,
                ledger,
                run.claimant,
                Link(run.name, run.url),
                by=asked.get("by", ""),
                because=asked.get("reason", ""),
            )
            for action in telling.tell(actions):
                self.log.warning("%s: no incident is known that told of it", one_line(action.observable.key))
        finally:
            ledger.close()
        for id, outcome in telling.told.items():
            self.log.info("incident %s: %s", one_line(id), one_line(outcome))
        told = {"schema_version": SCHEMA_VERSION, "told": telling.told}
        return self.finish(context, told, telling.failures.errors)


def _changes(batches: Mapping[str, Any] | None) -> Iterable[Action]:
    for _, batch in sorted((batches or {}).items()):
        if batch is not None:
            for action in ActionBatch.model_validate(batch).actions:
                if action.outcome is not Outcome.PLANNED:
                    yield action
