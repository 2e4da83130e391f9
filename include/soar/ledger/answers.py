"""What the providers answered, and for how long each answer is good."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Select, select
from sqlalchemy.orm import aliased

from include.soar.ledger.database import Part, chunks
from include.soar.ledger.tables import (
    ReputationRow,
)
from include.soar.model import (
    Observable,
    Reputation,
)


class Answers(Part):
    """The providers' answers. Rows are only added, so that what was known at any time can be asked."""

    def known(
        self, provider: str, observables: Sequence[Observable], *, now: datetime, stale: bool = False
    ) -> dict[str, Reputation]:
        """
        The last answers that were known at ``now`` and still good then, by observable key.

        :param stale: also those that were no longer good
        """
        found: dict[str, Reputation] = {}
        with self._database.reading() as session:
            for part in chunks([o.key for o in observables]):
                query = _last_known(now).where(ReputationRow.provider == provider, ReputationRow.observable.in_(part))
                for row in session.scalars(query):
                    if stale or row.good_until > now:
                        found[row.observable] = Reputation.model_validate(row.document)
        return found

    def store(self, answers: Iterable[tuple[Reputation, timedelta]]) -> None:
        """Add answers, each with how long it stays good. Only real answers: no errors, and none that was not given."""
        rows = [
            {
                "provider": reputation.provider,
                "observable": reputation.observable.key,
                "known_at": reputation.known_at,
                "good_until": reputation.known_at + life,
                "body_digest": reputation.body_digest,
                "document": reputation.to_json(),
            }
            for reputation, life in answers
        ]
        if rows:
            with self._database.session() as session:
                self._database.upsert(session, ReputationRow, rows, keep=set())

    def changes(self, start: datetime, end: datetime) -> list[tuple[Reputation | None, Reputation]]:
        """
        What was known at ``start`` and at ``end`` about each value that a source spoke about in between, ordered by
        provider and observable. The first is None where nothing was known yet.
        """
        newer = _last_known(end).where(ReputationRow.known_at > start)
        changes: dict[tuple[str, str], list[Reputation | None]] = {}
        with self._database.reading() as session:
            for row in session.scalars(newer):
                changes[row.provider, row.observable] = [None, Reputation.model_validate(row.document)]
            for provider in {provider for provider, _ in changes}:
                for part in chunks([key for name, key in changes if name == provider]):
                    older = _last_known(start).where(
                        ReputationRow.provider == provider, ReputationRow.observable.in_(part)
                    )
                    for row in session.scalars(older):
                        changes[provider, row.observable][0] = Reputation.model_validate(row.document)
        return [(before, after) for _, (before, after) in sorted(changes.items()) if after is not None]


def _last_known(now: datetime) -> Select[ReputationRow]:
    """The last answer of each provider about each observable that was known at that time."""
    later = aliased(ReputationRow)
    newer = select(later.known_at).where(
        later.provider == ReputationRow.provider,
        later.observable == ReputationRow.observable,
        later.known_at > ReputationRow.known_at,
        later.known_at <= now,
    )
    return select(ReputationRow).where(ReputationRow.known_at <= now, ~newer.exists())
