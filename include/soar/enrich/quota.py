"""How often a provider may be asked. The counts are in the ledger, since every task is another process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.soar.policy.rules import EnrichmentPolicy

_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
_DAY = timedelta(days=1)
#: The longest wait that ``enrichment.longest_wait_seconds`` can ask for.
_WAITED_FOR = timedelta(minutes=10)
_WORDS = {60: "a minute", 3600: "an hour", 86_400: "a day", 604_800: "a week"}


@dataclass(frozen=True)
class Quota:
    """
    At most ``calls`` calls of one kind in each period.

    :param name: which calls: the provider counts each kind by itself (``check``, ``blacklist``)
    :param period: from midnight UTC on, so a day ends when the provider's does; a week begins on Monday. Where a
        provider says that its period ends at another time, the later ones follow that
    """

    name: str
    calls: int
    period: timedelta

    @property
    def seconds(self) -> int:
        return int(self.period.total_seconds())

    @property
    def is_burst(self) -> bool:
        """
        Shorter than a day. Nobody says where such a period begins, so it is kept wherever one may lay it: what was
        sent at the end of our last period counts on in this one.
        """
        return self.period < _DAY

    def period_start(self, now: datetime, *, phase: datetime = _MONDAY) -> datetime:
        """:param phase: some instant at which a period begins"""
        return phase + (now - phase) // self.period * self.period

    def renews_at(self, now: datetime, *, phase: datetime = _MONDAY) -> datetime:
        return self.period_start(now, phase=phase) + self.period

    def __str__(self) -> str:
        return f"{self.calls:,} {self.name} {_WORDS.get(self.seconds, f'in {self.seconds:,} s')}"


def quotas_of(rules: EnrichmentPolicy, provider: str, declared: Sequence[Quota]) -> tuple[Quota, ...]:
    """
    What the key at hand may ask: what the policy says about the provider, or else what its hook declares.

    :param declared: what the provider's own documents say
    :raises ValueError: the policy names a kind of calls that the hook does not make, so its limit would be none
    """
    stated = rules.quotas.get(provider)
    if stated is None:
        return tuple(declared)
    names = {quota.name for quota in declared}
    if names and (odd := sorted({one.name for one in stated} - names)):
        known = ", ".join(sorted(names))
        raise ValueError(f"policy: enrichment.quotas.{provider}: {', '.join(map(repr, odd))} is none of {known}")
    return tuple(Quota(one.name, one.calls, timedelta(seconds=one.seconds)) for one in stated)


@dataclass(frozen=True)
class QuotaSeen:
    """
    What an answer's headers say about the longest of the quotas that the call counts against; None: nothing.

    :param limit: calls in its period
    :param remaining: of these, after this one
    :param resets_at: when its period ends
    """

    limit: int | None = None
    remaining: int | None = None
    resets_at: datetime | None = None


@dataclass(frozen=True)
class Account:
    """
    Whose calls are counted together: of one kind, at one provider, with one key.

    :param key: a digest of the credential, never the credential
    :param name: the quotas' name; empty for a provider that has none
    """

    provider: str
    key: str
    name: str = ""


@dataclass(frozen=True)
class Reservation:
    """
    Calls that nobody else can make any more.

    :param granted: how many of those wanted
    :param periods: of each quota: what it counts, and when its period began; for giving back what was not used
    :param why: where not all were granted: which quota ends
    :param again_at: and when it has some again
    """

    granted: int
    periods: tuple[tuple[Quota, datetime], ...] = ()
    why: str = ""
    again_at: datetime | None = None


@dataclass(frozen=True)
class Admission:
    """
    Whether the breaker lets anybody ask.

    :param closed_until: nobody asks before; None: ask
    :param probe: the breaker was open, and this is the one question that finds out whether it may be closed
    """

    closed_until: datetime | None = None
    why: str = ""
    probe: bool = False


def backfills_part(calls: int, live_share: float) -> int:
    """How many of a period's calls all backfills together may make. A quota too small to share is the live runs'."""
    return int(calls * (1 - live_share) + 1e-9)


def kept_calls(quota: Quota, calls: int, share: float) -> int:
    """
    How many of a period's calls are kept for values that can become a block. A quota that a run can wait for needs no
    such share: it has renewed before anybody is hurt.
    """
    return 0 if quota.period <= _WAITED_FOR else calls - backfills_part(calls, share)


def longest(quotas: Sequence[Quota]) -> Quota | None:
    return max(quotas, key=lambda quota: quota.period, default=None)


def shut_for(quotas: Sequence[Quota], retry_after: float | None) -> timedelta | None:
    """
    How long to leave a provider alone that said 429; None: it named no time, and no quota tells.

    What it names counts, up to the longest quota's period: by then everything is renewed, whatever it says. Where it
    names none, the shortest quota may be the one.
    """
    periods = sorted(quota.period for quota in quotas)
    if retry_after is not None:
        return min(timedelta(seconds=min(retry_after + 1, 86_400.0 * 31)), periods[-1] if periods else _DAY)
    return periods[0] if periods else None
