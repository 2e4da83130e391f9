"""What the log of the actions tells, and whether it is as it was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Select, and_, inspect, or_, select
from sqlalchemy.orm import Session

from include.soar.ledger import chain
from include.soar.ledger.actions import past
from include.soar.ledger.actions.entries import Entry, advance
from include.soar.ledger.actions.records import ActionEvent, Kind, Lifted
from include.soar.ledger.actions.times import Timing, timings
from include.soar.ledger.chain import Head
from include.soar.ledger.database import Part, chunks
from include.soar.ledger.tables import ActionEventRow, EntryRow
from include.soar.model import Observable, Reached, Rung, Verb

EVENT = inspect(ActionEventRow).local_table.c
ENTRY = inspect(EntryRow).local_table.c


class ActionLog(Part):
    """Reads the log of the actions."""

    def events(
        self,
        *,
        observable: Observable | str | None = None,
        control: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[ActionEvent]:
        """
        The log in its order.

        :param observable: or its key
        :param control: with what is about all of them
        :param since: start of the period, included
        :param until: its end, excluded
        """
        query = select(*EVENT).order_by(EVENT.number)
        if observable is not None:
            key = observable.key if isinstance(observable, Observable) else observable
            query = query.where(EVENT.observable == key)
        if control is not None:
            query = query.where(EVENT.control.in_([control, ""]))
        query = query.where(EVENT.at >= since) if since else query
        query = query.where(EVENT.at < until) if until else query
        with self._database.reading() as session:
            return [_as_event(row) for row in rows_of(session, query)]

    def lifted(self, observables: Sequence[Observable], control: str | None = None) -> dict[str, Lifted]:
        """
        Which of these a person lifted or removed last, after which no new sighting acted, by observable key.

        :param control: without what was removed at other controls only
        """
        counts = and_(EVENT.verb == Verb.LIFT.value, EVENT.by != "")
        acts = and_(EVENT.verb != Verb.LIFT.value, EVENT.kind == Kind.INTENDED.value)
        query = select(*EVENT).where(or_(counts, acts))
        found = {key: past.lifted(events, control) for key, events in self._by_observable(query, observables)}
        return {key: one for key, one in found.items() if one}

    def repetitions(
        self,
        observables: Sequence[Observable],
        *,
        since: datetime,
        seen_at: Mapping[str, datetime] = MappingProxyType({}),
    ) -> dict[str, list[datetime]]:
        """
        When each block of these began, from a time on, in order, by observable key; one that is still in force as well.

        What several controls do at the same time, or without a gap, is one block. One that was taken back before its
        end, by a person or by us, does not count.

        :param seen_at: by observable key: without a block that ran at this time
        """
        query = select(*EVENT).where(EVENT.kind != Kind.ANSWERED.value)
        found = {
            key: [at for at in past.starts(events, seen_at=seen_at.get(key)) if at >= since]
            for key, events in self._by_observable(query, observables)
        }
        return {key: starts for key, starts in found.items() if starts}

    def timings(self, *, since: datetime | None = None, until: datetime | None = None) -> list[Timing]:
        """How long what came into force in this period took, by part. See ``percentiles``."""
        return timings(self.events(since=since, until=until))

    def _by_observable(
        self, query: Select[Any], observables: Sequence[Observable]
    ) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
        keys = sorted({observable.key for observable in observables})
        for part in chunks(keys):
            ordered = query.where(EVENT.observable.in_(part)).order_by(EVENT.observable, EVENT.number)
            by_key: dict[str, list[Mapping[str, Any]]] = {}
            with self._database.reading() as session:
                for row in rows_of(session, ordered):
                    by_key.setdefault(row["observable"], []).append(row)
            yield from by_key.items()

    # --- the chain ----------------------------------------------------------------------------------------

    def head(self) -> Head:
        """The end of the chain, to be noted outside of the ledger."""
        with self._database.reading() as session:
            return chain.head(session, ActionEventRow)

    def number_of(self, hash: str) -> int | None:
        """Which row has this hash; None: none has."""
        with self._database.reading() as session:
            return session.scalar(select(EVENT.number).where(EVENT.hash == hash))

    def verify(self) -> list[str]:
        """What is wrong with the chain and with the state that follows from it, in words. Empty: it is intact."""
        entries: dict[tuple[str, str], Entry | None] = {}

        def followed(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
            for row in rows:
                if row["control"]:
                    place = (row["control"], row["observable"])
                    entries[place] = advance(entries.get(place), row)
                yield row

        with self._database.snapshot() as session:
            problems = list(chain.broken(session, ActionEventRow, followed(chain.read(session, ActionEventRow))))
            stored = {(row["control"], row["observable"]): row for row in rows_of(session, select(*ENTRY))}
        expected = {place: entry for place, entry in entries.items() if entry}
        for control, key in sorted(expected.keys() | stored.keys()):
            if expected.get((control, key)) != stored.get((control, key)):
                problems.append(f"entries {control} {key}: is not what follows from action_events")
        return problems


def rows_of(session: Session, query: Select[Any]) -> Iterator[dict[str, Any]]:
    for row in session.execute(query).mappings():
        yield dict(row)


def _as_event(row: Mapping[str, Any]) -> ActionEvent:
    fields = {name: value for name, value in row.items() if name not in ("value", "prev_hash")}
    return ActionEvent(
        **fields
        | {
            "kind": Kind(row["kind"]),
            "rung": Rung(row["rung"]) if row["rung"] else None,
            "reached": Reached(row["reached"]) if row["reached"] else None,
            "incidents": tuple(row["incidents"]),
        }
    )
