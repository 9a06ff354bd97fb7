"""How often an attempt's conversation moved to another model."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; earlier attempts stayed with their model."""
    op.add_column("attempts", sa.Column("rotations", sa.BigInteger(), nullable=False, server_default="0"))
