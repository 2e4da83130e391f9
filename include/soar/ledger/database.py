"""The database below the ledger: engine, schema, transactions and the upsert."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from include.soar.ledger.tables import (
    Table,
)

#: The newest migration. A test holds it equal to Alembic's own head.
HEAD = "0006"
#: Marks a connection whose transaction only reads.
READS = "reads"
MIGRATIONS = Path(__file__).parent / "migrations"

#: Rows in one statement: SQLite allows 32,766 variables.
CHUNK = 500


def chunks(items: Sequence[Any], size: int = CHUNK) -> Iterator[Sequence[Any]]:
    """The items in parts that fit into one statement."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def migrate(url: str) -> None:
    """Bring the database at ``url`` to the newest schema. Safe to call from several processes at once."""
    # Imported here: Alembic costs a quarter of a second, and a task on a current schema never needs it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    command.upgrade(config, "head")


class Database:
    """
    One database with the newest schema.

    :param url: SQLAlchemy URL. A SQLite file with its folder is created if there is none.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        if url.startswith("sqlite:///"):
            Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self.engine = _engine(url)
        if not self._is_current():
            migrate(url)

    def close(self) -> None:
        self.engine.dispose()

    def _is_current(self) -> bool:
        with self.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return False
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction: committed at the end of the block, rolled back on an error."""
        with Session(self.engine) as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One transaction that only reads: on SQLite it neither waits for a task that writes nor holds one up."""
        engine = self.engine.execution_options(**{READS: True})
        # What was read may be used when the transaction is over.
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """As :meth:`reading`, and every statement sees the same state, whatever others commit in the meantime."""
        with self.reading() as session:
            if self.engine.dialect.name == "postgresql":
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    def upsert(self, session: Session, table: type[Table], rows: Sequence[dict[str, Any]], keep: set[str]) -> None:
        """Insert rows; where the primary key exists, overwrite every column but those in ``keep``."""
        dialect: Any = postgresql if self.engine.dialect.name == "postgresql" else sqlite
        keys = [column.name for column in inspect(table).primary_key]
        # The last row of each key only: Postgres refuses to update a row twice in one statement.
        distinct = {tuple(row[key] for key in keys): row for row in rows}
        if not distinct:
            return
        # One short statement for all rows, not one with thousands of values: making its text took seconds.
        statement = dialect.insert(inspect(table).local_table)
        changes = {c: statement.excluded[c] for c in rows[0] if c not in keys and c not in keep}
        if changes:
            statement = statement.on_conflict_do_update(index_elements=keys, set_=changes)
        else:
            statement = statement.on_conflict_do_nothing(index_elements=keys)
        # In the order of the keys: of two that write the same rows one waits, and neither for the other.
        for part in chunks([distinct[key] for key in sorted(distinct)]):
            session.execute(statement, list(part))


class Part:
    """One subject of the ledger. It reads and writes its own tables of the shared database."""

    def __init__(self, database: Database) -> None:
        self._database = database


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": 60})

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        # Several task processes write at once: readers must not block, writers must wait rather than fail.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA busy_timeout=60000")
        connection.isolation_level = None  # we begin transactions ourselves, below

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # IMMEDIATE: a transaction that reads first and writes later would otherwise die with "database is locked".
        reads = connection.get_execution_options().get(READS)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine
