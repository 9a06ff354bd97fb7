"""The check of a task's model before any work is done for it."""

from devtasks.config import OpenHandsConfig
from devtasks.openrouter.client import list_models
from devtasks.openrouter.price import require_known_price
from tasks.run import Run


async def check_price(run: Run) -> None:
    """Raise InvalidInput where the model asked for has no known price and any money limit holds; no Prefect task."""
    limits = (run.task.limits.cost_usd, run.task.limits.batch_cost_usd, run.credentials.max_cost_usd_per_day)
    model = run.task.model or OpenHandsConfig.from_env().model
    if model and any(limit is not None for limit in limits):
        require_known_price(model, await list_models(run.credentials.base_url, run.credentials.api_key))
