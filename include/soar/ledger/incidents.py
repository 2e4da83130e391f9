"""Which incident each finding has."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from include.soar.ledger.database import Part
from include.soar.ledger.tables import (
    IncidentRow,
)


class Incidents(Part):
    def get(self, marker: str) -> IncidentRow | None:
        with Session(self._database.engine, expire_on_commit=False) as session:
            return session.get(IncidentRow, marker)

    def record(self, marker: str, finding_uid: str, *, unique_id: str, readable_id: str | None, now: datetime) -> None:
        """The incident exists: remember it."""
        row = {
            "marker": marker,
            "finding_uid": finding_uid,
            "unique_id": unique_id,
            "readable_id": readable_id,
            "updated_at": now,
        }
        with self._database.session() as session:
            self._database.upsert(session, IncidentRow, [row], keep=set())
