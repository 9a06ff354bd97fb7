import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

import devtasks.simulator
from devtasks.simulator import Scenario, Simulator

FREE = "acme/coder-small:free"
Act = Callable[[httpx.AsyncClient, Simulator], Awaitable[Any]]


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = datetime(2031, 1, 15, 12, 0, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def play(clock: Clock) -> Callable[[Scenario, Act], Any]:
    """Serve the scenario, let the test talk to it with an authorised client, and return what the test returns."""

    def run(scenario: Scenario, act: Act) -> Any:
        async def serve() -> Any:
            async with (
                Simulator(scenario, now=clock) as simulator,
                httpx.AsyncClient(
                    base_url=simulator.base_url, headers={"Authorization": "Bearer simulated"}, trust_env=False
                ) as client,
            ):
                return await act(client, simulator)

        return asyncio.run(serve())

    return run


@pytest.fixture
def two_models() -> Scenario:
    return Scenario.load(Path(devtasks.simulator.__file__).parent / "scenarios" / "two-models.yaml")


@pytest.fixture
def make_scenario() -> Callable[..., Scenario]:
    """Build a scenario of one model; `turns` and other keys of the model by name, the scenario's in `top`."""

    def make(top: dict[str, Any] | None = None, *, turns: list[Any] | None = None, **model: Any) -> Scenario:
        conversations = [{"turns": turns or [{"text": "Hello."}]}]
        return Scenario.model_validate(
            {"name": "one-model", "models": [{"id": FREE, "conversations": conversations} | model]} | (top or {})
        )

    return make


@pytest.fixture
def ask() -> Callable[..., Awaitable[httpx.Response]]:
    """Post one chat request; `answered` is the number of assistant messages it holds already."""

    async def post(
        client: httpx.AsyncClient,
        text: str | list[dict[str, str]] = "Hi",
        *,
        answered: int = 0,
        model: str = FREE,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> httpx.Response:
        messages: list[dict[str, Any]] = [{"role": "system", "content": "S"}, {"role": "user", "content": text}]
        for index in range(answered):
            messages.append({"role": "assistant", "content": None, "tool_calls": []})
            messages.append({"role": "tool", "tool_call_id": f"call-{index}", "content": "ok"})
        body = {"model": model, "messages": messages} | more
        return await client.post("/chat/completions", json=body, headers=headers)

    return post
