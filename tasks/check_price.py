"""The check of a task's model before any work is done for it."""

from datetime import UTC, datetime

from devtasks.config import OpenHandsConfig
from devtasks.openrouter.catalogue import load_catalogue
from devtasks.openrouter.overlay import Overlay
from devtasks.openrouter.price import require_known_price
from tasks.run import Run


async def check_price(run: Run) -> None:
    """Raise InvalidInput where the model asked for has no known price and any money limit holds; no Prefect task."""
    config, keys = OpenHandsConfig.from_env(), run.credentials
    limits = (run.task.limits.cost_usd, run.task.limits.batch_cost_usd, keys.max_cost_usd_per_day)
    model = run.task.model or config.model
    if model and any(limit is not None for limit in limits):
        overlay = Overlay.load(config.models_file)
        catalogue = await load_catalogue(keys.base_url, keys.api_key, run.ledger, overlay, now=datetime.now(UTC))
        require_known_price(model, catalogue.models)
