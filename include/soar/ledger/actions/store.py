"""The log of the actions, and the state that follows from it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from include.soar.gate.gate import Gate
from include.soar.gate.layers import Hit
from include.soar.ledger.actions.entries import Entry, advance
from include.soar.ledger.actions.log import ENTRY, EVENT, ActionLog, rows_of
from include.soar.ledger.actions.moments import moments
from include.soar.ledger.actions.records import InForce, Kind, KnownAction
from include.soar.ledger.chain import Chain
from include.soar.ledger.database import chunks
from include.soar.ledger.tables import ActionEventRow, ActionRow, EntryRow
from include.soar.model import (
    IN_FORCE,
    Action,
    ActionBatch,
    Observable,
    ObservableType,
    Outcome,
    Reached,
    Rung,
    Verb,
    storable,
)

log = logging.getLogger("threat_response")

#: Readable ids of the incidents that tell of an action, by observable key.
Incidents = Mapping[str, Sequence[str]]
#: How far an action is proved by its outcome alone, where the control does not say.
_REACHED = {
    Outcome.BLOCKED: Reached.ACTIVE,
    Outcome.DETECT_ONLY: Reached.ACTIVE,
    Outcome.WATCHED: Reached.ACTIVE,
    Outcome.PENDING: Reached.ACCEPTED,
    Outcome.LIFTED: Reached.GONE,
    Outcome.GONE: Reached.GONE,
}
#: As the column has it.
_LONGEST_NAME = 200


class Actions(ActionLog):
    """
    What was done, as events in a chain of hashes (``action_events``); the last report of each control about each
    observable (``actions``); and what of ours is in force there, or may be (``entries``).
    """

    # --- write --------------------------------------------------------------------------------------------

    def intend(
        self,
        control: str,
        actions: Sequence[Action],
        *,
        run_id: str,
        now: datetime,
        by: str = "",
        reason: str = "",
        incidents: Incidents | None = None,
    ) -> None:
        """
        Write down what is about to be asked of a control, before it is: if the task dies, what may be there is known.

        :param actions: with the verb, the rung and the end that each is to get; the outcome does not count
        :param by: the person who wants it; empty: the workflow by itself
        """
        intents = [
            action.model_copy(update={"control": control, "outcome": Outcome.PENDING, "reached": Reached.INTENDED})
            for action in actions
        ]
        self._record(Kind.INTENDED, intents, run_id=run_id, now=now, by=by, reason=reason, incidents=incidents)

    def record(
        self,
        batch: ActionBatch,
        *,
        run_id: str,
        now: datetime,
        by: str = "",
        reason: str = "",
        incidents: Incidents | None = None,
    ) -> None:
        """
        Store what a control reports of its actions. A try that failed does not end what is known to be in force; only
        what is ``lifted``, ``gone`` or has ``reached`` the end of the ladder is.

        :param by: the person who wants it; empty: the workflow by itself. A lift by a person is remembered
            (:meth:`lifted`)
        """
        actions = [
            action.model_copy(
                update={"control": batch.control, "reached": action.reached or _REACHED.get(action.outcome)}
            )
            for action in batch.actions
        ]
        self._record(Kind.REPORTED, actions, run_id=run_id, now=now, by=by, reason=reason, incidents=incidents)

    def answered(
        self, observables: Sequence[Observable], *, approved: bool, run_id: str, by: str, reason: str, now: datetime
    ) -> None:
        """
        Store what a person answered about these.

        :param by: who; without an answer in time ``""``, and the reason says so
        """
        outcome = "approved" if approved else "declined"
        more = {"verb": "approve", "outcome": outcome, "run_id": run_id, "by": by, "reason": reason, "at": now}
        if approved:
            more["approved_at"] = now
        self._add([_event(Kind.ANSWERED, "", observable, **more) for observable in observables])

    def lifts_wanted(
        self, observables: Sequence[Observable], *, by: str, reason: str, run_id: str, now: datetime
    ) -> None:
        """Remember that a person wants them lifted everywhere, also where nothing of ours is. Once for each run."""
        query = select(*EVENT).where(EVENT.kind == Kind.LIFTED.value, EVENT.run_id == run_id)
        known = {key for key, _ in self._by_observable(query, observables)}
        more = {"verb": Verb.LIFT.value, "outcome": Outcome.LIFTED.value, "run_id": run_id}
        new = {one.key: one for one in observables if one.key not in known}
        self._add([_event(Kind.LIFTED, "", one, by=by, reason=reason, at=now, **more) for one in new.values()])

    def removed_by_person(self, control: str, key: str, *, at: datetime, detail: str, run_id: str = "") -> bool:
        """
        Store that a control saw that ours is gone before its end, or was changed by somebody else.

        :return: False: nothing of ours is known to be there, so nothing was stored; what was stored before stands
        """
        with self._writing() as (session, append):
            entry = _entries(session, {control: {key}}).get((control, key))
            if entry is None:
                return False
            more = {name: entry[name] for name in ("value", "verb", "rung", "proof", "expires_at", "incidents")}
            by = f"somebody at {control}"
            event = _event(Kind.REMOVED, control, key, by=by, reason=detail, detail=detail, run_id=run_id, at=at)
            append([event | more | {"verb": Verb.LIFT.value, "outcome": Outcome.NOT_OURS.value}])
            return True

    def cancel_protected(self, gate: Gate, *, run_id: str, now: datetime) -> list[tuple[ActionRow, Hit]]:
        """
        Mark what is in force, or may be, and what the gate protects now, and return it with the reason. Each is
        returned once, since it is then ``cancelled`` until a person or the control says otherwise.
        """
        query = select(*ENTRY).where(ENTRY.cancelled == "", or_(ENTRY.expires_at.is_(None), ENTRY.expires_at > now))
        hits: dict[tuple[str, str], Hit] = {}
        with self._database.reading() as session:
            for entry in rows_of(session, query):
                observable = _observable(entry)
                if observable is not None and (hit := gate.check(observable)):
                    hits[entry["control"], entry["observable"]] = hit
        found: list[tuple[ActionRow, Hit]] = []
        if not hits:
            return found
        with self._writing() as (session, append):
            # Again, since another run may have been here in the meantime.
            there = _entries(session, _by_control(hits))
            left = [(entry, hits[place]) for place, entry in sorted(there.items()) if not entry["cancelled"]]
            events = []
            for entry, hit in left:
                more = {name: entry[name] for name in ("value", "verb", "rung", "reached", "proof", "expires_at")}
                detail = f"was {entry['outcome']}; {hit.reason}"
                event = _event(Kind.CANCELLED, entry["control"], entry["observable"], detail=detail, at=now, **more)
                events.append(event | {"outcome": Outcome.CANCELLED.value, "run_id": run_id})
            append(events)
            found = [(ActionRow(**_state(event)), hit) for event, (_, hit) in zip(events, left, strict=True)]
        return found

    def _record(
        self,
        kind: Kind,
        actions: Sequence[Action],
        *,
        run_id: str,
        now: datetime,
        by: str,
        reason: str,
        incidents: Incidents | None,
    ) -> None:
        if not actions:
            return
        counting = {action.observable.key for action in actions if action.outcome in IN_FORCE}
        with self._database.reading() as session:
            known = moments(session, run_id, counting)
        self._add(
            [
                {
                    **_event(kind, action.control, action.observable, at=now, run_id=run_id, by=by, reason=reason),
                    "verb": action.verb.value,
                    "outcome": action.outcome.value,
                    "rung": action.rung.value if action.rung else None,
                    "reached": action.reached.value if action.reached else None,
                    "changed": action.changed,
                    "detail": action.detail,
                    "proof": dict(action.proof),
                    "expires_at": action.expires_at,
                    "incidents": [storable(id) for id in (incidents or {}).get(action.observable.key, ())],
                    **known.get(action.observable.key, {}),
                }
                for action in actions
            ]
        )

    def _add(self, events: Sequence[dict[str, Any]]) -> None:
        if events:
            with self._writing() as (_, append):
                append(events)

    @contextmanager
    def _writing(self) -> Iterator[tuple[Session, Callable[[Sequence[dict[str, Any]]], None]]]:
        """A transaction, alone with the chain, and what adds events to it and to the state."""
        with self._database.session() as session:
            events = Chain(session, ActionEventRow)
            start = events.head

            def append(rows: Sequence[dict[str, Any]]) -> None:
                events.append(rows)
                self._follow(session, rows)

            yield session, append
            head = events.head
        if head != start:
            # The log of a task is kept elsewhere than the ledger: a chain that is made anew does not have this hash.
            log.info("Ledger: action_events now has %s", head)

    def _follow(self, session: Session, events: Sequence[Mapping[str, Any]]) -> None:
        """Bring the state to what follows from these events."""
        places = [(event["control"], event["observable"]) for event in events if event["control"]]
        before = _entries(session, _by_control(places))
        after: dict[tuple[str, str], Entry | None] = dict(before)
        states: list[dict[str, Any]] = []
        for event in events:
            place = (event["control"], event["observable"])
            if not event["control"]:
                continue
            after[place] = advance(after.get(place), event)
            if event["kind"] in (Kind.REPORTED, Kind.CANCELLED):
                states.append(_state(event))
        if states:
            self._database.upsert(session, ActionRow, states, keep=set())
        if changed := [entry for place, entry in after.items() if entry and entry != before.get(place)]:
            self._database.upsert(session, EntryRow, changed, keep=set())
        for control, keys in _by_control([place for place, entry in after.items() if entry is None]).items():
            for part in chunks(sorted(keys)):
                session.execute(delete(EntryRow).where(ENTRY.control == control, ENTRY.observable.in_(part)))

    # --- the state ----------------------------------------------------------------------------------------

    def in_force(self, control: str) -> dict[str, KnownAction]:
        """
        What of ours does, or may soon do, something at a control, by observable key. What is past its end too, until
        it was seen gone.
        """
        query = select(*ENTRY).where(ENTRY.control == control, ENTRY.outcome.in_(sorted(IN_FORCE)))
        with self._database.reading() as session:
            return {entry["observable"]: _known(entry) for entry in rows_of(session, query)}

    def rows_in_force(self, now: datetime, control: str | None = None, *, doubtful: bool = False) -> list[InForce]:
        """
        What of ours does, or may soon do, something, in the order of control and observable. What is past its end too,
        until it was seen gone.

        :param control: only this one's; None: of all
        :param doubtful: also what is not in force since its last write failed, and may be there nevertheless: for
            whoever looks at the control before it lifts
        """
        outcomes = {*IN_FORCE, Outcome.FAILED} if doubtful else IN_FORCE
        query = select(*ENTRY).where(ENTRY.outcome.in_(sorted(outcomes))).order_by(ENTRY.control, ENTRY.observable)
        if control:
            query = query.where(ENTRY.control == control)
        with self._database.reading() as session:
            entries = list(rows_of(session, query))
        return [one for entry in entries if (one := _in_force(entry, now))]

    def rows(self, control: str | None = None) -> list[ActionRow]:
        """
        The last report of each control about each observable.

        :param control: only this one's; None: of all
        """
        query = select(ActionRow).order_by(ActionRow.control, ActionRow.observable)
        if control:
            query = query.where(ActionRow.control == control)
        with self._database.reading() as session:
            return list(session.scalars(query))


def _event(kind: Kind, control: str, of: Observable | str, **more: Any) -> dict[str, Any]:
    """The columns of an event, without the chain's."""
    key = of if isinstance(of, str) else of.key
    made: dict[str, Any] = {column.name: "" for column in EVENT if column.name not in _NOT_OURS} | _EMPTY
    made |= {"kind": kind.value, "control": control, "observable": key}
    if isinstance(of, Observable) and Observable.of_key(key) is None:
        made["value"] = of.value
    made |= more
    made["by"] = storable(made["by"])[:_LONGEST_NAME]
    made["reason"] = storable(made["reason"])
    return made


