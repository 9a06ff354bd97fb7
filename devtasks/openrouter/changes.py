"""What differs between two catalogues of a service, in words."""

from collections.abc import Iterable
from decimal import Decimal

from devtasks.selection.capability import ModelCapability

PER = 1_000_000
"""Tokens that prices are shown for."""


def changes(before: Iterable[ModelCapability], after: Iterable[ModelCapability]) -> list[str]:
    """Return one line for each model that came, went, or has another price, context or support of tools, by id."""
    old, new = ({model.model_id: model for model in models} for models in (before, after))
    lines = {name: f"new: {_facts(new[name])}" for name in new.keys() - old.keys()}
    lines |= {name: f"gone: {_facts(old[name])}" for name in old.keys() - new.keys()}
    for name in new.keys() & old.keys():
        if (was := _facts(old[name])) != (now := _facts(new[name])):
            lines[name] = f"changed: {was} → {now}"
    return [f"`{name}` {lines[name]}" for name in sorted(lines)]


def _facts(model: ModelCapability) -> str:
    prices = f"{_price(model.prompt_price)} / {_price(model.completion_price)} for {PER:,} tokens"
    cost = "free" if model.free else prices
    tools = "tools" if model.supports_tools else "no tools"
    return f"{cost}, {model.context_length:,} tokens of context, {tools}"


def _price(price: Decimal | None) -> str:
    return "unknown" if price is None else f"${float(price * PER):g}"
