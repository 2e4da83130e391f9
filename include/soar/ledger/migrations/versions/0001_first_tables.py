"""Windows, findings, reputations, incidents, actions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "windows",
        sa.Column("source", sa.String(64), primary_key=True),
        sa.Column("start_at", instant, primary_key=True),
        sa.Column("end_at", instant, primary_key=True),
        sa.Column("chosen_by", sa.String(200), nullable=False),
        sa.Column("run_id", sa.String(512), nullable=False),
        sa.Column("pages", sa.Integer, nullable=False),
        sa.Column("records", sa.Integer, nullable=False),
        sa.Column("findings", sa.Integer, nullable=False),
        sa.Column("rejected", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("fetched_at", instant, nullable=False),
    )
    op.create_table(
        "findings",
        sa.Column("uid", sa.String(64), primary_key=True),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("vendor_id", sa.String(512), nullable=False),
        sa.Column("window_key", sa.String(64), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("detected_at", instant, nullable=False),
        sa.Column("first_seen_at", instant, nullable=False),
    )
    op.create_table(
        "reputations",
        sa.Column("provider", sa.String(64), primary_key=True),
        sa.Column("observable", sa.String(768), primary_key=True),
        sa.Column("known_at", instant, nullable=False),
        sa.Column("good_until", instant, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_table(
        "incidents",
        sa.Column("marker", sa.String(64), primary_key=True),
        sa.Column("finding_uid", sa.String(64), nullable=False),
        sa.Column("unique_id", sa.String(64), nullable=False),
        sa.Column("readable_id", sa.String(64)),
        sa.Column("updated_at", instant, nullable=False),
    )
    op.create_table(
        "claims",
        sa.Column("name", sa.String(250), primary_key=True),
        sa.Column("claimed_by", sa.String(512), nullable=False),
        sa.Column("claimed_until", instant, nullable=False),
    )
    op.create_table(
        "actions",
        sa.Column("control", sa.String(64), primary_key=True),
        sa.Column("observable", sa.String(768), primary_key=True),
        sa.Column("verb", sa.String(16), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("proof", sa.JSON, nullable=False),
        sa.Column("expires_at", instant),
        sa.Column("run_id", sa.String(512), nullable=False),
        sa.Column("updated_at", instant, nullable=False),
    )
    op.create_index("ix_actions_expires_at", "actions", ["expires_at"])


def downgrade() -> None:
    for table in ("actions", "claims", "incidents", "reputations", "findings", "windows"):
        op.drop_table(table)
