"""What a call can cost, and what it did cost, by the catalogue's prices."""

import json
from collections.abc import Iterable
from typing import Any

from devtasks.errors import InvalidInput
from devtasks.openrouter.client import Pricing
from devtasks.selection.capability import ModelCapability

MOST_COMPLETION_TOKENS = 65_536
"""Tokens of an answer where the request sets no bound; the agent's requests always do."""


def is_free(model: str, pricing: Pricing | None) -> bool:
    """Whether OpenRouter's limits on free models may hold for a model; an unknown price is taken for a free one's."""
    if model.endswith(":free") or pricing is None or pricing.prompt is None or pricing.completion is None:
        return True
    return not (pricing.prompt or pricing.completion)


def is_zero(pricing: Pricing | None) -> bool:
    """Whether both prices are known, and zero."""
    return pricing is not None and pricing.prompt == 0 and pricing.completion == 0


def cost_usd(pricing: Pricing | None, prompt_tokens: int, completion_tokens: int) -> float | None:
    """Return the price of so many tokens, None where it is unknown."""
    if pricing is None or pricing.prompt is None or pricing.completion is None:
        return None
    return float(pricing.prompt * prompt_tokens + pricing.completion * completion_tokens)


def bound_usd(pricing: Pricing | None, body: dict[str, Any]) -> float | None:
    """Return the most a request can cost, None where its price is unknown.

    A token is at least one byte of the request, so its bytes bound the prompt; the request's own bound on the answer
    bounds the rest.
    """
    if is_zero(pricing):
        return 0.0
    asked = [body.get(name) for name in ("max_tokens", "max_completion_tokens")]
    bounds = [value for value in asked if isinstance(value, int) and value > 0]
    prompt = len(json.dumps(body, ensure_ascii=False).encode(errors="replace"))
    return cost_usd(pricing, prompt, max(bounds, default=MOST_COMPLETION_TOKENS))


def require_known_price(model_id: str, models: Iterable[ModelCapability]) -> None:
    """Raise InvalidInput where this one of the models has no usable price; for tasks with a money limit."""
    if any(model.model_id == model_id and not model.price_known for model in models):
        raise InvalidInput("model", model_id, "a model whose price is known, or a task without any money limit")
