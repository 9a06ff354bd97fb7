"""The SQL store that all processes share, on PostgreSQL or in a SQLite file.

It keeps what was measured (attempts, calls), the account's quota, the models' circuit breakers and the last catalogue.
"""

from devtasks.ledger.catalogue_cache import CachedCatalogue, Catalogues
from devtasks.ledger.columns import metadata
from devtasks.ledger.passages import Answer, Ended, Leaving, Passages
from devtasks.ledger.quota import Arrived, DayUse

__all__ = ["Answer", "Arrived", "CachedCatalogue", "DayUse", "Ended", "Leaving", "Ledger", "metadata"]


class Ledger(Passages, Catalogues):
    """The open ledger; every method is one transaction, and may be called from several coroutines at once.

    Every method raises ServiceUnreachable when the database went away or stays locked, and LedgerError when it refuses.
    """
