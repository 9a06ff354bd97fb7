"""The step that chooses the model of the next attempts."""

from collections.abc import Mapping
from datetime import UTC, datetime

from prefect import get_run_logger, task

from devtasks.circuit_breaker import earliest_ready
from devtasks.config import OpenHandsConfig
from devtasks.errors import NoModelAvailable
from devtasks.model_selector import MIN_CONTEXT, Candidate, ModelCapability, ModelSelector, TaskRequirements
from devtasks.openrouter.client import list_models
from tasks.options import RETRIED
from tasks.run import Run

CHARACTERS_PER_TOKEN = 3
"""A low estimate for code, so that the needed context is estimated high."""


@task(name="select-model", **RETRIED)
async def select_model(run: Run, prompt: str, tried: tuple[str, ...]) -> Candidate:
    """Return the best model of the catalogue that was not tried yet; raise NoModelAvailable with the reasons."""
    catalogue = await list_models(run.credentials.base_url, run.credentials.api_key)
    run.simulated = run.simulated or catalogue.simulated
    run.prices = {model.id: model.pricing for model in catalogue.data}
    config = OpenHandsConfig.from_env()
    selector = ModelSelector([ModelCapability.of(model) for model in catalogue.data])
    requirements = TaskRequirements(
        category=run.task.category,
        complexity=run.task.complexity,
        quality_threshold=run.task.quality_threshold,
        context_tokens=MIN_CONTEXT + len(prompt) // CHARACTERS_PER_TOKEN,
        model=run.task.model or config.model,
    )
    cooling: Mapping[str, datetime] = {}
    if config.enable_circuit_breaker:
        cooling = await run.ledger.cooling(datetime.now(UTC))
    ranked = selector.rank(requirements, exclude=tried)
    ready = [each for each in ranked if each.model_id not in cooling]
    if first := earliest_ready([each.model_id for each in ranked], cooling):
        raise NoModelAvailable(f"every model that fits cools down; the first until {first:%H:%M:%S} UTC", first)
    candidate = ready[0] if ready else selector.select_model(requirements, exclude=tried)
    candidates = len(ready)
    mark = " (simulated)" if catalogue.simulated else ""
    get_run_logger().info(
        "model: %s%s, score %.2f (%s), best of %d",
        *(candidate.model_id, mark, candidate.score, ", ".join(candidate.reasons), candidates),
    )
    return candidate
