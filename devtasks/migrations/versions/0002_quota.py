"""The account's quota."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables of accounts and reservations."""
    op.create_table(
        "quota_accounts",
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column("day", sa.DateTime(timezone=True)),
        sa.Column("correction", sa.BigInteger(), nullable=False),
        sa.Column("day_limit", sa.BigInteger()),
        sa.Column("checked_at", sa.DateTime(timezone=True)),
        sa.Column("blocked_until", sa.DateTime(timezone=True)),
        sa.Column("exhausted_until", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "quota_reservations",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("flow_run_id", sa.Text(), nullable=False),
        sa.Column("batch", sa.Text()),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("windowed", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("counted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("bound_usd", sa.Double[float]()),
        sa.Column("cost_usd", sa.Double[float]()),
    )
    op.create_index("ix_quota_reservations_account", "quota_reservations", ["account", "counted_at"])
    op.create_index("ix_quota_reservations_flow_run_id", "quota_reservations", ["flow_run_id"])
    op.create_index("ix_quota_reservations_batch", "quota_reservations", ["batch"])
