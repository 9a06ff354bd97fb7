"""What `GET /models` and `GET /key` answer."""

from collections.abc import Sequence
from decimal import Decimal

from devtasks.simulator.scenario import Limits, Model
from devtasks.simulator.shapes import Json


def models(catalogue: Sequence[Model]) -> Json:
    """Return the list of models in OpenRouter's form, prices as strings in USD per token."""
    return {"data": [_model(model) for model in catalogue], "total_count": len(catalogue), "links": {"next": None}}


def _model(model: Model) -> Json:
    return {
        "id": model.id,
        "canonical_slug": model.id.removesuffix(":free"),
        "hugging_face_id": None,
        "name": model.name or model.id,
        "created": model.created,
        "description": model.description,
        "context_length": model.context_length,
        "architecture": {
            "modality": "text->text",
            "input_modalities": ["text"],
            "output_modalities": ["text"],
            "tokenizer": "Other",
            "instruct_type": None,
        },
        "pricing": {"prompt": f"{model.prompt_price:f}", "completion": f"{model.completion_price:f}"},
        "top_provider": {
            "context_length": model.context_length,
            "max_completion_tokens": model.max_completion_tokens,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": list(model.supported_parameters),
        "default_parameters": None,
        "expiration_date": model.expiration_date.isoformat() if model.expiration_date else None,
    }


def key(limits: Limits, *, spent: Decimal, daily: Json) -> Json:
    """Return what OpenRouter tells about the key; `daily` is the free models' daily count, empty for no limit."""
    usage = float(spent)
    return {
        "data": {
            "label": "simulated",
            "limit": None,
            "limit_remaining": None,
            "limit_reset": None,
            "include_byok_in_limit": False,
            "usage": usage,
            "usage_daily": usage,
            "usage_weekly": usage,
            "usage_monthly": usage,
            "byok_usage": 0,
            "is_free_tier": limits.is_free_tier,
            "is_management_key": False,
            "expires_at": None,
            "creator_user_id": None,
            "rate_limit": {"requests": -1, "interval": "10s", "note": "This field is deprecated."},
            **daily,
        }
    }
