"""What the gateway adds to a call: the same calls straight to the simulator and through a gateway on each ledger.

Caller, gateway, simulator and database are processes of their own, as they are in a run. The ways take turns in every
round; each round of a gateway is a fresh account, whose minute, day, breaker and calls are kept and never refuse one.
`DEVTASKS_DATABASE_URL` is not used: each database is fresh. Run it on an idle machine.
"""

import asyncio
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from importlib.metadata import version
from itertools import count, product
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import aiohttp
from pydantic import SecretStr
from report import Aim, finish, machine

from deployments.postgres import EmbeddedPostgres
from devtasks.ledger import Ledger
from devtasks.openrouter.client import Pricing
from devtasks.openrouter.gateway import Gateway
from devtasks.openrouter.pacing import LedgerPacing
from devtasks.openrouter.route import Route, Service
from devtasks.openrouter.upstream import Upstream
from devtasks.quota import AccountLimits, Budgets, Order
from devtasks.task import TaskLimits

DIRECT, POSTGRESQL, SQLITE = "direct", "gateway, PostgreSQL", "gateway, SQLite"
CALLS = {1: 100, 8: 240, 64: 320}
"""How many calls a round makes, by how many callers make them at once."""

ROUNDS = 6
WARM_UP_CALLS = 30
MODEL = "acme/coder:free"
KEY = "sk-simulated"
TURNS = 6
FREE = Pricing(prompt=Decimal(0), completion=Decimal(0))
NEVER_FULL = 1_000_000

ADDED_MS, OF_DIRECT = 5.0, 0.5
"""The aims: what one caller may wait longer for a call (median), and which share of the calls 64 must get done."""


@dataclass(frozen=True)
class Endpoint:
    """Where calls go, and with which key."""

    base_url: str
    key: str


@dataclass(frozen=True)
class Round:
    """So many calls on one way: how long each took, and all together."""

    way: str
    callers: int
    milliseconds: tuple[float, ...]
    seconds: float


@dataclass(frozen=True)
class Figures:
    """The rounds of one way and number of callers, together."""

    median_ms: float
    p99_ms: float
    calls_per_second: float


def main() -> int:
    """Let the ways take turns, and print what each costs."""
    where = machine()
    where["versions"] |= {name: version(name) for name in ("aiohttp", "sqlalchemy", "asyncpg", "orjson")}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="devtasks-bench-")))
        simulator = stack.enter_context(_simulator(folder))
        gateways = {
            POSTGRESQL: stack.enter_context(_gateways(simulator, stack.enter_context(_postgres(folder)))),
            SQLITE: stack.enter_context(_gateways(simulator, f"sqlite:///{folder}/ledger.db")),
        }
        rounds = asyncio.run(_measure(simulator, gateways))
    figures = {
        (way, callers): _figures([each for each in rounds if (each.way, each.callers) == (way, callers)])
        for callers, way in product(CALLS, (DIRECT, *gateways))
    }
    return finish("gateway", where, _rows(figures), [vars(each) for each in rounds], _aims(figures))


def _rows(figures: dict[tuple[str, int], Figures]) -> list[tuple[str, ...]]:
    rows = [("callers", "way", "median ms", "p99 ms", "added ms", "calls/s", "of direct")]
    for (way, callers), each in figures.items():
        direct = figures[DIRECT, callers]
        rows.append(
            (
                str(callers),
                way,
                f"{each.median_ms:.2f}",
                f"{each.p99_ms:.2f}",
                f"{each.median_ms - direct.median_ms:.2f}",
                f"{each.calls_per_second:.0f}",
                f"{each.calls_per_second / direct.calls_per_second:.2f}",
            )
        )
    return rows


def _aims(figures: dict[tuple[str, int], Figures]) -> list[Aim]:
    few, many = min(CALLS), max(CALLS)
    aims: list[Aim] = []
    for way in (POSTGRESQL, SQLITE):
        added = figures[way, few].median_ms - figures[DIRECT, few].median_ms
        share = figures[way, many].calls_per_second / figures[DIRECT, many].calls_per_second
        aims += [
            Aim(f"milliseconds added to a call at one caller, {way}", added, ADDED_MS, "at most"),
            Aim(f"share of direct throughput at {many} callers, {way}", share, OF_DIRECT, "at least"),
        ]
    return aims


def _figures(rounds: Iterable[Round]) -> Figures:
    rounds = list(rounds)
    taken = [each for one in rounds for each in one.milliseconds]
    return Figures(median(taken), quantiles(taken, n=100)[-1], len(taken) / sum(each.seconds for each in rounds))


async def _measure(simulator: Endpoint, gateways: dict[str, Callable[[], Any]]) -> list[Round]:
    rounds: list[Round] = []
    ways = {DIRECT: lambda: _nothing(simulator)} | gateways
    for _, callers, (way, opened) in product(range(ROUNDS), CALLS, ways.items()):
        async with opened() as endpoint, _client(callers) as client:
            await _call(client, endpoint, callers, max(WARM_UP_CALLS, callers))
            started = time.perf_counter()
            milliseconds = await _call(client, endpoint, callers, CALLS[callers])
            rounds.append(Round(way, callers, milliseconds, round(time.perf_counter() - started, 4)))
    return rounds


