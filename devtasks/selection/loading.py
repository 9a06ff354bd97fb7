"""From what the ledger keeps to a selector that is up to date."""

from datetime import datetime

from devtasks.ledger import Ledger
from devtasks.model_selector import ModelSelector
from devtasks.openrouter.catalogue import Catalogue
from devtasks.openrouter.price import is_free
from devtasks.selection.evidence import HISTORY
from devtasks.task import TaskCategory


async def load_selector(
    catalogue: Catalogue,
    category: TaskCategory,
    ledger: Ledger,
    now: datetime,
    *,
    breaker: bool = True,
    day_ends: datetime | None = None,
) -> ModelSelector:
    """Return the selector over a catalogue with what is known at `now`; simulated attempts count for simulators.

    Without `breaker` no model is left out because it is in trouble. `day_ends` is when the service's account has free
    requests again, None where it has some.
    """
    outcomes = await ledger.outcomes(category, HISTORY, simulated=catalogue.simulated)
    cooling = await _cooling(catalogue, ledger, now) if breaker else dict[str, datetime]()
    if day_ends:
        theirs = (model for model in catalogue.models if model.endpoint is None)
        cooling |= {model.model_id: day_ends for model in theirs if is_free(model.model_id, model.pricing)}
    return ModelSelector(catalogue.models, now=now, outcomes={category: outcomes}, cooling=cooling)


async def _cooling(catalogue: Catalogue, ledger: Ledger, now: datetime) -> dict[str, datetime]:
    """Return which models cool down, each at the service that serves it."""
    served = {model.model_id: model.endpoint.base_url for model in catalogue.models if model.endpoint}
    return {
        model_id: ready
        for service in {catalogue.service, *served.values()}
        for model_id, ready in (await ledger.cooling(service, now)).items()
        if served.get(model_id, catalogue.service) == service
    }
