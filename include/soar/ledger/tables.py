"""The ledger's tables (SQLAlchemy 2). A change here needs a migration in ``migrations/versions``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Boolean, DateTime, Index, Integer, String, Text, TypeDecorator
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


# ``run_id`` is ``dag/run``, of which Airflow allows 250 characters each; ``claimed_by`` has room for
# as many (``Run.claimant`` cuts the run's name).


class WindowRow(Table):
    """One source's one window: what was read, from which pages, and when it was first decided on."""

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
    first_decided_at: Mapped[datetime | None]


class FindingRow(Table):
    """
    A finding seen, and the window that it belongs to: the first one that read it and delivered it. Of a source whose
    events grow, each attacker of an event and each severity that it has reached have a row too
    (``include/soar/extract/growth.py``).

    ``claimed_at`` is when that window last claimed it, ``delivered_at`` when the run's next stage first had it; None:
    not yet, and such a claim ends.
    """

    __tablename__ = "findings"
    uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    source: Mapped[str] = mapped_column(String(64))
    vendor_id: Mapped[str] = mapped_column(String(512))
    window_key: Mapped[str] = mapped_column(String(64))
    severity: Mapped[str] = mapped_column(String(16))
    detected_at: Mapped[datetime]
    first_seen_at: Mapped[datetime]
    claimed_at: Mapped[datetime]
    delivered_at: Mapped[datetime | None]


class ReputationRow(Table):
    """
    A provider's real answer about an observable, when it was known, and until when it need not be asked for again.
    Never an error, never a "not checked". Rows are added and never changed: what was known at any time can be asked.
    """

    __tablename__ = "reputations"
    provider: Mapped[str] = mapped_column(String(64), primary_key=True)
    observable: Mapped[str] = mapped_column(String(768), primary_key=True)
    known_at: Mapped[datetime] = mapped_column(primary_key=True)
    good_until: Mapped[datetime]
    body_digest: Mapped[str] = mapped_column(String(64))
    document: Mapped[dict[str, Any]]

    __table_args__ = (Index("ix_reputations_known_at", "known_at"),)


class AccountRow(Table):
    """
    One kind of call at one provider with one key, and its breaker. Locked by whoever changes its quotas.

    ``openings`` counts how often the breaker opened in a row, ``reason`` says why it did last.
    """

    __tablename__ = "accounts"
    provider: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    openings: Mapped[int] = mapped_column(Integer)
    blocked_until: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(Text)


class QuotaRow(Table):
    """
    One period of one quota of an account.

    ``allowed`` is the declared limit until an answer tells another. ``used`` are the calls made or reserved, and
    never less than ``seen_used``, the most that an answer told.
    """

    __tablename__ = "quotas"
    provider: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    period_seconds: Mapped[int] = mapped_column(Integer, primary_key=True)
    started_at: Mapped[datetime] = mapped_column(primary_key=True)
    ends_at: Mapped[datetime]
    allowed: Mapped[int] = mapped_column(Integer)
    used: Mapped[int] = mapped_column(Integer)
    used_by_backfill: Mapped[int] = mapped_column(Integer)
    seen_used: Mapped[int] = mapped_column(Integer)
    last_at: Mapped[datetime]


class UnfinishedRow(Table):
    """
    A finding that was decided although a source could not be asked about one of its values: a later run takes it up
    again. ``since`` is when that was first so, ``retry_at`` when asking may help.
    """

    __tablename__ = "unfinished"
    finding_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    since: Mapped[datetime]
    retry_at: Mapped[datetime]
    providers: Mapped[list[str]] = mapped_column(JSON)
    finding: Mapped[dict[str, Any]]


class IncidentRow(Table):
    """A finding's incident, as we last knew it: a hint, to be verified at the vendor."""

    __tablename__ = "incidents"
    marker: Mapped[str] = mapped_column(String(64), primary_key=True)
    finding_uid: Mapped[str] = mapped_column(String(64))
    unique_id: Mapped[str] = mapped_column(String(64))
    readable_id: Mapped[str | None] = mapped_column(String(64))
    updated_at: Mapped[datetime]


class CaseTimeRow(Table):
    """When the case-management product created an incident, ours or a person's: it never changes."""

    __tablename__ = "case_times"
    system: Mapped[str] = mapped_column(String(64), primary_key=True)
    unique_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    created_at: Mapped[datetime]


class ClaimRow(Table):
    """
    Who may do something now that two must not do at once, where the vendor has no lock of its own (create an
    incident, comment on one). A claim ends by itself at ``claimed_until``, since the task that made it may be dead.
    """

    __tablename__ = "claims"
    name: Mapped[str] = mapped_column(String(250), primary_key=True)
    claimed_by: Mapped[str] = mapped_column(String(512))
    claimed_until: Mapped[datetime]


class ActionRow(Table):
    """The last report of one control about one observable. What is in force there is an ``EntryRow``."""

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
    rung: Mapped[str | None] = mapped_column(String(16))
    reached: Mapped[str | None] = mapped_column(String(24))

    __table_args__ = (
        Index("ix_actions_expires_at", "expires_at"),
        Index("ix_actions_observable", "observable"),
    )


