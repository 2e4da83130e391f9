"""Quotas and breakers, every answer with its time, and what a later run has to finish."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

#: Every last answer becomes the first of its history, and back: a body's digest was not kept.
KEEP = """
INSERT INTO reputations (provider, observable, known_at, good_until, body_digest, document)
SELECT provider, observable, known_at, good_until, '', document FROM last_reputations
"""
KEEP_LAST = """
INSERT INTO reputations (provider, observable, known_at, good_until, document)
SELECT provider, observable, known_at, good_until, document FROM all_reputations a WHERE NOT EXISTS (
    SELECT 1 FROM all_reputations b
    WHERE b.provider = a.provider AND b.observable = a.observable AND b.known_at > a.known_at
)
"""


def upgrade() -> None:
    instant = sa.DateTime(timezone=True)
    op.add_column("windows", sa.Column("first_decided_at", instant))
    op.rename_table("reputations", "last_reputations")
    op.create_table(
        "reputations",
        sa.Column("provider", sa.String(64), primary_key=True),
        sa.Column("observable", sa.String(768), primary_key=True),
        sa.Column("known_at", instant, primary_key=True),
        sa.Column("good_until", instant, nullable=False),
        sa.Column("body_digest", sa.String(64), nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_index("ix_reputations_known_at", "reputations", ["known_at"])
    op.execute(KEEP)
    op.drop_table("last_reputations")
    op.create_table(
        "accounts",
        *_account(),
        sa.Column("openings", sa.Integer, nullable=False),
        sa.Column("blocked_until", instant),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "quotas",
        *_account(),
        sa.Column("period_seconds", sa.Integer, primary_key=True),
        sa.Column("started_at", instant, primary_key=True),
        sa.Column("ends_at", instant, nullable=False),
        sa.Column("allowed", sa.Integer, nullable=False),
        sa.Column("used", sa.Integer, nullable=False),
        sa.Column("used_by_backfill", sa.Integer, nullable=False),
        sa.Column("seen_used", sa.Integer, nullable=False),
        sa.Column("last_at", instant, nullable=False),
    )
    op.create_table(
        "unfinished",
        sa.Column("finding_uid", sa.String(64), primary_key=True),
        sa.Column("since", instant, nullable=False),
        sa.Column("retry_at", instant, nullable=False),
        sa.Column("providers", sa.JSON, nullable=False),
        sa.Column("finding", sa.JSON, nullable=False),
    )


def _account() -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String(64), primary_key=True) for name in ("provider", "key", "name")]


def downgrade() -> None:
    for table in ("unfinished", "quotas", "accounts"):
        op.drop_table(table)
    op.rename_table("reputations", "all_reputations")
    op.drop_index("ix_reputations_known_at", "all_reputations")
    op.create_table(
        "reputations",
        sa.Column("provider", sa.String(64), primary_key=True),
        sa.Column("observable", sa.String(768), primary_key=True),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("good_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.execute(KEEP_LAST)
    op.drop_table("all_reputations")
    op.drop_column("windows", "first_decided_at")
