"""Processes that send as many calls through gateways of their own as one account's quota lets them."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import httpx
from gateways import ServiceGateway, gateway_to
from pydantic import SecretStr

from devtasks.ledger import Ledger
from devtasks.openrouter.account import Account
from devtasks.openrouter.gateway import Gateway
from devtasks.openrouter.pacing import LedgerPacing
from devtasks.quota import AccountLimits, Budgets, Order
from devtasks.recovery import FailureKind
from devtasks.simulator import Scenario
from devtasks.task import TaskLimits

MODEL = "acme/coder:free"
KEY = SecretStr("sk-simulated")


def scenario(**limits: Any) -> Scenario:
    """One free model that answers in up to a fifth of a second, for an account with these limits."""
    latency = {"distribution": "uniform", "minimum": 0, "maximum": 0.2}
    model = {"id": MODEL, "latency": latency, "conversations": [{"turns": [{"text": "Hello."}]}]}
    return Scenario.model_validate({"name": "hammer", "limits": limits, "models": [model]})


@dataclass(frozen=True)
class Target:
    """Where to call, which ledger keeps the quota, how long its minute is, and how many calls go on at once."""

    base_url: str
    ledger_url: str
    minute_seconds: float | None = None
    at_once: int = 4


@asynccontextmanager
async def paced_gateway(target: Target, name: str) -> AsyncGenerator[ServiceGateway]:
    """A gateway on the ledger's quota; without a minute the calls are counted and not held back."""
    async with Ledger.open(target.ledger_url) as ledger:
        account = Account(ledger, target.base_url, KEY)
        limits = AccountLimits(minute_seconds=target.minute_seconds or 60)
        found = await account.limits(limits)
        limits = found if target.minute_seconds else limits
        pacing = LedgerPacing(ledger, Order(account.name, name), limits, Budgets(), recheck=account.correct)
        task = TaskLimits(llm_calls=1_000)
        given: dict[str, Any] = {"flow_run_id": name, "limits": task, "sleep": asyncio.sleep}
        async with gateway_to(target.base_url, KEY, MODEL, pacing=pacing, **given) as gateway:
            yield gateway


async def ask(client: httpx.AsyncClient, gateway: Gateway) -> httpx.Response:
    return await client.post(
        f"{gateway.base_url}/chat/completions",
        headers={"Authorization": f"Bearer {gateway.token}"},
        json={"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10},
    )


async def hammer(target: Target, name: str) -> None:
    """Call until the day is used up."""

    async def caller(client: httpx.AsyncClient, gateway: Gateway) -> None:
        while True:
            answer = await ask(client, gateway)
            if not answer.is_success:
                assert answer.json()["error"]["metadata"]["error_type"] == FailureKind.DAY_LIMIT, answer.text
                return

    async with paced_gateway(target, name) as gateway, httpx.AsyncClient(trust_env=False, timeout=600) as client:
        await asyncio.gather(*(caller(client, gateway) for _ in range(target.at_once)))


class Herd:
    """Processes that were forked before any event loop ran, and begin when they are told the target."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("fork")
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for number in range(count):
            here, there = context.Pipe()
            process = context.Process(target=_begin, args=(there, f"run-{number}"), daemon=True)
            process.start()
            self._pipes.append(here)
            self._processes.append(process)

    def release(self, target: Target) -> None:
        for pipe in self._pipes:
            pipe.send(target)

    async def ended(self, seconds: float) -> list[int | None]:
        """Wait until every process has ended, and return their exit codes; one that has not is killed."""
        deadline = asyncio.get_running_loop().time() + seconds
        while any(process.is_alive() for process in self._processes):
            if asyncio.get_running_loop().time() > deadline:
                self.kill()
            await asyncio.sleep(0.05)
        return [process.exitcode for process in self._processes]

    def kill(self) -> None:
        for process in self._processes:
            process.kill()


def leave() -> None:
    """End a forked process well, without what its parent wants done at its own exit (Prefect's threads are joined)."""
    os._exit(0)


def _begin(pipe: Connection, name: str) -> None:
    asyncio.run(hammer(pipe.recv(), name))
    leave()


class Victim:
    """A process that makes calls without end through a gateway of its own, to be killed at any moment."""

    def __init__(self, make_calls: Callable[[Target, str], Coroutine[Any, Any, None]]) -> None:
        self._pipe, there = multiprocessing.get_context("fork").Pipe()
        self._process = multiprocessing.get_context("fork").Process(
            target=_suffer, args=(there, make_calls), daemon=True
        )
        self._process.start()

    def release(self, target: Target, name: str) -> None:
        self._pipe.send((target, name))

    async def died(self, seconds: float = 60) -> None:
        """Wait until it has killed itself."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self._process.is_alive():
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.02)
        assert self._process.exitcode == -signal.SIGKILL

    async def kill(self) -> None:
        self._process.kill()
        await self.died()


def _suffer(pipe: Connection, make_calls: Callable[[Target, str], Coroutine[Any, Any, None]]) -> None:
    target, name = pipe.recv()
    asyncio.run(make_calls(target, name))


async def call_for_ever(target: Target, name: str) -> None:
    """Call, a few at once, whatever comes of it."""

    async def caller(client: httpx.AsyncClient, gateway: Gateway) -> None:
        while True:
            await ask(client, gateway)

    async with paced_gateway(target, name) as gateway, httpx.AsyncClient(trust_env=False, timeout=600) as client:
        await asyncio.gather(*(caller(client, gateway) for _ in range(target.at_once)))
