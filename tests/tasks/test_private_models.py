"""Models of one's own beside OpenRouter's: by configuration alone, at their own address with their own key."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prefect.logging import disable_run_logger
from pydantic import SecretStr

from blocks import OpenRouterCredentials
from devtasks.circuit_breaker import CallEnd, Signal
from devtasks.errors import NoModelAvailable
from devtasks.ledger import Ledger
from devtasks.model_selector import Candidate
from devtasks.openrouter.account import fingerprint
from devtasks.openrouter.gateway import Gateway
from devtasks.openrouter.route import Route
from devtasks.redaction import Redactor
from devtasks.simulator import Scenario, Simulator
from devtasks.task import DevTask, TaskLimits
from tasks import run as run_module
from tasks.run import Services
from tasks.select_model import select_model

TURN = {"turns": [{"text": "Hello."}]}


def simulator(model: str, key: str, **more: Any) -> Simulator:
    described = {"id": model, "conversations": [TURN]} | more
    return Simulator(Scenario.model_validate({"name": "service", "keys": [key], "models": [described]}))


@dataclass
class Scene:
    """A run with two services, and what its block of the name `gpu` says."""

    run: Any
    public: Simulator
    private: Simulator
    ledger: Ledger

    async def select(self) -> tuple[Candidate, ...]:
        with disable_run_logger():
            return await select_model.fn(self.run, "", ())

    async def ask(self, lineup: tuple[Candidate, ...]) -> httpx.Response:
        models = [each.capability for each in lineup]
        opened = [await self.run.services.of(each.endpoint, self.run.credentials) for each in models]
        routes = [Route(each.model_id, at, each.pricing) for each, at in zip(models, opened, strict=True)]
        async with Gateway(flow_run_id="r", limits=TaskLimits(cost_usd=None)) as gateway:
            gateway.begin(1, routes)
            async with httpx.AsyncClient(trust_env=False) as client:
                return await client.post(
                    f"{gateway.base_url}/chat/completions",
                    headers={"Authorization": f"Bearer {gateway.token}"},
                    json={"messages": [{"role": "user", "content": "Hi"}]},
                )


@asynccontextmanager
async def scene(folder: Path, patch: pytest.MonkeyPatch, *, tools: bool = True, **faults: Any) -> AsyncGenerator[Scene]:
    async with AsyncExitStack() as stack:
        public = await stack.enter_async_context(simulator("acme/public:free", "public-key", **faults))
        private = await stack.enter_async_context(simulator("our/coder", "private-key"))
        ledger = await stack.enter_async_context(Ledger.open(f"sqlite:///{folder}/ledger.db"))
        own = {
            "id": "our/coder",
            "context_length": 65_536,
            "tools": tools,
            "prices": {"prompt": 0, "completion": 0},
            "endpoint": {"base_url": private.base_url, "credentials": "gpu"},
        }
        (folder / "models.yaml").write_text(json.dumps({"models": [own]}))
        patch.setenv("DEVTASKS_MODELS", str(folder / "models.yaml"))
        gpu = OpenRouterCredentials(api_key=SecretStr("private-key"), requests_per_minute=3)

        async def load(name: str) -> OpenRouterCredentials:
            assert name == "gpu"
            return gpu

        patch.setattr(run_module.OpenRouterCredentials, "aload", load)
        task = DevTask.parse(task_id="t", category="unit_test", description="x", repository=".")
        keys = OpenRouterCredentials(api_key=SecretStr("public-key"), base_url=public.base_url)
        services = Services(stack, ledger, task, "r", breaker=True, redactor=Redactor())
        run = SimpleNamespace(task=task, ledger=ledger, credentials=keys, simulated=False, services=services)
        yield Scene(run, public, private, ledger)


def named(lineup: tuple[Candidate, ...]) -> list[str]:
    return [each.model_id for each in lineup]


def test_a_model_of_one_s_own_is_chosen_and_called_at_its_address_with_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act() -> None:
        async with scene(tmp_path, monkeypatch) as on:
            lineup = await on.select()
            assert sorted(named(lineup)) == ["acme/public:free", "our/coder"]
            own = tuple(each for each in lineup if each.model_id == "our/coder")
            assert (await on.ask(own)).status_code == 200
            assert [record.model for record in on.private.requests] == ["our/coder"]
            assert list(on.public.requests) == []

    asyncio.run(act())


def test_its_block_s_limits_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act() -> dict[str, Any]:
        async with scene(tmp_path, monkeypatch) as on:
            lineup = await on.select()
            opened = {
                each.model_id: await on.run.services.of(each.capability.endpoint, on.run.credentials) for each in lineup
            }
            return {model: service.pacing._limits.requests_per_minute for model, service in opened.items()}

    assert asyncio.run(act()) == {"our/coder": 3, "acme/public:free": None}


def test_a_conversation_moves_from_openrouter_to_one_s_own_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act() -> None:
        async with scene(tmp_path, monkeypatch, faults=[{"kind": "upstream_429"}]) as on:
            lineup = sorted(await on.select(), key=lambda each: each.model_id)
            assert (await on.ask(tuple(lineup))).status_code == 200
            assert (len(on.public.requests), len(on.private.requests)) == (1, 1)
            assert list(await on.ledger.cooling(on.public.base_url, datetime.now(UTC))) == ["acme/public:free"]

    asyncio.run(act())


def test_one_s_own_model_cools_at_its_own_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act() -> tuple[list[str], list[str]]:
        async with scene(tmp_path, monkeypatch) as on:
            trouble = CallEnd(Signal.LIMITED, datetime.now(UTC))
            await on.ledger.observe_model(on.public.base_url, "our/coder", trouble)
            elsewhere = named(await on.select())
            await on.ledger.observe_model(on.private.base_url, "our/coder", trouble)
            return elsewhere, named(await on.select())

    elsewhere, here = asyncio.run(act())
    assert "our/coder" in elsewhere, "the public service's model of the same name says nothing of it"
    assert here == ["acme/public:free"]


def test_without_tool_calls_it_is_a_candidate_that_shares_no_conversation_with_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act() -> tuple[Candidate, ...]:
        async with scene(tmp_path, monkeypatch, tools=False) as on:
            on.run.task = on.run.task.model_copy(update={"model": "our/coder"})
            return await on.select()

    (own,) = asyncio.run(act())
    assert (own.model_id, own.capability.supports_tools) == ("our/coder", False)


def tomorrow(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


async def exhaust(on: Scene) -> None:
    account = fingerprint(on.public.base_url, SecretStr("public-key"))
    await on.ledger.block_account(account, tomorrow(datetime.now(UTC)), day=True)


def test_where_the_day_is_used_up_its_free_models_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act() -> tuple[list[str], NoModelAvailable]:
        async with scene(tmp_path, monkeypatch) as on:
            await exhaust(on)
            left = named(await on.select())
            on.run.task = on.run.task.model_copy(update={"model": "acme/public:free"})
            with pytest.raises(NoModelAvailable) as refused:
                await on.select()
            return left, refused.value

    left, refused = asyncio.run(act())
    assert left == ["our/coder"]
    assert refused.ready_at is not None
    assert refused.ready_at == tomorrow(refused.ready_at - timedelta(days=1))


def test_a_conversation_whose_account_s_day_ends_goes_on_at_another_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act() -> None:
        async with scene(tmp_path, monkeypatch) as on:
            lineup = sorted(await on.select(), key=lambda each: each.model_id)
            await exhaust(on)
            assert (await on.ask(tuple(lineup))).status_code == 200
            assert (len(on.public.requests), len(on.private.requests)) == (0, 1), "nothing of the day is spent on it"

    asyncio.run(act())
