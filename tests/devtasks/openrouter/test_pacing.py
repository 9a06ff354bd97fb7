"""The gateway on the ledger: what it waits for, what it refuses, and what it writes down and when."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from gateways import ServiceGateway, gateway_to
from hammer import ask
from pydantic import SecretStr

from devtasks.ledger import Ledger
from devtasks.openrouter.calls import TRIES
from devtasks.openrouter.client import Pricing
from devtasks.openrouter.pacing import LedgerPacing
from devtasks.quota import AccountLimits, Budgets, Order
from devtasks.recovery import FailureKind
from devtasks.simulator import Scenario, Simulator
from devtasks.task import TaskLimits

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SERVICE = "https://models.test"
MODEL = "acme/coder:free"
FREE = Pricing(prompt=Decimal(0), completion=Decimal(0))
DEAR = Pricing(prompt=Decimal("0.001"), completion=Decimal("0.01"))
K = FailureKind


class Clock:
    """The ledger's clock, which only the pacing's own waits move on."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Scene:
    """A gateway before a simulator, on a ledger; `waits` are those the run's log would show."""

    def __init__(
        self, gateway: ServiceGateway, simulator: Simulator, ledger: Ledger, client: httpx.AsyncClient
    ) -> None:
        self.gateway = gateway
        self.simulator = simulator
        self.ledger = ledger
        self.waits: list[float] = []
        self._client = client

    def begin(self, attempt: int = 1, pricing: Pricing | None = FREE) -> None:
        self.gateway.start(attempt, MODEL, pricing=pricing, on_wait=lambda seconds, _: self.waits.append(seconds))

    async def ask(self, times: int = 1) -> list[str]:
        """Call so often, and return for each the kind of refusal, `answered` for none."""
        answers = [await ask(self._client, self.gateway) for _ in range(times)]
        await self.gateway.settled()
        return ["answered" if each.is_success else each.json()["error"]["metadata"]["error_type"] for each in answers]


@asynccontextmanager
async def scene(url: str, *, limits: AccountLimits, faults: Any = (), **more: Any) -> AsyncGenerator[Scene]:
    model = {"id": MODEL, "faults": faults, "conversations": [{"turns": [{"text": "Hello."}]}]}
    clock = Clock()
    given = {"budgets": Budgets(), "breaker": False, "task": TaskLimits(cost_usd=None)} | more
    task, budgets = given.pop("task"), given.pop("budgets")
    async with (
        Simulator(Scenario.model_validate({"name": "paced", "models": [model]})) as simulator,
        Ledger.open(url, now=clock) as ledger,
        httpx.AsyncClient(trust_env=False, timeout=20) as client,
    ):
        pacing = LedgerPacing(ledger, Order("account", "run", SERVICE), limits, budgets, **given)
        gateway = gateway_to(
            simulator.base_url,
            SecretStr("sk-simulated"),
            MODEL,
            pacing=pacing,
            limits=task,
            earlier=await ledger.calls("run"),
            sleep=clock.sleep,
        )
        async with gateway as gateway:
            it = Scene(gateway, simulator, ledger, client)
            it.begin()
            yield it


def play[T](url: str, act: Callable[[Scene], Awaitable[T]], **more: Any) -> T:
    async def run() -> T:
        async with scene(url, **({"limits": AccountLimits()} | more)) as it:
            return await act(it)

    return asyncio.run(run())


def test_a_full_minute_is_waited_for_in_sight(sqlite_url: str) -> None:
    async def act(it: Scene) -> tuple[list[str], list[float], float]:
        return await it.ask(3), it.waits, it.gateway.waited_seconds

    answers, waits, waited = play(sqlite_url, act, limits=AccountLimits(requests_per_minute=2))
    assert answers == ["answered"] * 3
    assert waits == [62.0]
    assert waited > 0


