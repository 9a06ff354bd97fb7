"""From what the ledger keeps to a selector that is up to date."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from devtasks.model_selector import ModelSelector
from devtasks.openrouter.catalogue import Catalogue, CatalogueCache
from devtasks.selection.evidence import HISTORY, Outcomes
from devtasks.task import TaskCategory


class ModelStates(Protocol):
    """Where it is kept which models are not to be asked for a while."""

    async def cooling(self, at: datetime) -> Mapping[str, datetime]:
        """Return for each model that cools down at this moment when it is ready again."""
        ...


class SelectionLedger(CatalogueCache, Outcomes, ModelStates, Protocol):
    """What the selection of a model asks of the ledger."""


async def load_selector(
    catalogue: Catalogue, category: TaskCategory, ledger: SelectionLedger, now: datetime
) -> ModelSelector:
    """Return the selector over a catalogue with what is known at `now`; simulated attempts count for simulators."""
    outcomes = await ledger.outcomes(category, HISTORY, simulated=catalogue.simulated)
    cooling = await ledger.cooling(now)
    return ModelSelector(catalogue.models, now=now, outcomes={category: outcomes}, cooling=cooling)
