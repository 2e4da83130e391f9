"""Locks with a lease: the right of one try of one task to do something alone, for a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import delete

from include.soar.ledger.database import Part
from include.soar.ledger.tables import (
    ClaimRow,
)

#: As the column has it. A longer name, of a product's long id, is claimed by its digest.
LONGEST_NAME = 250
#: The clocks of two workers do not differ by more than this. A claim that ends later was made by a clock that was
#: wrong: to wait for its end might be to wait for years.
LARGEST_SKEW = timedelta(hours=1)


class Claims(Part):
    """For what two must not do at once at a vendor that has no lock of its own."""

    def take(
        self,
        name: str,
        *,
        by: str,
        now: datetime,
        lease: timedelta,
        is_gone: Callable[[str], bool] = lambda claimant: False,
    ) -> bool:
        """
        Claim a name until ``release`` or the end of the lease. False while another one holds it.

        :param by: unique to the try of a task (``Run.claimant``). Not to the run: a try that was given up for dead may
            still be writing beside its successor, which waits for the end of the lease.
        :param is_gone: whether a claimant is known to have ended: nobody waits for it then
        """
        name = _short(name)
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
            if row is None:
                return False
            is_held = now < row.claimed_until <= now + lease + LARGEST_SKEW
            if row.claimed_by != by and is_held and not is_gone(row.claimed_by):
                return False
            row.claimed_by, row.claimed_until = by, now + lease
            return True

    def renew(self, name: str, *, by: str, now: datetime, lease: timedelta) -> bool:
        """
        Whether the claim is still ours; if so, for another lease. False where its end was missed and another one has
        taken it, even if that one is done: what we saw before is old then.
        """
        with self._database.session() as session:
            row = session.get(ClaimRow, _short(name), with_for_update=True)
            if row is None or row.claimed_by != by:
                return False
            row.claimed_until = now + lease
            return True

    def release(self, name: str, *, by: str) -> None:
        """End our own claim; another one's stays."""
        # In one statement: between a look and a delete the claim may end, and another one take it.
        mine = delete(ClaimRow).where(ClaimRow.name == _short(name), ClaimRow.claimed_by == by)
        with self._database.session() as session:
            session.execute(mine)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"sha256.{hashlib.sha256(name.encode()).hexdigest()}"
