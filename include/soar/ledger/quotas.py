"""How many calls each provider's key has used, and which circuit breakers are open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from include.soar.enrich.quota import (
    Account,
    Admission,
    Quota,
    QuotaSeen,
    Reservation,
    backfills_part,
    kept_calls,
    longest,
)
from include.soar.ledger.claims import LARGEST_SKEW
from include.soar.ledger.database import Part
from include.soar.ledger.tables import (
    AccountRow,
    QuotaRow,
)

#: The largest number that the columns hold. Whoever may ask more often may ask without end.
MOST = 2**31 - 1
#: No breaker is opened for so long, but by a clock that is wrong.
LONGEST_PAUSE = timedelta(days=366)


class Quotas(Part):
    """Quotas and circuit breakers of the accounts: one kind of call at one provider with one key."""

    def reserve(
        self,
        account: Account,
        quotas: Sequence[Quota],
        wanted: int,
        *,
        backfill: bool,
        live_share: float,
        now: datetime,
        kept_share: float = 0.0,
    ) -> Reservation:
        """
        Reserve as many of the wanted calls as every quota still allows. What is granted here is granted to no other
        task.

        :param quotas: those of this account
        :param live_share: the share of each quota that backfills leave
        :param kept_share: the share of each lasting quota that these calls leave, whoever has used the rest
        """
        with self._database.session() as session:
            self._locked(session, account)
            periods = [(quota, *self._period(session, account, quota, now)) for quota in quotas]
            left = [_left(*period, backfill, live_share, now, kept_share=kept_share) for period in periods]
            granted = max(0, min([wanted, *(one.calls for one in left)]))
            if granted:
                for _, row, _ in periods:
                    row.used += granted
                    row.used_by_backfill += granted if backfill else 0
                    row.last_at = max(row.last_at, now)
            short = max((one for one in left if one.calls < wanted), key=lambda one: one.again_at, default=None)
            return Reservation(
                granted,
                tuple((quota, row.started_at) for quota, row, _ in periods),
                f"{short.whose} used up" if short else "",
                short.again_at if short else None,
            )

    def give_back(
        self,
        account: Account,
        reservation: Reservation,
        *,
        unused: int,
        seen: QuotaSeen | None,
        backfill: bool,
        now: datetime,
    ) -> None:
        """
        Return the unused calls of a reservation, and take over what the answers' headers say.

        The limit that they name replaces ours. Their count of used calls raises ours and never lowers it, since
        reserved calls have not reached the provider yet. Only the period of the reservation is corrected.

        :param unused: of the calls granted
        """
        if not reservation.periods or not (unused or seen):
            return
        told = longest([quota for quota, _ in reservation.periods])
        with self._database.session() as session:
            self._locked(session, account)
            for quota, started_at in reservation.periods:
                row = session.get_one(QuotaRow, (*_key(account), quota.seconds, started_at))
                row.used = max(row.used - unused, row.seen_used)
                row.used_by_backfill = max(row.used_by_backfill - (unused if backfill else 0), 0)
                if seen is None or quota is not told:
                    continue
                if seen.limit is not None:
                    row.allowed = min(seen.limit, MOST)
                if seen.remaining is not None:
                    row.seen_used = max(row.seen_used, row.allowed - seen.remaining)
                    row.used = max(row.used, row.seen_used)
                if seen.resets_at and now < seen.resets_at <= now + quota.period:
                    row.ends_at = seen.resets_at

    def left(
        self, account: Account, quotas: Sequence[Quota], *, backfill: bool, live_share: float, now: datetime
    ) -> int | None:
        """How many calls would be granted now; None: there is no quota."""
        if not quotas:
            return None
        with self._database.session() as session:
            self._locked(session, account)
            periods = [(quota, *self._period(session, account, quota, now)) for quota in quotas]
            return max(0, min(_left(*period, backfill, live_share, now).calls for period in periods))

    def _locked(self, session: Session, account: Account) -> AccountRow:
        """The account's row, which no other task can change until this transaction ends."""
        row = dict(zip(("provider", "key", "name"), _key(account), strict=True))
        self._database.upsert(session, AccountRow, [row | {"openings": 0, "reason": ""}], keep={"openings", "reason"})
        return session.get_one(AccountRow, _key(account), with_for_update=True)

    def _period(
        self, session: Session, account: Account, quota: Quota, now: datetime
    ) -> tuple[QuotaRow, QuotaRow | None]:
        """The quota's period at this time, created if it is new, and the one before it."""
        query = (
            select(QuotaRow)
            .where(
                QuotaRow.provider == account.provider,
                QuotaRow.key == account.key,
                QuotaRow.name == account.name,
                QuotaRow.period_seconds == quota.seconds,
                # A period that begins later was counted by a clock that was wrong: it may be years away.
                QuotaRow.started_at <= now + max(quota.period, LARGEST_SKEW),
            )
            .order_by(QuotaRow.started_at.desc())
            .limit(2)
        )
        rows = list(session.scalars(query))
        # Before the last one's start as well: another worker's clock may be ahead of ours.
        if rows and now < rows[0].ends_at:
            return rows[0], rows[1] if len(rows) > 1 else None
        phase = {"phase": rows[0].ends_at} if rows else {}
        row = QuotaRow(
            **dict(zip(("provider", "key", "name"), _key(account), strict=True)),
            period_seconds=quota.seconds,
            started_at=quota.period_start(now, **phase),
            ends_at=quota.renews_at(now, **phase),
            allowed=min(quota.calls, MOST),
            used=0,
            used_by_backfill=0,
            seen_used=0,
            last_at=now,
        )
        session.add(row)
        return row, rows[0] if rows else None

    def admit(self, account: Account, *, now: datetime, probe_lease: timedelta = timedelta(minutes=2)) -> Admission:
        """
        Whether a task may ask now. Once the breaker's time has passed, the first that comes may probe. The others wait
        until the lease ends; by then the probe has closed the breaker or opened it again.
        """
        with self._database.session() as session:
            row = self._locked(session, account)
            if row.blocked_until is None:
                return Admission()
            if now < row.blocked_until <= now + LONGEST_PAUSE:
                return Admission(row.blocked_until, row.reason)
            row.blocked_until = now + probe_lease
            return Admission(probe=True)

    def open_breaker(
        self,
        account: Account,
        *,
        reason: str,
        pause: timedelta | None,
        first_pause: timedelta,
        longest_pause: timedelta,
        now: datetime,
    ) -> datetime:
        """
        Open the breaker, and return the time from which it may be probed.

        :param pause: None: ``first_pause``, and twice as long each time that it opens again without a good answer
        """
        with self._database.session() as session:
            row = self._locked(session, account)
            if pause is None:
                # The exponent is bounded, or a year of failures would overflow.
                pause = min(first_pause * 2 ** min(row.openings, 20), longest_pause)
            row.openings += 1
            row.blocked_until, row.reason = now + pause, reason
            return row.blocked_until

    def close_breaker(self, account: Account) -> None:
        """The provider answers: close the breaker."""
        with self._database.session() as session:
            row = self._locked(session, account)
            row.openings, row.blocked_until, row.reason = 0, None, ""


