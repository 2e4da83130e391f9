"""What people allow for a time beside the policy's ``never_block.allow``: effective at once, and told by whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from include.soar.gate.rules import Allowance
from include.soar.ledger import chain
from include.soar.ledger.chain import Chain, Head
from include.soar.ledger.database import Part
from include.soar.ledger.tables import AllowRow
from include.soar.model import storable

_COLUMNS = inspect(AllowRow).local_table.c
#: As the columns have it.
_LONGEST_NAME, _LONGEST_VALUE = 200, 768


@dataclass(frozen=True)
class AllowEntry:
    """
    An entry that counts.

    :param allowance: value, end, owner and reason, as the policy's own entries have them
    :param by: who added it, and ``at`` when
    """

    allowance: Allowance
    by: str
    at: datetime

    @property
    def value(self) -> str:
        return self.allowance.value

    @property
    def until(self) -> datetime:
        return self.allowance.until


@dataclass(frozen=True)
class AllowChange:
    """
    One version of an entry.

    :param change: ``add``: it counts from then on, in the place of an earlier one of its value; ``end``: it does not
    :param until: None with ``end``
    """

    number: int
    at: datetime
    change: str
    value: str
    until: datetime | None
    owner: str
    reason: str
    by: str


class Allows(Part):
    """Allow entries as a log of their changes, in a chain of hashes."""

    def add(self, value: str, *, until: datetime, owner: str, reason: str, by: str, now: datetime) -> AllowEntry:
        """
        Allow a value from now on; an entry of the same value is replaced.

        :param value: as in ``never_block.allow``: an address, network, domain, URL or file hash
        :param by: who does it
        :raises ValueError: it is none of them, wider than the policy allows, has ended already, or owner, reason or by
            is missing
        """
        allowance = _allowance(value, until, owner=owner, reason=reason)
        if allowance.until <= now:
            raise ValueError(f"{allowance.value}: {allowance.until:%Y-%m-%d %H:%M} UTC is past")
        if len(allowance.value) > _LONGEST_VALUE:
            raise ValueError(f"the value has {len(allowance.value)} characters; {_LONGEST_VALUE} can be kept")
        row = {"change": "add", "value": allowance.value, "until": allowance.until, "owner": allowance.owner}
        with self._database.session() as session:
            Chain(session, AllowRow).append([row | _who(by, allowance.reason, now)])
        return AllowEntry(allowance, by, now)

    def end(self, value: str, *, by: str, reason: str, now: datetime) -> bool:
        """
        End the entry of a value, in any spelling that ``add`` takes.

        :return: False: there is none that counts, and nothing was written
        """
        wanted = canonical(value)
        with self._database.session() as session:
            allows = Chain(session, AllowRow)
            if all(entry.value != wanted for entry in _current(session, now)):
                return False
            row = {"change": "end", "value": wanted, "until": None, "owner": ""}
            allows.append([row | _who(by, reason, now)])
            return True

    def current(self, now: datetime) -> list[AllowEntry]:
        """The entries that count at ``now``, in the order in which they were added."""
        with self._database.reading() as session:
            return list(_current(session, now))

    def history(self) -> list[AllowChange]:
        """Every change, in order."""
        query = select(*_COLUMNS).order_by(_COLUMNS.number)
        with self._database.reading() as session:
            return [
                AllowChange(**{name: row[name] for name in AllowChange.__dataclass_fields__})
                for row in session.execute(query).mappings()
            ]

    def head(self) -> Head:
        with self._database.reading() as session:
            return chain.head(session, AllowRow)

    def verify(self) -> list[str]:
        """What is wrong with the chain, in words. Empty: it is intact."""
        with self._database.snapshot() as session:
            return list(chain.broken(session, AllowRow, chain.read(session, AllowRow)))


def canonical(value: str) -> str:
    """A value as an entry spells it. :raises ValueError: it can be no entry's"""
    return _allowance(value, datetime.max.replace(tzinfo=UTC), owner="-", reason="-").value


def _allowance(value: str, until: datetime, *, owner: str, reason: str) -> Allowance:
    """:raises ValueError: naming each field and its problem on one line"""
    fields = {"value": storable(value), "owner": storable(owner).strip(), "reason": storable(reason).strip()}
    try:
        return Allowance.model_validate(fields | {"until": until})
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)]
        raise ValueError("; ".join(problems).replace("Value error, ", "")) from None


def _who(by: str, reason: str, now: datetime) -> dict[str, Any]:
    by, reason = storable(by).strip()[:_LONGEST_NAME], storable(reason).strip()
    if not by or not reason:
        raise ValueError("who does it, and why, must be said")
    return {"by": by, "reason": reason, "at": now}


def _current(session: Session, now: datetime) -> Iterator[AllowEntry]:
    last: dict[str, Any] = {}
    for row in session.execute(select(*_COLUMNS).order_by(_COLUMNS.number)).mappings():
        last.pop(row["value"], None)
        if row["change"] == "add":
            last[row["value"]] = row
    for row in last.values():
        if row["until"] > now:
            fields = {name: row[name] for name in ("value", "until", "owner", "reason")}
            yield AllowEntry(Allowance.model_validate(fields), row["by"], row["at"])
