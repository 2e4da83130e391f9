"""Tables whose rows are only added, each bound to the one before by its hash: a row that was changed shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import insert, inspect, select
from sqlalchemy.orm import Session

from include.soar.ledger.database import chunks
from include.soar.ledger.tables import Chained, ChainRow

#: What the first row follows.
START = "0" * 64
#: What the hash leaves out. ``prev_hash`` is its other half.
_HASHES = ("prev_hash", "hash")
#: Rows in memory at once while a chain is read.
_READ = 1_000


@dataclass(frozen=True)
class Head:
    """How long a chain is, and the hash of its last row. Whoever noted it elsewhere can tell a chain made anew."""

    length: int
    hash: str

    def __str__(self) -> str:
        return f"{self.length} rows, head {self.hash}"


def hash_of(previous: str, row: Mapping[str, Any]) -> str:
    """
    SHA-256 of the previous row's hash and this row's canonical JSON: keys sorted, instants in UTC with microseconds.

    Without what is empty: a column that a later release adds leaves the hashes of older rows as they are.
    """
    fields = {key: _plain(value) for key, value in row.items() if value and key not in _HASHES}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}{text}".encode()).hexdigest()


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(value, datetime) else value


class Chain:
    """
    The end of a chain, locked until the transaction is over: one writer at a time, on SQLite by the transaction itself.

    To be made first in a transaction, before what depends on the chain's rows is read.
    """

    def __init__(self, session: Session, table: type[Chained]) -> None:
        self._session, self._table = session, table
        name = table.__tablename__
        row = session.get(ChainRow, name, with_for_update=True)
        if row is None:
            # Somebody deleted it, since the migration made it. What is written from here on is chained all the same.
            last = session.scalars(select(table).order_by(table.number.desc()).limit(1)).first()
            row = ChainRow(name=name, length=last.number if last else 0, hash=last.hash if last else START)
            session.add(row)
        self._row = row

    @property
    def head(self) -> Head:
        return Head(self._row.length, self._row.hash)

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """:param rows: every column but ``number``, ``prev_hash`` and ``hash``"""
        made: list[dict[str, Any]] = []
        number, previous = self._row.length, self._row.hash
        for row in rows:
            number += 1
            numbered = {**row, "number": number}
            made.append({**numbered, "prev_hash": previous, "hash": (previous := hash_of(previous, numbered))})
        statement: Any = insert(cast("Any", inspect(self._table).local_table))
        for part in chunks(made):
            self._session.execute(statement, list(part))
        self._row.length, self._row.hash = number, previous


def head(session: Session, table: type[Chained]) -> Head:
    row = session.get(ChainRow, table.__tablename__)
    return Head(row.length, row.hash) if row else Head(0, START)


def read(session: Session, table: type[Chained]) -> Iterator[dict[str, Any]]:
    """Every row in order, as a dictionary."""
    columns = inspect(table).local_table.c
    rows = session.execute(select(*columns).order_by(columns.number), execution_options={"yield_per": _READ})
    for row in rows.mappings():
        yield dict(row)


def broken(session: Session, table: type[Chained], rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """
    What is wrong with a chain, row by row, in words. Nothing: it is intact.

    :param rows: all of the table's, in order
    """
    name = table.__tablename__
    end = session.get(ChainRow, name)
    expected, previous = 1, START
    for row in rows:
        number = row["number"]
        place = f"{name} {number} ({row['at']:%Y-%m-%dT%H:%M:%SZ})"
        if number > expected:
            yield _missing(name, expected, number - 1)
        elif row["prev_hash"] != previous:
            yield f"{place}: does not follow row {number - 1}, which was changed, or this row was"
        if row["hash"] != hash_of(row["prev_hash"], row):
            yield f"{place}: was changed"
        expected, previous = number + 1, row["hash"]
    if end is None:
        yield f"{name}: the row of the chain's end is missing"
    elif expected <= end.length:
        yield _missing(name, expected, end.length)
    elif expected > end.length + 1:
        yield f"{name}: has rows after {end.length}, where the chain ends"
    elif previous != end.hash:
        yield f"{name} {end.length}: is not the row that the chain ended with"


def _missing(name: str, first: int, last: int) -> str:
    return f"{name} {first}: is missing" if first == last else f"{name} {first} to {last}: are missing"
