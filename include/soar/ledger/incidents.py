"""Which incident each finding has, as we last knew it."""

from __future__ import annotations

from datetime import datetime

from include.soar.ledger.database import Part
from include.soar.ledger.tables import (
    IncidentRow,
)


class Incidents(Part):
    """References to incidents by marker: hints, to be verified at the vendor."""

    def get(self, marker: str) -> IncidentRow | None:
        """None: we know of no incident with this marker."""
        with self._database.reading() as session:
            return session.get(IncidentRow, marker)

    def record(self, marker: str, finding_uid: str, *, unique_id: str, readable_id: str | None, now: datetime) -> None:
        """Remember that the incident exists."""
        row = {
            "marker": marker,
            "finding_uid": finding_uid,
            "unique_id": unique_id,
            "readable_id": readable_id,
            "updated_at": now,
        }
        with self._database.session() as session:
            self._database.upsert(session, IncidentRow, [row], keep=set())
