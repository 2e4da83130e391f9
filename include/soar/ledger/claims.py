"""Locks with a lease: the right of one run to do something alone, for a time."""

from __future__ import annotations

from datetime import datetime, timedelta

from include.soar.ledger.database import Part
from include.soar.ledger.tables import (
    ClaimRow,
)


class Claims(Part):
    """For what two runs must not do at once at a vendor that has no lock of its own."""

    def take(self, name: str, *, by: str, now: datetime, lease: timedelta) -> bool:
        """
        Claim a name until ``release`` or the end of the lease. False while another run holds it.

        The same claimant may claim again: a retried task has the same name.
        """
        with self._database.session() as session:
            row = session.get(ClaimRow, name, with_for_update=True)
            if row is None:
                # Two at once: the primary key lets one of them in.
                self._database.upsert(
                    session,
                    ClaimRow,
                    [{"name": name, "claimed_by": by, "claimed_until": now + lease}],
                    keep={"claimed_by", "claimed_until"},
                )
                row = session.get(ClaimRow, name, with_for_update=True)
            if row is None or (row.claimed_by != by and row.claimed_until > now):
                return False
            row.claimed_by, row.claimed_until = by, now + lease
            return True

    def release(self, name: str, *, by: str) -> None:
        """End our own claim; another run's stays."""
        with self._database.session() as session:
            row = session.get(ClaimRow, name)
            if row is not None and row.claimed_by == by:
                session.delete(row)