_NOT_OURS = ("number", "prev_hash", "hash")
_EMPTY: dict[str, Any] = {
    **dict.fromkeys(
        ("rung", "reached", "expires_at", "detected_at", "read_at", "judged_at", "approved_at"),
    ),
    "changed": False,
    "proof": {},
    "incidents": [],
}


def _state(event: Mapping[str, Any]) -> dict[str, Any]:
    names = ("control", "observable", "verb", "outcome", "detail", "proof", "expires_at", "run_id", "rung", "reached")
    return {name: event[name] for name in names} | {"updated_at": event["at"]}


def _by_control(places: Any) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for control, key in places:
        found.setdefault(control, set()).add(key)
    return found


def _entries(session: Session, keys: Mapping[str, set[str]]) -> dict[tuple[str, str], Entry]:
    found: dict[tuple[str, str], Entry] = {}
    for control, wanted in keys.items():
        for part in chunks(sorted(wanted)):
            query = select(*ENTRY).where(ENTRY.control == control, ENTRY.observable.in_(part))
            for row in rows_of(session, query):
                found[control, row["observable"]] = row
    return found


def _observable(row: Mapping[str, Any]) -> Observable | None:
    """None: of a URL that is named by its hash a release before the events did not keep the value."""
    if row["value"]:
        return Observable(type=ObservableType(row["observable"].partition(":")[0]), value=row["value"])
    return Observable.of_key(row["observable"])