def _key(account: Account) -> tuple[str, str, str]:
    return account.provider, account.key, account.name


@dataclass(frozen=True)
class _Left:
    calls: int
    whose: str
    again_at: datetime


def _left(
    quota: Quota,
    row: QuotaRow,
    before: QuotaRow | None,
    backfill: bool,
    live_share: float,
    now: datetime,
    *,
    kept_share: float = 0.0,
) -> _Left:
    """What a quota has left in the period ``row``, and when it has more."""
    counted = [row]
    again_at = row.ends_at
    if quota.is_burst:
        if before and now < before.last_at + quota.period:
            counted.append(before)
            again_at = before.last_at + quota.period
        if row.used >= row.allowed:
            again_at = row.last_at + quota.period
    left = row.allowed - sum(one.used for one in counted)
    whose = str(replace(quota, calls=row.allowed))
    if kept := kept_calls(quota, row.allowed, kept_share):
        left -= kept
        whose = f"all but the {kept:,} of {whose} that are kept for possible blocks"
    if backfill:
        part = backfills_part(row.allowed, live_share)
        share = part - sum(one.used_by_backfill for one in counted)
        if share < left:
            return _Left(share, f"the backfills' {part:,} of {replace(quota, calls=row.allowed)} are", again_at)
    return _Left(left, f"{whose} are", again_at)
