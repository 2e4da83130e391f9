"""When each incident was created, which never changes: so that relating need not read the old ones again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "case_times",
        sa.Column("system", sa.String(64), primary_key=True),
        sa.Column("unique_id", sa.String(200), primary_key=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("case_times")
