"""The models' circuit breakers, and the last catalogue of each service."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables of breakers and catalogues."""
    op.create_table(
        "breakers",
        sa.Column("service", sa.Text(), primary_key=True),
        sa.Column("model_id", sa.Text(), primary_key=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("faults", sa.BigInteger(), nullable=False),
        sa.Column("openings", sa.BigInteger(), nullable=False),
        sa.Column("ready_at", sa.DateTime(timezone=True)),
        sa.Column("needs_trial", sa.Boolean(), nullable=False),
        sa.Column("trial_until", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "catalogues",
        sa.Column("address", sa.Text(), primary_key=True),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("fetched_at", sa.DateTime(timezone=True), nullable=False),
    )