def _known(entry: Mapping[str, Any]) -> KnownAction:
    return KnownAction(
        outcome=Outcome(entry["outcome"]),
        expires_at=entry["expires_at"],
        run_id=entry["run_id"],
        proof=dict(entry["proof"]),
        verb=Verb(entry["verb"]),
        rung=Rung(entry["rung"]) if entry["rung"] else None,
        reached=Reached(entry["reached"]) if entry["reached"] else None,
        since=entry["since"],
        incidents=tuple(entry["incidents"]),
        intended_verb=Verb(entry["intended_verb"]) if entry["intended_verb"] else None,
        intended_until=entry["intended_until"],
        updated_at=entry["updated_at"],
        lifting=entry["lifting"],
    )


def _in_force(entry: Mapping[str, Any], now: datetime) -> InForce | None:
    observable = _observable(entry)
    if observable is None:
        return None
    return InForce(
        control=entry["control"],
        observable=observable,
        verb=Verb(entry["verb"]),
        outcome=Outcome(entry["outcome"]),
        rung=Rung(entry["rung"]) if entry["rung"] else None,
        reached=Reached(entry["reached"]) if entry["reached"] else None,
        since=entry["since"],
        expires_at=entry["expires_at"],
        incidents=tuple(entry["incidents"]),
        run_id=entry["run_id"],
        proof=dict(entry["proof"]),
        detail=entry["detail"],
        ended=entry["expires_at"] is not None and entry["expires_at"] <= now,
        cancelled=entry["cancelled"],
        lifting=entry["lifting"],
    )
