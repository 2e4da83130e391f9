"""Reading and writing the ledger. Every method is one transaction; every write is an upsert."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, inspect, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from include.soar.ledger.tables import ActionRow, ClaimRow, FindingRow, IncidentRow, ReputationRow, Table, WindowRow
from include.soar.model import ActionBatch, FetchBatch, Finding, Observable, Reputation

#: The newest migration. A test holds it equal to Alembic's own head.
HEAD = "0001"
MIGRATIONS = Path(__file__).parent / "migrations"

#: Rows in one statement: SQLite allows 32,766 variables.
CHUNK = 500


def chunks(items: Sequence[Any], size: int = CHUNK) -> Iterator[Sequence[Any]]:
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


class Ledger:
    """
    :param url: SQLAlchemy URL. A SQLite file and its folder are made, and the schema is brought up to date, on
        first use.
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
    def _session(self) -> Iterator[Session]:
        with Session(self.engine) as session, session.begin():
            yield session

    def _upsert(self, session: Session, table: type[Table], rows: Sequence[dict[str, Any]], keep: set[str]) -> None:
        """Insert; on a conflict of primary keys overwrite every column but those in ``keep``."""
        dialect: Any = postgresql if self.engine.dialect.name == "postgresql" else sqlite
        keys = [column.name for column in inspect(table).primary_key]
        # One row a key, the last: Postgres refuses to update a row twice in one statement.
        distinct = {tuple(row[key] for key in keys): row for row in rows}
        for part in chunks(list(distinct.values()), 300):
            statement = dialect.insert(table).values(list(part))
            changes = {c: statement.excluded[c] for c in part[0] if c not in keys and c not in keep}
            if changes:
                statement = statement.on_conflict_do_update(index_elements=keys, set_=changes)
            else:
                statement = statement.on_conflict_do_nothing(index_elements=keys)
            session.execute(statement)

    # --- windows and findings ---------------------------------------------------------------------------

    def record_window(self, batch: FetchBatch, *, run_id: str, now: datetime) -> None:
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
        with self._session() as session:
            self._upsert(session, WindowRow, [row], keep=set())

    def windows(self, source: str | None = None) -> list[WindowRow]:
        query = select(WindowRow).order_by(WindowRow.source, WindowRow.start_at)
        if source:
            query = query.where(WindowRow.source == source)
        with Session(self.engine, expire_on_commit=False) as session:
            return list(session.scalars(query))

    def claim_findings(self, findings: Sequence[Finding], *, window_key: str, now: datetime) -> dict[str, str]:
        """
        Note who read each finding first, and tell it: uid -> window key.

        A finding belongs to the first window that read it, for ever: a repeated window gets its own findings
        again, a later window whose overlap reads the same finding again does not.
        """
        rows = [
            {
                "uid": f.uid,
                "source": f.source,
                "vendor_id": f.vendor_id[:512],
                "window_key": window_key,
                "severity": f.severity.value,
                "detected_at": f.detected_at,
                "first_seen_at": now,
            }
            for f in findings
        ]
        owners: dict[str, str] = {}
        with self._session() as session:
            if rows:
                self._upsert(session, FindingRow, rows, keep=set(rows[0]))
            for part in chunks([f.uid for f in findings]):
                query = select(FindingRow.uid, FindingRow.window_key).where(FindingRow.uid.in_(part))
                owners.update({uid: key for uid, key in session.execute(query)})
        return owners

    # --- reputations ------------------------------------------------------------------------------------

    def reputations(self, provider: str, observables: Sequence[Observable], *, now: datetime) -> dict[str, Reputation]:
        """Stored answers that are still good, by observable key."""
        found: dict[str, Reputation] = {}
        with self._session() as session:
            for part in chunks([o.key for o in observables]):
                query = select(ReputationRow).where(
                    ReputationRow.provider == provider,
                    ReputationRow.observable.in_(part),
                    ReputationRow.good_until > now,
                )
                for row in session.scalars(query):
                    found[row.observable] = Reputation.model_validate(row.document)
        return found

    def store_reputations(self, answers: Iterable[tuple[Reputation, timedelta]]) -> None:
        """Store answers, each with how long it stays good. The caller passes real answers only."""
        rows = [
            {
                "provider": reputation.provider,
                "observable": reputation.observable.key,
                "known_at": reputation.known_at,
                "good_until": reputation.known_at + life,
                "document": reputation.to_json(),
            }
            for reputation, life in answers
        ]
        if rows:
            with self._session() as session:
                self._upsert(session, ReputationRow, rows, keep=set())

    # --- incidents --------------------------------------------------------------------------------------

    def incident(self, marker: str) -> IncidentRow | None:
        with Session(self.engine, expire_on_commit=False) as session:
            return session.get(IncidentRow, marker)

    def record_incident(
        self, marker: str, finding_uid: str, *, unique_id: str, readable_id: str | None, now: datetime
    ) -> None:
        """The incident exists: remember it."""
        row = {
            "marker": marker,
            "finding_uid": finding_uid,
            "unique_id": unique_id,
            "readable_id": readable_id,
            "updated_at": now,
        }
        with self._session() as session:
            self._upsert(session, IncidentRow, [row], keep=set())

    # --- claims -----------------------------------------------------------------------------------------

    def claim(self, name: str, *, by: str, now: datetime, lease: timedelta) -> bool:
        """
        Claim a name until ``release`` or the lease's end. False while somebody else holds it.

        The same claimant may claim again: a retried task has the same name.
        """
        with self._session() as session:
            row = session.get(ClaimRow, name, with_for_update=True)
            if row is None:
                # Two at once: the primary key lets one of them in.
                self._upsert(
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
        """End our own claim; somebody else's stays."""
        with self._session() as session:
            row = session.get(ClaimRow, name)
            if row is not None and row.claimed_by == by:
                session.delete(row)

    # --- actions ----------------------------------------------------------------------------------------

    def record_actions(self, batch: ActionBatch, *, run_id: str, now: datetime) -> None:
        rows = [
            {
                "control": action.control,
                "observable": action.observable.key,
                "verb": action.verb.value,
                "outcome": action.outcome.value,
                "detail": action.detail,
                "proof": dict(action.proof),
                "expires_at": action.expires_at,
                "run_id": run_id,
                "updated_at": now,
            }
            for action in batch.actions
        ]
        if rows:
            with self._session() as session:
                self._upsert(session, ActionRow, rows, keep=set())

    def actions(self, control: str | None = None) -> list[ActionRow]:
        query = select(ActionRow).order_by(ActionRow.control, ActionRow.observable)
        if control:
            query = query.where(ActionRow.control == control)
        with Session(self.engine, expire_on_commit=False) as session:
            return list(session.scalars(query))


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
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


__all__ = ["HEAD", "MIGRATIONS", "Ledger", "SQLAlchemyError", "migrate"]
