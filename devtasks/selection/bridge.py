"""What the selection asks of the ledger, answered by the ledger's attempts; nothing is cached and no model cools down.

It stands where the ledger itself will stand once it has these methods.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from devtasks.ledger import Ledger
from devtasks.metrics_collector import ExecutionMetrics
from devtasks.openrouter.catalogue import CachedCatalogue
from devtasks.recovery import FailureKind
from devtasks.selection.evidence import SAYS_OF_MODEL, Outcome
from devtasks.task import TaskCategory


class LedgerBridge:
    """A ledger as a SelectionLedger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def cached_catalogue(self, address: str) -> CachedCatalogue | None:
        """Return None: nothing is kept."""
        return None

    async def cache_catalogue(self, address: str, document: str, at: datetime) -> None:
        """Keep nothing."""

    async def outcomes(self, category: TaskCategory, limit: int, *, simulated: bool) -> Sequence[Outcome]:
        """Return the last attempts that say something of their model, newest first."""
        return outcomes_of(await self._ledger.attempts(), category, limit, simulated=simulated)

    async def cooling(self, at: datetime) -> Mapping[str, datetime]:
        """Return that no model cools down."""
        return {}


def outcomes_of(
    attempts: Iterable[ExecutionMetrics], category: TaskCategory, limit: int, *, simulated: bool
) -> tuple[Outcome, ...]:
    """Return the outcomes among attempts of one category, newest first, at most `limit`.

    An attempt counts for the model that was chosen, whichever answered in its place; a cost of zero is an unknown one,
    as OpenRouter reports none for some models.
    """
    telling = [
        Outcome(each.model_requested, each.failure is None, each.started_at, each.seconds, each.cost_usd or None)
        for each in attempts
        if each.category == category and each.simulated is simulated and _says_of_model(each.failure)
    ]
    return tuple(sorted(telling, key=lambda outcome: outcome.at, reverse=True)[:limit])


def _says_of_model(failure: str | None) -> bool:
    """Whether an attempt that ended so tells of its model; a kind of another version tells nothing."""
    if failure is None:
        return True
    return failure in set(FailureKind) and SAYS_OF_MODEL[FailureKind(failure)]
