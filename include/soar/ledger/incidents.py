"""Which incident each finding has, as we last knew it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import or_, select

from include.soar.ledger.database import Part, chunks
from include.soar.ledger.tables import (
    CaseTimeRow,
    IncidentRow,
)

#: As the columns have it. A product's longer id is not remembered, and read each time.
LONGEST_ID = 200
LONGEST_INCIDENTS_ID = LONGEST_NAME = 64


class Incidents(Part):
    """References to incidents by marker: hints, to be verified at the vendor."""

    def get(self, marker: str) -> IncidentRow | None:
        """None: we know of no incident with this marker."""
        with self._database.reading() as session:
            return session.get(IncidentRow, marker)

    def record(self, marker: str, finding_uid: str, *, unique_id: str, readable_id: str | None, now: datetime) -> None:
        """Remember that the incident exists. One with a longer id is not remembered: it is a hint only."""
        if len(unique_id) > LONGEST_INCIDENTS_ID:
            return
        row = {
            "marker": marker,
            "finding_uid": finding_uid,
            "unique_id": unique_id,
            "readable_id": readable_id[:LONGEST_NAME] if readable_id else readable_id,
            "updated_at": now,
        }
        with self._database.session() as session:
            self._database.upsert(session, IncidentRow, [row], keep=set())

    def named(self, names: Sequence[str]) -> dict[str, str]:
        """The product's ids of incidents that people know by these names, of those that we remember."""
        found: dict[str, str] = {}
        with self._database.reading() as session:
            for part in chunks(sorted(set(names))):
                query = select(IncidentRow).where(
                    or_(IncidentRow.readable_id.in_(part), IncidentRow.unique_id.in_(part))
                )
                for row in session.scalars(query):
                    found[row.readable_id or row.unique_id] = row.unique_id
        return found

    def created_at(self, system: str, ids: Sequence[str]) -> dict[str, datetime]:
        """When the product created these incidents, by id, of those that :meth:`remember_created` was told."""
        known: dict[str, datetime] = {}
        with self._database.reading() as session:
            for part in chunks(ids):
                query = select(CaseTimeRow.unique_id, CaseTimeRow.created_at).where(
                    CaseTimeRow.system == system, CaseTimeRow.unique_id.in_(part)
                )
                for id, at in session.execute(query):
                    known[id] = at
        return known

    def remember_created(self, system: str, times: Mapping[str, datetime]) -> None:
        """
        :param times: by the product's id and clock
        """
        rows = [
            {"system": system, "unique_id": id, "created_at": at} for id, at in times.items() if len(id) <= LONGEST_ID
        ]
        if rows:
            with self._database.session() as session:
                self._database.upsert(session, CaseTimeRow, rows, keep=set())
