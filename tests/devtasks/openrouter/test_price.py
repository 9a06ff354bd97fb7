from decimal import Decimal
from typing import Any

import pytest

from devtasks.openrouter.client import Pricing
from devtasks.openrouter.price import MOST_COMPLETION_TOKENS, bound_usd, cost_usd, is_free

ZERO, DEAR, UNKNOWN = (
    Pricing(prompt=Decimal(0), completion=Decimal(0)),
    Pricing(prompt=Decimal(1), completion=Decimal(2)),
    Pricing(),
)
HALF_KNOWN = Pricing(prompt=Decimal(1))


@pytest.mark.parametrize(
    ("model", "pricing", "free"),
    [
        pytest.param("acme/a:free", DEAR, True, id="by-name"),
        pytest.param("acme/a", ZERO, True, id="by-price"),
        pytest.param("acme/a", DEAR, False, id="paid"),
        pytest.param("acme/a", HALF_KNOWN, True, id="unknown-counts-to-be-sure"),
        pytest.param("acme/a", None, True, id="not-listed-counts-to-be-sure"),
    ],
)
def test_which_models_may_count_as_free(model: str, pricing: Pricing | None, free: bool) -> None:
    assert is_free(model, pricing) is free


@pytest.mark.parametrize(
    ("pricing", "cost"), [(ZERO, 0.0), (DEAR, 7.0), (UNKNOWN, None), (HALF_KNOWN, None), (None, None)]
)
def test_tokens_cost_their_price_where_it_is_known(pricing: Pricing | None, cost: float | None) -> None:
    assert cost_usd(pricing, 3, 2) == cost


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        pytest.param({"max_tokens": 9}, 9, id="asked"),
        pytest.param({"max_completion_tokens": 8}, 8, id="by-the-newer-name"),
        pytest.param({"max_tokens": 9, "max_completion_tokens": 8}, 9, id="the-larger"),
        pytest.param({"max_tokens": None}, MOST_COMPLETION_TOKENS, id="not-asked"),
        pytest.param({"max_tokens": -5}, MOST_COMPLETION_TOKENS, id="nonsense"),
    ],
)
def test_a_call_s_bound_holds_its_bytes_and_its_longest_answer(body: dict[str, Any], tokens: int) -> None:
    asked = body | {"messages": [{"content": "é" * 100}]}
    bound = bound_usd(DEAR, asked)
    assert bound is not None
    assert 200 + 2 * tokens <= bound <= 300 + 2 * tokens
    assert bound_usd(UNKNOWN, asked) is None
