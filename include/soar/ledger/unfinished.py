"""Findings that a later run has to finish, since an answer was missing when they were decided."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select

from include.soar.enrich.sift import Unfinished
from include.soar.ledger.database import Part, chunks
from include.soar.ledger.tables import (
    UnfinishedRow,
)
from include.soar.model import (
    Finding,
)


class UnfinishedFindings(Part):
    """Which findings are left, since when, and from when asking again may help."""

    def due(self, *, now: datetime, since: datetime, limit: int) -> list[Finding]:
        """Findings that asking again may finish now, the oldest first, without those left before ``since``."""
        query = (
            select(UnfinishedRow)
            .where(UnfinishedRow.retry_at <= now, UnfinishedRow.since >= since)
            .order_by(UnfinishedRow.since, UnfinishedRow.finding_uid)
            .limit(limit)
        )
        with self._database.reading() as session:
            return [Finding.model_validate(row.finding) for row in session.scalars(query)]

    def of(self, uids: Sequence[str]) -> list[Finding]:
        """Those of these findings that are left, due or not."""
        found: list[Finding] = []
        with self._database.reading() as session:
            for part in chunks(uids):
                query = select(UnfinishedRow).where(UnfinishedRow.finding_uid.in_(part))
                found += [Finding.model_validate(row.finding) for row in session.scalars(query)]
        return found

    def record(
        self, left: Sequence[Unfinished], *, done: Sequence[str], give_up_before: datetime, now: datetime
    ) -> int:
        """
        Store what a run could not finish, and delete what it could.

        :param done: uids of findings that are complete
        :param give_up_before: delete what has been unfinished since before then
        :return: how many were given up
        """
        rows = [
            {
                "finding_uid": one.finding.uid,
                "since": now,
                "retry_at": one.retry_at,
                "providers": list(one.providers),
                "finding": one.finding.to_json(),
            }
            for one in left
        ]
        with self._database.session() as session:
            if rows:
                self._database.upsert(session, UnfinishedRow, rows, keep={"since"})
            for part in chunks(done):
                session.execute(delete(UnfinishedRow).where(UnfinishedRow.finding_uid.in_(part)))
            old = select(UnfinishedRow).where(UnfinishedRow.since < give_up_before)
            given_up = list(session.scalars(old))
            for row in given_up:
                session.delete(row)
            return len(given_up)
