"""Builders of models and outcomes."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from devtasks.selection.capability import ModelCapability, ModelSpecialization
from devtasks.selection.evidence import Outcome

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def make_model(model_id: str = "acme/coder:free", *, price: str | None = "0", **changes: Any) -> ModelCapability:
    """A free model of code with tools; `price` in USD per million tokens, for prompt and completion alike."""
    each = None if price is None else Decimal(price) / 1_000_000
    values: dict[str, Any] = {
        "context_length": 131_072,
        "supports_tools": True,
        "prompt_price": each,
        "completion_price": each,
        "specialization": ModelSpecialization.CODE,
    }
    return ModelCapability(model_id, **values | changes)


def outcomes(model_id: str, *accepted: bool, seconds: float = 60, cost: float | None = None) -> list[Outcome]:
    """Attempts of one model, newest first, a minute apart."""
    return [
        Outcome(model_id, each, NOW - timedelta(minutes=age), seconds, cost) for age, each in enumerate(accepted, 1)
    ]