class EntryRow(Table):
    """
    What of ours is in force at a control, or may be. A try that fails leaves it; what was seen gone has no row.

    ``value`` is the observable's where the key is only its hash. ``since`` is the start of the present time in force.
    ``intended_…`` is a write that was begun and of which no end is known: the control holds the entry as it was or as
    intended. ``cancelled`` says which entry of the gate protects it now, ``lifting`` that it was removed and may still
    be enforced.
    """

    __tablename__ = "entries"
    control: Mapped[str] = mapped_column(String(64), primary_key=True)
    observable: Mapped[str] = mapped_column(String(768), primary_key=True)
    value: Mapped[str] = mapped_column(Text)
    verb: Mapped[str] = mapped_column(String(16))
    outcome: Mapped[str] = mapped_column(String(16))
    rung: Mapped[str | None] = mapped_column(String(16))
    reached: Mapped[str | None] = mapped_column(String(24))
    detail: Mapped[str] = mapped_column(Text)
    since: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    proof: Mapped[dict[str, Any]]
    incidents: Mapped[list[str]] = mapped_column(JSON)
    run_id: Mapped[str] = mapped_column(String(512))
    updated_at: Mapped[datetime]
    cancelled: Mapped[str] = mapped_column(Text)
    lifting: Mapped[bool] = mapped_column(Boolean)
    intended_verb: Mapped[str | None] = mapped_column(String(16))
    intended_until: Mapped[datetime | None]
    intended_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_entries_expires_at", "expires_at"),
        Index("ix_entries_observable", "observable"),
    )


class ChainRow(Table):
    """The end of a table whose rows are chained by hashes. Locked by whoever adds to it."""

    __tablename__ = "chains"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    length: Mapped[int] = mapped_column(Integer)
    hash: Mapped[str] = mapped_column(String(64))


class Chained(Table):
    """A row of a chain (``chain.py``): only added, never changed. ``hash`` covers every column and ``prev_hash``."""

    __abstract__ = True
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False, sort_order=-2)
    at: Mapped[datetime] = mapped_column(sort_order=-1)
    by: Mapped[str] = mapped_column(String(200), sort_order=1)
    reason: Mapped[str] = mapped_column(Text, sort_order=1)
    prev_hash: Mapped[str] = mapped_column(String(64), sort_order=2)
    hash: Mapped[str] = mapped_column(String(64), sort_order=2)


class ActionEventRow(Chained):
    """
    One thing that happened to an action.

    ``kind``: ``intended`` (before the call), ``reported`` (by the control), ``answered`` (by the person who was asked),
    ``cancelled`` (a later entry of the gate protects it), ``lifted`` (a person wants it gone everywhere), ``removed``
    (at the control, by somebody else), ``earlier`` (the state as a release before the events knew it). ``control`` is
    empty where the event is about all of them. ``by`` is a person, and empty where the workflow acted by itself.
    """

    __tablename__ = "action_events"
    kind: Mapped[str] = mapped_column(String(16))
    control: Mapped[str] = mapped_column(String(64))
    observable: Mapped[str] = mapped_column(String(768))
    value: Mapped[str] = mapped_column(Text)
    verb: Mapped[str] = mapped_column(String(16))
    outcome: Mapped[str] = mapped_column(String(16))
    rung: Mapped[str | None] = mapped_column(String(16))
    reached: Mapped[str | None] = mapped_column(String(24))
    changed: Mapped[bool] = mapped_column(Boolean)
    detail: Mapped[str] = mapped_column(Text)
    proof: Mapped[dict[str, Any]]
    expires_at: Mapped[datetime | None]
    incidents: Mapped[list[str]] = mapped_column(JSON)
    run_id: Mapped[str] = mapped_column(String(512))
    detected_at: Mapped[datetime | None]
    read_at: Mapped[datetime | None]
    judged_at: Mapped[datetime | None]
    approved_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_action_events_observable", "observable", "number"),
        Index("ix_action_events_run_id", "run_id"),
        Index("ix_action_events_at", "at"),
    )


class AllowRow(Chained):
    """An entry of ``never_block.allow`` beside the policy's was added (``change`` is ``add``) or ended (``end``)."""

    __tablename__ = "allows"
    change: Mapped[str] = mapped_column(String(16))
    value: Mapped[str] = mapped_column(String(768))
    until: Mapped[datetime | None]
    owner: Mapped[str] = mapped_column(Text)


class PolicyRow(Table):
    """A policy by which verdicts were made, as JSON: an old verdict is made again under its own rules."""

    __tablename__ = "policies"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    document: Mapped[dict[str, Any]]
    first_used_at: Mapped[datetime]


class VerdictRow(Table):
    """
    One verdict of one run, with all that it followed from. Rows are added and never changed.

    ``id`` is the digest of run, observable, inputs, policy and outcome: what is decided again in the same way is
    the same row. ``outcome``: ``act``, ``hold``, ``refuse``, or ``leave`` where nothing spoke for acting; ``plan``
    is the indicator or the refusal. ``last_seen_at`` is event time, ``decided_at`` the clock's.
    """

    __tablename__ = "verdicts"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    run_id: Mapped[str] = mapped_column(String(512))
    observable: Mapped[str] = mapped_column(String(768))
    last_seen_at: Mapped[datetime]
    decided_at: Mapped[datetime]
    policy_digest: Mapped[str] = mapped_column(String(64))
    inputs_digest: Mapped[str] = mapped_column(String(64))
    minimum_severity: Mapped[str | None] = mapped_column(String(16))
    standing: Mapped[str] = mapped_column(String(16))
    confidence: Mapped[int] = mapped_column(Integer)
    outcome: Mapped[str] = mapped_column(String(16))
    reasons: Mapped[list[str]] = mapped_column(JSON)
    inputs: Mapped[dict[str, Any]]
    plan: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))

    __table_args__ = (
        Index("ix_verdicts_observable", "observable", "last_seen_at"),
        Index("ix_verdicts_decided_at", "decided_at"),
        Index("ix_verdicts_run_id", "run_id"),
    )
