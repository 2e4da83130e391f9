"""Verdicts with all that they followed from, and the policies by which they were made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "policies",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("first_used_at", instant, nullable=False),
    )
    op.create_table(
        "verdicts",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("run_id", sa.String(512), nullable=False),
        sa.Column("observable", sa.String(768), nullable=False),
        sa.Column("last_seen_at", instant, nullable=False),
        sa.Column("decided_at", instant, nullable=False),
        sa.Column("policy_digest", sa.String(64), nullable=False),
        sa.Column("inputs_digest", sa.String(64), nullable=False),
        sa.Column("minimum_severity", sa.String(16)),
        sa.Column("standing", sa.String(16), nullable=False),
        sa.Column("confidence", sa.Integer, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reasons", sa.JSON, nullable=False),
        sa.Column("inputs", sa.JSON, nullable=False),
        sa.Column("plan", sa.JSON),
    )
    op.create_index("ix_verdicts_observable", "verdicts", ["observable", "last_seen_at"])
    op.create_index("ix_verdicts_decided_at", "verdicts", ["decided_at"])
    op.create_index("ix_verdicts_run_id", "verdicts", ["run_id"])


def downgrade() -> None:
    for table in ("verdicts", "policies"):
        op.drop_table(table)