def test_a_used_up_day_is_a_refusal_that_names_the_reset_and_nothing_is_sent(sqlite_url: str) -> None:
    async def act(it: Scene) -> tuple[list[str], int, Any]:
        return await it.ask(2), len(it.simulator.requests), it.gateway.refusal

    answers, sent, refusal = play(sqlite_url, act, limits=AccountLimits(requests_per_day=1))
    assert answers == ["answered", K.DAY_LIMIT]
    assert sent == 1
    assert refusal.until == datetime(2026, 3, 2, tzinfo=UTC)
    assert refusal.body()["error"]["metadata"]["retry_at"] == "2026-03-02T00:00:00+00:00"


def test_before_a_day_is_called_used_up_the_service_is_asked(sqlite_url: str) -> None:
    asked: list[int] = []

    async def act(it: Scene) -> tuple[list[str], list[float]]:
        async def recheck() -> None:
            asked.append(len(it.simulator.requests))
            arrived = await it.ledger.arrived_today("account")
            await it.ledger.correct_quota("account", limit=2, used=len(it.simulator.requests), arrived=arrived)

        it.gateway.service.pacing._recheck = recheck
        arrived = await it.ledger.arrived_today("account")
        await it.ledger.correct_quota("account", limit=2, used=1, arrived=arrived)
        return await it.ask(3), it.waits

    answers, _ = play(sqlite_url, act)
    assert answers == ["answered", "answered", K.DAY_LIMIT]
    assert asked == [1, 2], "once it found room, once it did not"


def test_the_service_s_own_minute_is_waited_out_and_the_call_made_again(sqlite_url: str) -> None:
    async def act(it: Scene) -> tuple[list[str], int, int]:
        return await it.ask(), len(it.waits), len(it.simulator.requests)

    faults = [{"kind": "account_minute_429", "calls": [1]}]

    async def run() -> tuple[list[str], int, int]:
        async with scene(sqlite_url, limits=AccountLimits(), faults=faults) as it:
            it.ledger._clock.now = datetime.now(UTC)  # the simulator's reset is in real time
            return await act(it)

    assert asyncio.run(run()) == (["answered"], 1, 2)


def test_the_service_s_own_day_ends_it_for_every_call_that_follows(sqlite_url: str) -> None:
    async def run() -> tuple[list[str], int]:
        faults = [{"kind": "account_day_429"}]
        async with scene(sqlite_url, limits=AccountLimits(), faults=faults) as it:
            it.ledger._clock.now = datetime.now(UTC)
            return await it.ask(2), len(it.simulator.requests)

    assert asyncio.run(run()) == ([K.DAY_LIMIT, K.DAY_LIMIT], 1)


def test_a_model_in_trouble_is_left_alone_with_the_time_it_is_ready(sqlite_url: str) -> None:
    async def act(it: Scene) -> tuple[list[str], int, Any, dict[str, datetime]]:
        answers = await it.ask(2)
        cooling = dict(await it.ledger.cooling(SERVICE, datetime.now(UTC)))
        return answers, len(it.simulator.requests), it.gateway.refusal, cooling

    faults = [{"kind": "upstream_429", "retry_after": 120}]
    answers, sent, refusal, cooling = play(sqlite_url, act, faults=faults, breaker=True)
    assert answers == [K.UPSTREAM_RATE_LIMIT, K.COOLING]
    assert sent == 1
    assert cooling == {MODEL: refusal.until}
    assert timedelta(seconds=100) < refusal.until - datetime.now(UTC) <= timedelta(seconds=120)


def test_after_its_cooldown_an_answer_closes_it(sqlite_url: str) -> None:
    async def act(it: Scene) -> tuple[list[str], int, int]:
        return await it.ask(2), len(it.waits), len(it.simulator.requests)

    faults = [{"kind": "upstream_429", "retry_after": 0, "calls": [1]}]
    assert play(sqlite_url, act, faults=faults, breaker=True) == (["answered", "answered"], 1, 3)


def test_switched_off_the_breaker_neither_asks_nor_learns(sqlite_url: str) -> None:
    async def act(it: Scene) -> tuple[list[str], dict[str, datetime]]:
        return await it.ask(2), dict(await it.ledger.cooling(SERVICE, datetime.now(UTC)))

    faults = [{"kind": "upstream_429", "retry_after": 120}]
    assert play(sqlite_url, act, faults=faults) == ([K.UPSTREAM_RATE_LIMIT] * 2, {})


