"""Which windows were read and decided, and to which window each finding belongs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from include.soar.ledger.database import Part, chunks
from include.soar.ledger.tables import (
    FindingRow,
    WindowRow,
)
from include.soar.model import (
    FetchBatch,
    Finding,
    Window,
)


class Windows(Part):
    """The windows of each source, and the findings that were read in them."""

    def record(self, batch: FetchBatch, *, run_id: str, now: datetime) -> None:
        """Store that a window was read; a repeated reading replaces the row."""
        row = {
            "source": batch.source,
            "start_at": batch.window.start_at,
            "end_at": batch.window.end_at,
            "chosen_by": batch.window.chosen_by,
            "run_id": run_id,
            "pages": batch.pages,
            "records": batch.records,
            "findings": len(batch.findings),
            "rejected": len(batch.rejected),
            "digest": batch.digest,
            "fetched_at": now,
        }
        with self._database.session() as session:
            self._database.upsert(session, WindowRow, [row], keep=set())

    def rows(self, source: str | None = None) -> list[WindowRow]:
        """:param source: only this one's; None: of all"""
        query = select(WindowRow).order_by(WindowRow.source, WindowRow.start_at)
        if source:
            query = query.where(WindowRow.source == source)
        with Session(self._database.engine, expire_on_commit=False) as session:
            return list(session.scalars(query))

    def first_start(self, source: str) -> datetime | None:
        """The start of the source's earliest window; None: none was read."""
        query = select(func.min(WindowRow.start_at)).where(WindowRow.source == source)
        with Session(self._database.engine) as session:
            return session.scalar(query)

    def first_decided_at(self, window: Window) -> datetime | None:
        """When a window was first decided; None: never."""
        query = select(func.min(WindowRow.first_decided_at)).where(
            WindowRow.start_at == window.start_at, WindowRow.end_at == window.end_at
        )
        with self._database.session() as session:
            return session.scalar(query)

    def record_decided(self, window: Window, *, now: datetime) -> None:
        """Store when a window was decided. Only the first time counts."""
        known = update(WindowRow).where(
            WindowRow.start_at == window.start_at,
            WindowRow.end_at == window.end_at,
            WindowRow.first_decided_at.is_(None),
        )
        with self._database.session() as session:
            session.execute(known.values(first_decided_at=now))

    def claim_findings(self, findings: Sequence[Finding], *, window_key: str, now: datetime) -> dict[str, str]:
        """
        Store which window read each finding first, and return that window's key by the finding's uid.

        A finding belongs for good to the first window that read it: a repeated window gets its own findings again, a
        later window whose overlap reads the same finding does not.
        """
        rows = [
            {
                "uid": f.uid,
                "source": f.source,
                "vendor_id": f.vendor_id[:512],
                "window_key": window_key,
                "severity": f.severity.value,
                "detected_at": f.detected_at,
                "first_seen_at": now,
            }
            for f in findings
        ]
        owners: dict[str, str] = {}
        with self._database.session() as session:
            if rows:
                self._database.upsert(session, FindingRow, rows, keep=set(rows[0]))
            for part in chunks([f.uid for f in findings]):
                query = select(FindingRow.uid, FindingRow.window_key).where(FindingRow.uid.in_(part))
                owners.update((uid, key) for uid, key in session.execute(query))
        return owners
