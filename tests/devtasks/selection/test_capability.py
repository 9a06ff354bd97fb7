from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from models import make_model

from devtasks.openrouter.client import Architecture, ListedModel, Pricing
from devtasks.selection.capability import ModelCapability, ModelSpecialization, Priors


def listed(**changes: Any) -> ModelCapability:
    free = Pricing(prompt=Decimal(0), completion=Decimal(0))
    values: dict[str, Any] = {"id": "acme/m", "pricing": free, "supported_parameters": ("tools",)}
    return ModelCapability.of(ListedModel(**values | changes))


@pytest.mark.parametrize(
    ("prompt", "completion", "free", "router"),
    [
        pytest.param("0", "0", True, False, id="zero"),
        pytest.param("0.000001", "0.000003", False, False, id="paid"),
        pytest.param("0", "0.000001", False, False, id="only-the-prompt-is-free"),
        pytest.param(None, "0", False, False, id="prompt-unknown"),
        pytest.param("0", None, False, False, id="completion-unknown"),
        pytest.param("-1", "-1", False, True, id="a-router"),
    ],
)
def test_the_prices_decide_what_is_free_and_what_is_a_router(
    prompt: str | None, completion: str | None, free: bool, router: bool
) -> None:
    model = listed(pricing=Pricing.model_validate({"prompt": prompt, "completion": completion}))
    assert (model.free, model.is_router) == (free, router)


def test_a_name_that_says_free_does_not_make_it_so() -> None:
    assert not listed(id="acme/m:free", pricing=Pricing(prompt=Decimal("0.000001"), completion=Decimal(0))).free


def test_prices_are_exact() -> None:
    assert listed(pricing=Pricing.model_validate({"prompt": "0.0000001"})).prompt_price == Decimal("0.0000001")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"id": "qwen/qwen3-coder:free"}, ModelSpecialization.CODE, id="coder"),
        pytest.param({"id": "mistralai/devstral-small"}, ModelSpecialization.CODE, id="devstral"),
        pytest.param({"id": "acme/m", "name": "Acme Code 2"}, ModelSpecialization.CODE, id="by-its-display-name"),
        pytest.param({"id": "meta-llama/llama-3.3-70b"}, ModelSpecialization.GENERAL, id="llama"),
    ],
)
def test_the_name_tells_what_a_model_is_made_for(changes: dict[str, Any], expected: ModelSpecialization) -> None:
    assert listed(**changes).specialization is expected


def test_the_facts_that_selection_needs_are_read() -> None:
    # OpenRouter lists previews of audio models at a price of zero.
    model = listed(
        architecture=Architecture(output_modalities=("audio",)), expiration_date="2026-04-01", supported_parameters=()
    )
    assert (model.writes_text, model.supports_tools, model.context_length) == (False, False, 0)
    assert model.expires == date(2026, 4, 1)
    assert listed(expiration_date="soon").expires is None


def test_an_attempt_is_estimated_from_prices_and_latency() -> None:
    model = make_model(price="2", priors=Priors(latency_seconds=1.5))
    assert model.attempt_cost == pytest.approx(75_000 * 2 / 1e6)
    assert model.attempt_seconds == pytest.approx(20 * 1.5)
    unknown = make_model(price=None)
    assert (unknown.attempt_cost, unknown.attempt_seconds) == (None, None)
