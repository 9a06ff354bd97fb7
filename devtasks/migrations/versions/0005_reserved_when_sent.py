"""A call is reserved in the moment it is sent: no reservation lapses any more, or is given back."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Drop what was not sent, and when it would have lapsed."""
    reservations = sa.table("quota_reservations", sa.column("state"))
    op.execute(reservations.delete().where(reservations.c.state.in_(("reserved", "released"))))
    op.drop_column("quota_reservations", "expires_at")
