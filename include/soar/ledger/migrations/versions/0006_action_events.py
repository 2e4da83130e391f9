"""Every state of every action in a chain of hashes, what is in force apart from the last try, and allow entries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

INSTANT = sa.DateTime(timezone=True)
START = "0" * 64
#: Rows in one statement.
MANY = 500
#: How far an action is proved by its outcome.
REACHED = {"blocked": "active", "detect_only": "active", "watched": "active", "pending": "accepted"}


def upgrade() -> None:
    for column in (sa.Column("rung", sa.String(16)), sa.Column("reached", sa.String(24))):
        op.add_column("actions", column)
    op.create_index("ix_actions_observable", "actions", ["observable"])
    chains = op.create_table(
        "chains",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("length", sa.Integer, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    events, entries = _action_events(), _entries()
    _allows()
    ends = _convert(events, entries)
    op.bulk_insert(chains, [ends, {"name": "allows", "length": 0, "hash": START}])


def _action_events() -> sa.Table:
    events = op.create_table(
        "action_events",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        *_what(),
        sa.Column("changed", sa.Boolean, nullable=False),
        sa.Column("detected_at", INSTANT),
        sa.Column("read_at", INSTANT),
        sa.Column("judged_at", INSTANT),
        sa.Column("approved_at", INSTANT),
        *_who_and_hashes(),
    )
    op.create_index("ix_action_events_observable", "action_events", ["observable", "number"])
    op.create_index("ix_action_events_run_id", "action_events", ["run_id"])
    op.create_index("ix_action_events_at", "action_events", ["at"])
    return events


def _entries() -> sa.Table:
    control, observable, *others = _what()
    entries = op.create_table(
        "entries",
        control,
        observable,
        *others,
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("cancelled", sa.Text, nullable=False),
        sa.Column("lifting", sa.Boolean, nullable=False),
        sa.Column("intended_verb", sa.String(16)),
        sa.Column("intended_until", INSTANT),
        sa.Column("intended_at", INSTANT),
        sa.PrimaryKeyConstraint("control", "observable"),
    )
    op.create_index("ix_entries_expires_at", "entries", ["expires_at"])
    op.create_index("ix_entries_observable", "entries", ["observable"])
    return entries


def _allows() -> None:
    op.create_table(
        "allows",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("change", sa.String(16), nullable=False),
        sa.Column("value", sa.String(768), nullable=False),
        sa.Column("until", INSTANT),
        sa.Column("owner", sa.Text, nullable=False),
        *_who_and_hashes(),
    )


def _what() -> list[sa.Column[Any]]:
    return [
        sa.Column("control", sa.String(64), nullable=False),
        sa.Column("observable", sa.String(768), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("verb", sa.String(16), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("rung", sa.String(16)),
        sa.Column("reached", sa.String(24)),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("proof", sa.JSON, nullable=False),
        sa.Column("expires_at", INSTANT),
        sa.Column("incidents", sa.JSON, nullable=False),
        sa.Column("run_id", sa.String(512), nullable=False),
    ]


def _who_and_hashes() -> list[sa.Column[Any]]:
    return [
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("prev_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    ]


def _convert(events: sa.Table, entries: sa.Table) -> dict[str, Any]:
    """
    Each action as it is known becomes an event of the kind ``earlier``, in order of time, and an entry if it is in
    force. Returns the end of the chain.
    """
    connection, number, previous = op.get_bind(), 0, START
    for rows in _actions(connection):
        made, there = [], []
        for row in rows:
            number += 1
            event = _event(row) | {"number": number}
            made.append({**event, "prev_hash": previous, "hash": (previous := _hash(previous, event))})
            if entry := _entry(event):
                there.append(entry)
        connection.execute(events.insert(), made)
        if there:
            connection.execute(entries.insert(), there)
    actions = sa.table("actions", sa.column("outcome", sa.String), sa.column("reached", sa.String))
    for outcome, reached in REACHED.items():
        connection.execute(actions.update().where(actions.c.outcome == outcome).values(reached=reached))
    return {"name": "action_events", "length": number, "hash": previous}


def _actions(connection: sa.Connection) -> Iterator[list[dict[str, Any]]]:
    names = ("control", "observable", "verb", "outcome", "detail", "run_id")
    actions = sa.table(
        "actions",
        *(sa.column(name, sa.String) for name in names),
        sa.column("proof", sa.JSON),
        sa.column("expires_at", INSTANT),
        sa.column("updated_at", INSTANT),
    )
    ordered = sa.select(actions).order_by(actions.c.updated_at, actions.c.control, actions.c.observable)
    rows = [dict(row) for row in connection.execute(ordered).mappings()]
    for start in range(0, len(rows), MANY):
        yield rows[start : start + MANY]


def _event(row: dict[str, Any]) -> dict[str, Any]:
    more: dict[str, Any] = {
        "at": _utc(row.pop("updated_at")),
        "expires_at": _utc(row["expires_at"]) if row["expires_at"] else None,
        "kind": "earlier",
        "value": "",
        "rung": None,
        "reached": REACHED.get(row["outcome"]),
        "changed": False,
        "incidents": [],
        "by": "",
        "reason": "",
    }
    return row | more | dict.fromkeys(("detected_at", "read_at", "judged_at", "approved_at"))


def _entry(event: dict[str, Any]) -> dict[str, Any] | None:
    """None: nothing of it is in force."""
    outcome, cancelled = event["outcome"], ""
    if outcome == "cancelled":
        # It was written in the place of the state: "was blocked; …".
        outcome, cancelled = event["detail"].removeprefix("was ").partition(";")[0], event["detail"]
    if event["verb"] == "lift" or outcome not in REACHED:
        return None
    names = ("control", "observable", "value", "verb", "rung", "reached", "detail", "proof", "expires_at", "run_id")
    nothing: dict[str, Any] = dict.fromkeys(("intended_verb", "intended_until", "intended_at"))
    times = {"since": event["at"], "updated_at": event["at"]}
    more: dict[str, Any] = {"outcome": outcome, "incidents": [], "cancelled": cancelled, "lifting": False}
    return {name: event[name] for name in names} | times | more | nothing


def _hash(previous: str, row: dict[str, Any]) -> str:
    """As ``chain.hash_of`` at this revision."""
    fields = {
        key: _utc(value).isoformat(timespec="microseconds") if isinstance(value, datetime) else value
        for key, value in row.items()
        if value
    }
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}{text}".encode()).hexdigest()


def _utc(value: datetime) -> datetime:
    """SQLite has no time zone: it is stored as UTC."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def downgrade() -> None:
    for table in ("allows", "entries", "action_events", "chains"):
        op.drop_table(table)
    op.drop_index("ix_actions_observable", "actions")
    with op.batch_alter_table("actions") as actions:
        actions.drop_column("reached")
        actions.drop_column("rung")
