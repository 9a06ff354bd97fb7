"""The step that chooses the model of the next attempts."""

from datetime import UTC, datetime

from prefect import get_run_logger, task

from devtasks.config import OpenHandsConfig
from devtasks.model_selector import MIN_CONTEXT, Candidate, TaskRequirements
from devtasks.openrouter.catalogue import load_catalogue
from devtasks.openrouter.overlay import Overlay
from devtasks.selection.loading import load_selector
from tasks.options import RETRIED
from tasks.run import Run

CHARACTERS_PER_TOKEN = 3
"""A low estimate for code, so that the needed context is estimated high."""


@task(name="select-model", **RETRIED)
async def select_model(run: Run, prompt: str, tried: tuple[str, ...]) -> tuple[Candidate, ...]:
    """Return the best models that were not tried yet, the best first; raise NoModelAvailable with the reasons."""
    config, now, keys = OpenHandsConfig.from_env(), datetime.now(UTC), run.credentials
    overlay = Overlay.load(config.models_file)
    catalogue = await load_catalogue(keys.base_url, keys.api_key, run.ledger, overlay, now=now)
    run.simulated = run.simulated or catalogue.simulated
    day_ends = await (await run.services.of(None, keys)).pacing.day_ends()
    if day_ends:
        get_run_logger().warning("the account's free requests are used up until %s", f"{day_ends:%Y-%m-%d %H:%M %Z}")
    selector = await load_selector(
        *(catalogue, run.task.category, run.ledger, now), breaker=config.enable_circuit_breaker, day_ends=day_ends
    )
    requirements = TaskRequirements(
        category=run.task.category,
        complexity=run.task.complexity,
        quality_threshold=run.task.quality_threshold,
        context_tokens=MIN_CONTEXT + len(prompt) // CHARACTERS_PER_TOKEN,
        max_cost_usd=run.task.limits.cost_usd,
        model=run.task.model or config.model,
    )
    ranking = selector.rank(requirements, exclude=tried)
    lineup = ranking.lineup()
    candidate = lineup[0]
    mark = " (simulated)" if catalogue.simulated else ""
    get_run_logger().info(
        "model: %s%s, score %.2f (%s), best of %d",
        *(candidate.model_id, mark, candidate.score, ", ".join(candidate.reasons), len(ranking.candidates)),
    )
    return lineup
