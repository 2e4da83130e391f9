"""Tables of the ledger for a spreadsheet or another program.

What the ledger holds was partly written by attackers. In CSV no cell can be taken for a formula, and control characters
are written out; JSON escapes them by itself. Values are not defanged: a program reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

from sqlalchemy import create_engine, inspect, select

from include.ops.text import shown
from include.soar.ledger.tables import ActionEventRow, ActionRow, ReputationRow, Table, VerdictRow, WindowRow

if TYPE_CHECKING:
    from pandas import DataFrame

#: Name on the command line -> the table, and the column that the period is about.
TABLES: dict[str, tuple[type[Table], str]] = {
    "actions": (ActionRow, "updated_at"),
    "events": (ActionEventRow, "at"),
    "verdicts": (VerdictRow, "decided_at"),
    "windows": (WindowRow, "start_at"),
    "answers": (ReputationRow, "known_at"),
}
#: Rows in memory at once. A verdict with its inputs is 4 kB.
CHUNK = 2_000
#: What a spreadsheet takes for a formula's beginning (https://owasp.org/www-community/attacks/CSV_Injection), and the
#: same characters in full width, which some turn back.
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_INSTANT = "%Y-%m-%dT%H:%M:%S.%fZ"


def export(url: str, table: str, since: datetime | None, until: datetime | None, *, form: str, to: TextIO) -> int:
    """
    Write the rows of a period, the oldest first.

    :param url: SQLAlchemy URL of a ledger that exists
    :param table: a key of ``TABLES``
    :param since: start of the period, included; None: from the beginning
    :param until: its end, excluded; None: without one
    :param form: ``csv`` with a header, or ``json``: one object a line
    :return: how many rows
    """
    count = 0
    for number, frame in enumerate(_frames(url, table, since, until)):
        if form == "csv":
            cells = frame.map(_cell) if len(frame) else frame
            cells.to_csv(to, index=False, header=number == 0, date_format=_INSTANT, lineterminator="\n")
        elif len(frame):
            frame.to_json(to, orient="records", lines=True, date_format="iso", date_unit="us")
        count += len(frame)
    return count


def _frames(url: str, table: str, since: datetime | None, until: datetime | None) -> Iterator[DataFrame]:
    import pandas as pd

    row, column = TABLES[table]
    columns = inspect(row).local_table.c
    when = columns[column]
    statement = select(*columns).order_by(when, *inspect(row).primary_key)
    statement = statement.where(when >= since) if since else statement
    statement = statement.where(when < until) if until else statement
    # An engine of its own: the ledger's begins every transaction as a writer, and an export that is read slowly would
    # keep all tasks from writing.
    engine = create_engine(url)
    try:
        with engine.connect().execution_options(stream_results=True) as connection:
            yield from pd.read_sql(statement, connection, chunksize=CHUNK)
    finally:
        engine.dispose()


def _cell(value: Any) -> Any:
    """A cell of CSV: JSON where it is nested, harmless where it is text."""
    if isinstance(value, (dict, list)):
        value = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        return value
    # Spreadsheets skip blanks before a formula.
    return shown(f"'{value}" if value.lstrip().startswith(FORMULA) else value)
