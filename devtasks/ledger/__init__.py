"""The SQL store of what was measured: attempts and calls to models, on PostgreSQL or in a SQLite file."""

from devtasks.ledger.columns import metadata
from devtasks.ledger.measurements import Measurements

__all__ = ["Ledger", "metadata"]


class Ledger(Measurements):
    """The open ledger; every method is one transaction, and may be called from several coroutines at once.

    Every method raises ServiceUnreachable when the database went away or stays locked, and LedgerError when it refuses.
    """
