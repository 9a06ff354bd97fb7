import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from devtasks.errors import ServiceUnreachable
from devtasks.openrouter.client import ModelList, Pricing, list_models
from devtasks.simulator import Scenario, Simulator

MODEL: dict[str, Any] = {
    "id": "acme/coder:free",
    "name": "Acme Coder",
    "context_length": 131_072,
    "pricing": {"prompt": "0", "completion": "0", "image": "0.1"},
    "supported_parameters": ["tools"],
    "something_new": {"of": "tomorrow"},
}
URL = "http://models.test/api/v1"


def answering(*answers: httpx.Response | Exception) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    """A service that gives these answers in turn, the last one for ever."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        now = answers[min(len(requests), len(answers)) - 1]
        if isinstance(now, Exception):
            raise now
        return now

    return httpx.MockTransport(answer), requests


def ask(transport: httpx.AsyncBaseTransport, key: str | None = None) -> ModelList:
    return asyncio.run(list_models(URL, SecretStr(key) if key else None, transport, first_wait=0))


def good() -> httpx.Response:
    return httpx.Response(200, json={"data": [MODEL]})


def test_the_models_are_read_and_unknown_fields_ignored() -> None:
    transport, requests = answering(good())
    models = ask(transport)
    assert [model.id for model in models.data] == ["acme/coder:free"]
    assert models.data[0].pricing == Pricing(prompt=Decimal(0), completion=Decimal(0))
    assert not models.simulated
    assert "Authorization" not in requests[0].headers, "the list needs no key"


def test_the_key_is_sent_where_there_is_one() -> None:
    transport, requests = answering(good())
    ask(transport, "a-key")
    assert requests[0].headers["Authorization"] == "Bearer a-key"


def test_a_simulator_is_told_from_the_real_service() -> None:
    async def act() -> ModelList:
        scenario = Scenario.model_validate({"name": "s", "models": [{"id": "acme/coder:free"}]})
        async with Simulator(scenario) as simulator:
            return await list_models(simulator.base_url)

    models = asyncio.run(act())
    assert models.simulated
    assert models.data[0].supported_parameters[0] == "tools"


@pytest.mark.parametrize(
    "price",
    [
        pytest.param("-1", id="a-router-says-minus-one"),
        pytest.param("NaN", id="nan"),
        pytest.param("Infinity", id="infinite"),
        pytest.param("free", id="text"),
        pytest.param(None, id="null"),
        pytest.param({}, id="object"),
    ],
)
def test_a_price_that_says_nothing_is_unknown(price: Any) -> None:
    assert Pricing.model_validate({"prompt": price}).prompt is None


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda: httpx.Response(503), id="503"),
        pytest.param(lambda: httpx.ConnectError("refused"), id="refused"),
        pytest.param(lambda: httpx.ReadTimeout("slow"), id="timeout"),
    ],
)
def test_a_passing_fault_is_tried_again(fault: Callable[[], httpx.Response | Exception]) -> None:
    transport, requests = answering(fault(), fault(), good())
    assert len(ask(transport).data) == 1
    assert len(requests) == 3


def test_after_three_tries_the_service_counts_as_unreachable() -> None:
    transport, requests = answering(httpx.ConnectError("refused"))
    with pytest.raises(ServiceUnreachable, match=rf"the model catalogue at {URL} cannot be reached: ConnectError"):
        ask(transport, "a-key")
    assert len(requests) == 3


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"<html>", id="html"),
        pytest.param(b'{"data": []}', id="no-models"),
        pytest.param(b'{"models": []}', id="another-shape"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"[" * 100_000, id="deeper-than-the-stack"),
    ],
)
def test_an_unreadable_answer_is_a_service_that_cannot_be_reached(content: bytes) -> None:
    transport, _ = answering(httpx.Response(200, content=content))
    with pytest.raises(ServiceUnreachable):
        ask(transport)


def test_an_entry_that_cannot_be_read_does_not_hide_the_others() -> None:
    odd: list[Any] = [{"name": "no id"}, "text", {**MODEL, "id": "acme/odd", "architecture": None}]
    transport, _ = answering(httpx.Response(200, json={"data": [*odd, MODEL]}))
    assert [model.id for model in ask(transport).data] == ["acme/coder:free"]


def test_the_answer_s_text_is_kept() -> None:
    transport, _ = answering(good())
    assert ask(transport).document == good().text


def test_a_router_s_price_varies() -> None:
    pricing = Pricing.model_validate({"prompt": "-1", "completion": "-1"})
    assert (pricing.prompt, pricing.completion, pricing.varies) == (None, None, True)