@pytest.mark.parametrize(
    ("budgets", "pricing", "kind"),
    [
        pytest.param(Budgets(task_usd=0.05), DEAR, K.LIMIT_COST, id="task"),
        pytest.param(Budgets(day_usd=0.05), DEAR, K.LIMIT_BUDGET, id="day"),
        pytest.param(Budgets(task_usd=99), None, K.LIMIT_COST, id="unknown-price-with-a-limit"),
        pytest.param(Budgets(task_usd=0, day_usd=0), FREE, "answered", id="free-where-nothing-may-be-spent"),
        pytest.param(Budgets(), None, "answered", id="unknown-price-without-a-limit"),
        pytest.param(Budgets(task_usd=9), DEAR, "answered", id="enough"),
    ],
)
def test_a_call_that_could_cost_too_much_is_not_sent(
    sqlite_url: str, budgets: Budgets, pricing: Pricing | None, kind: str
) -> None:
    async def act(it: Scene) -> tuple[list[str], int]:
        it.begin(pricing=pricing)
        return await it.ask(), len(it.simulator.requests)

    assert play(sqlite_url, act, budgets=budgets) == ([kind], 1 if kind == "answered" else 0)


def test_each_call_has_its_row_before_it_is_sent_and_its_end_after(sqlite_url: str) -> None:
    async def act(it: Scene) -> tuple[list[tuple[int, str | None]], list[tuple[int, str | None]]]:
        asking = asyncio.create_task(it.ask())
        while not it.simulator.requests:
            await asyncio.sleep(0.01)
        before = [(call.status, call.error) for call in await it.ledger.calls("run")]
        asking.cancel()
        while not it.gateway.calls:
            await asyncio.sleep(0.01)
        it.begin(attempt=2)
        await it.ask()
        return before, [(call.status, call.error) for call in await it.ledger.calls("run")]

    before, after = play(sqlite_url, act, faults=[{"kind": "hang", "calls": [1]}])
    assert before == [(499, K.INTERRUPTED)]
    assert after == [(499, K.INTERRUPTED), (200, None)]


def test_what_an_earlier_process_of_the_run_used_counts_on_and_keeps_its_rows(sqlite_url: str) -> None:
    async def twice(it: Scene) -> list[str]:
        return await it.ask(2)

    async def again(it: Scene) -> tuple[list[str], int]:
        return await it.ask(2), len(await it.ledger.calls("run"))

    task = TaskLimits(llm_calls=3)
    assert play(sqlite_url, twice, task=task) == ["answered"] * 2
    assert play(sqlite_url, again, task=task) == (["answered", K.LIMIT_LLM_CALLS], 3)


def test_a_ledger_that_is_gone_stops_the_calls_with_a_typed_refusal(sqlite_url: str) -> None:
    async def act(it: Scene) -> tuple[list[str], int]:
        await it.ledger._writing(lambda connection: connection.exec_driver_sql("DROP TABLE quota_reservations"))
        return await it.ask(), len(it.simulator.requests)

    assert play(sqlite_url, act) == ([K.UNREACHABLE], 0)


def test_a_connection_that_never_stood_costs_no_quota(sqlite_url: str) -> None:
    async def act(it: Scene) -> tuple[list[str], int, int]:
        await it.simulator.__aexit__(None, None, None)
        return await it.ask(), (await it.ledger.day_use("account")).used, len(await it.ledger.calls("run"))

    assert play(sqlite_url, act) == ([K.UNREACHABLE], 0, TRIES)


def test_calls_that_wait_together_do_not_pass_the_limit_on_calls(sqlite_url: str) -> None:
    async def act(it: Scene) -> list[str]:
        answers = await asyncio.gather(*(it.ask() for _ in range(5)))
        return sorted(kind for (kind,) in answers)

    answers = play(sqlite_url, act, task=TaskLimits(llm_calls=2))
    assert answers == ["answered"] * 2 + [K.LIMIT_LLM_CALLS] * 3
