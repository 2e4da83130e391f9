"""Which windows were read and decided, and to which window each finding belongs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, func, not_, or_, select, update
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

#: How long a claim that was not delivered keeps other windows away: longer than a run takes from fetch to extract, and
#: shorter than an hour, so that the next hour's run takes up what this one lost.
CLAIM_LASTS = timedelta(minutes=30)


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
        with self._database.reading() as session:
            return list(session.scalars(query))

    def first_start(self, source: str) -> datetime | None:
        """The start of the source's earliest window; None: none was read."""
        query = select(func.min(WindowRow.start_at)).where(WindowRow.source == source)
        with self._database.reading() as session:
            return session.scalar(query)

    def first_decided_at(self, window: Window) -> datetime | None:
        """When a window was first decided; None: never."""
        query = select(func.min(WindowRow.first_decided_at)).where(
            WindowRow.start_at == window.start_at, WindowRow.end_at == window.end_at
        )
        with self._database.reading() as session:
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

    # A finding is claimed by the fetch that gives it to its run, and delivered when the run's next stage has it. In
    # between the fetch or its whole run may die; then the claim must not keep the finding from everybody for ever.

    def free_findings(self, findings: Sequence[Finding], *, window_key: str, now: datetime) -> set[str]:
        """Uids of those that :meth:`claim_findings` would give to this window now."""
        taken: set[str] = set()
        with self._database.reading() as session:
            for part in chunks([f.uid for f in findings]):
                query = select(FindingRow.uid).where(FindingRow.uid.in_(part), not_(_open_to(window_key, now)))
                taken.update(session.scalars(query))
        return {f.uid for f in findings} - taken

    def claim_findings(self, findings: Sequence[Finding], *, window_key: str, now: datetime) -> dict[str, str]:
        """
        Store which window read each finding first, and return that window's key by the finding's uid.

        A finding that was delivered belongs for good to the window that delivered it: a repeated window gets its own
        findings again, a later window whose overlap reads the same finding does not. One that was claimed longer than
        ``CLAIM_LASTS`` ago, and never delivered, goes to whoever claims it next.
        """
        with self._database.session() as session:
            self._insert(session, findings, window_key=window_key, now=now, delivered_at=None)
            for part in chunks([f.uid for f in findings]):
                mine = update(FindingRow).where(
                    FindingRow.uid.in_(part), FindingRow.delivered_at.is_(None), _open_to(window_key, now)
                )
                session.execute(mine.values(window_key=window_key, claimed_at=now))
            return _owners(session, findings)

    def deliver_findings(self, findings: Sequence[Finding], *, window_key: str, now: datetime) -> dict[str, str]:
        """
        Store that the run of this window has these findings now, and return the window that each belongs to for good:
        the first one that says so.
        """
        with self._database.session() as session:
            self._insert(session, findings, window_key=window_key, now=now, delivered_at=now)
            for part in chunks([f.uid for f in findings]):
                mine = update(FindingRow).where(FindingRow.uid.in_(part), FindingRow.delivered_at.is_(None))
                session.execute(mine.values(window_key=window_key, delivered_at=now))
            return _owners(session, findings)

    def _insert(
        self,
        session: Session,
        findings: Sequence[Finding],
        *,
        window_key: str,
        now: datetime,
        delivered_at: datetime | None,
    ) -> None:
        """Those that are not there yet."""
        rows = [
            {
                "uid": f.uid,
                "source": f.source,
                "vendor_id": f.vendor_id[:512],
                "window_key": window_key,
                "severity": f.severity.value,
                "detected_at": f.detected_at,
                "first_seen_at": now,
                "claimed_at": now,
                "delivered_at": delivered_at,
            }
            for f in findings
        ]
        if rows:
            self._database.upsert(session, FindingRow, rows, keep=set(rows[0]))


def _open_to(window_key: str, now: datetime) -> ColumnElement[bool]:
    """Whether a finding is this window's, or belongs to one that claimed it and never had it."""
    ended = and_(FindingRow.delivered_at.is_(None), FindingRow.claimed_at <= now - CLAIM_LASTS)
    return or_(FindingRow.window_key == window_key, ended)


def _owners(session: Session, findings: Sequence[Finding]) -> dict[str, str]:
    owners: dict[str, str] = {}
    for part in chunks([f.uid for f in findings]):
        query = select(FindingRow.uid, FindingRow.window_key).where(FindingRow.uid.in_(part))
        owners.update((uid, key) for uid, key in session.execute(query))
    return owners