@asynccontextmanager
async def _nothing(endpoint: Endpoint) -> AsyncGenerator[Endpoint]:
    yield endpoint


def _client(callers: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=callers))


async def _call(client: aiohttp.ClientSession, endpoint: Endpoint, callers: int, calls: int) -> tuple[float, ...]:
    """Make so many calls, so many at once, and return the milliseconds of each."""
    left, taken = iter(range(calls)), list[float]()
    headers = {"Authorization": f"Bearer {endpoint.key}", "Content-Type": "application/json"}

    async def caller() -> None:
        for _ in left:
            started = time.perf_counter()
            async with client.post(f"{endpoint.base_url}/chat/completions", data=REQUEST, headers=headers) as answer:
                content = await answer.read()
            taken.append(round((time.perf_counter() - started) * 1_000, 3))
            assert answer.status == 200, content

    await asyncio.gather(*(caller() for _ in range(callers)))
    return tuple(taken)


@contextmanager
def _simulator(folder: Path) -> Generator[Endpoint]:
    """Yield a simulator in a process of its own, without delay or limits."""
    call = {"name": "terminal", "arguments": {"command": "sed -n 1,80p src/prices.py " + "# look\n" * 20}}
    turn = {"text": "I read the module before I write its tests. " * 8, "tool_calls": [call]}
    model = {"id": MODEL, "conversations": [{"turns": [turn] * (TURNS + 1)}]}
    scenario = folder / "scenario.json"
    scenario.write_text(json.dumps({"name": "gateway", "models": [model]}))
    command = [sys.executable, "-m", "devtasks.simulator", str(scenario)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield Endpoint(process.stdout.readline().split()[-1], KEY)
        finally:
            process.terminate()


@contextmanager
def _gateways(simulator: Endpoint, ledger_url: str) -> Generator[Callable[[], Any]]:
    """Yield what opens a fresh gateway on this ledger, in a process that keeps the ledger open."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, simulator, ledger_url), daemon=True)
    process.start()
    there.close()  # so that its end is seen here

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Endpoint]:
        here.send(True)
        yield await asyncio.to_thread(here.recv)
        here.send(True)
        await asyncio.to_thread(here.recv)

    try:
        yield opened
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, simulator: Endpoint, ledger_url: str) -> None:
    async def serve() -> None:
        async with Ledger.open(ledger_url) as ledger:
            for number in count():
                await asyncio.to_thread(pipe.recv)
                async with _gateway(simulator, ledger, f"round-{number}") as gateway:
                    pipe.send(Endpoint(gateway.base_url, gateway.token))
                    await asyncio.to_thread(pipe.recv)
                pipe.send(None)

    asyncio.run(serve())


@asynccontextmanager
async def _gateway(simulator: Endpoint, ledger: Ledger, name: str) -> AsyncGenerator[Gateway]:
    """Yield a run's gateway as the flow builds it, for an account of its own."""
    limits = AccountLimits(requests_per_minute=NEVER_FULL, requests_per_day=NEVER_FULL)
    pacing = LedgerPacing(ledger, Order(name, name, simulator.base_url), limits, Budgets())
    task = TaskLimits(llm_calls=1_000, tokens=10**9, cost_usd=None)
    async with (
        Upstream(simulator.base_url, SecretStr(simulator.key)) as upstream,
        Gateway(flow_run_id=name, limits=task) as gateway,
    ):
        gateway.begin(1, [Route(MODEL, Service(upstream, pacing), FREE)])
        yield gateway


@contextmanager
def _postgres(folder: Path) -> Generator[str]:
    server = EmbeddedPostgres(folder / "postgres")
    server.start(("devtasks",))
    try:
        yield server.url("devtasks")
    finally:
        server.stop()


def _request() -> bytes:
    """Return an agent's request in the middle of a task: prompt, tools, and some turns with what the tools said."""
    words = "The agent works in a git worktree, runs commands there and reads what they print. "
    tool = {"type": "object", "properties": {f"argument_{n}": {"type": "string", "description": words} for n in "abc"}}
    tools = [
        {"type": "function", "function": {"name": f"tool_{n}", "description": words * 4, "parameters": tool}}
        for n in range(6)
    ]
    arguments = json.dumps({"command": "grep -rn price src"})
    called = {"id": "call", "type": "function", "function": {"name": "tool_1", "arguments": arguments}}
    turn = [
        {"role": "assistant", "content": words, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call", "content": 'src/prices.py:12:    return "price"\n' * 55},
    ]
    messages = [{"role": "system", "content": words * 110}, {"role": "user", "content": words * 5}, *turn * TURNS]
    return json.dumps({"model": MODEL, "messages": messages, "tools": tools, "max_tokens": 4_096}).encode()


REQUEST = _request()


if __name__ == "__main__":
    sys.exit(main())
