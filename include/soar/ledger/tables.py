"""The ledger's tables (SQLAlchemy 2). A change here needs a migration in ``migrations/versions``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Index, Integer, String, Text, TypeDecorator
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on every database. SQLite has no time zone: it is stored and read back as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("the ledger stores aware datetimes only")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Table(DeclarativeBase):
    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON}


# ``run_id`` and ``claimed_by`` are ``dag/run``: Airflow allows 250 characters each.


class WindowRow(Table):
    """One source's one window: what was read, from which pages."""

    __tablename__ = "windows"
    source: Mapped[str] = mapped_column(String(64), primary_key=True)
    start_at: Mapped[datetime] = mapped_column(primary_key=True)
    end_at: Mapped[datetime] = mapped_column(primary_key=True)
    chosen_by: Mapped[str] = mapped_column(String(200))
    run_id: Mapped[str] = mapped_column(String(512))
    pages: Mapped[int] = mapped_column(Integer)
    records: Mapped[int] = mapped_column(Integer)
    findings: Mapped[int] = mapped_column(Integer)
    rejected: Mapped[int] = mapped_column(Integer)
    digest: Mapped[str] = mapped_column(String(64))
    fetched_at: Mapped[datetime]


class FindingRow(Table):
    """A finding seen, and the window that it belongs to: the first one that read it."""

    __tablename__ = "findings"
    uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    source: Mapped[str] = mapped_column(String(64))
    vendor_id: Mapped[str] = mapped_column(String(512))
    window_key: Mapped[str] = mapped_column(String(64))
    severity: Mapped[str] = mapped_column(String(16))
    detected_at: Mapped[datetime]
    first_seen_at: Mapped[datetime]


class ReputationRow(Table):
    """A provider's last real answer about an observable. Never an error, never a "not checked"."""

    __tablename__ = "reputations"
    provider: Mapped[str] = mapped_column(String(64), primary_key=True)
    observable: Mapped[str] = mapped_column(String(768), primary_key=True)
    known_at: Mapped[datetime]
    good_until: Mapped[datetime]
    document: Mapped[dict[str, Any]]


class IncidentRow(Table):
    """A finding's incident, as we last knew it: a hint, to be verified at the vendor."""

    __tablename__ = "incidents"
    marker: Mapped[str] = mapped_column(String(64), primary_key=True)
    finding_uid: Mapped[str] = mapped_column(String(64))
    unique_id: Mapped[str] = mapped_column(String(64))
    readable_id: Mapped[str | None] = mapped_column(String(64))
    updated_at: Mapped[datetime]


class ClaimRow(Table):
    """
    Who may do something now that two runs must not do at once, where the vendor has no lock of its own (create an
    incident, comment on one). A claim ends by itself at ``claimed_until``, since the task that made it may be dead.
    """

    __tablename__ = "claims"
    name: Mapped[str] = mapped_column(String(250), primary_key=True)
    claimed_by: Mapped[str] = mapped_column(String(512))
    claimed_until: Mapped[datetime]


class ActionRow(Table):
    """The last known state of one observable at one control."""

    __tablename__ = "actions"
    control: Mapped[str] = mapped_column(String(64), primary_key=True)
    observable: Mapped[str] = mapped_column(String(768), primary_key=True)
    verb: Mapped[str] = mapped_column(String(16))
    outcome: Mapped[str] = mapped_column(String(16))
    detail: Mapped[str] = mapped_column(Text)
    proof: Mapped[dict[str, Any]]
    expires_at: Mapped[datetime | None]
    run_id: Mapped[str] = mapped_column(String(512))
    updated_at: Mapped[datetime]

    __table_args__ = (Index("ix_actions_expires_at", "expires_at"),)
