"""When a window claimed a finding, and when it was delivered: a claim that leads to nothing ends."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    instant = sa.DateTime(timezone=True)
    op.add_column("findings", sa.Column("claimed_at", instant))
    op.add_column("findings", sa.Column("delivered_at", instant))
    # Whether those of before were delivered is not known. They were, unless a fetch died; and they are acted on again
    # if they are said not to have been.
    op.execute("UPDATE findings SET claimed_at = first_seen_at, delivered_at = first_seen_at")
    with op.batch_alter_table("findings") as findings:
        findings.alter_column("claimed_at", existing_type=instant, nullable=False)


def downgrade() -> None:
    with op.batch_alter_table("findings") as findings:
        findings.drop_column("delivered_at")
        findings.drop_column("claimed_at")
