"""How a task's limits and a block's reach the ledger, and what is refused before any work is done."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from blocks import OpenRouterCredentials
from deployments import client
from devtasks.errors import InvalidInput
from devtasks.ledger import Ledger
from devtasks.openrouter.account import fingerprint
from devtasks.quota import AccountLimits, Budgets
from devtasks.redaction import Redactor
from devtasks.task import DevTask
from tasks.check_price import check_price
from tasks.run import Services

PRICES = {"acme/router": "-1", "acme/free:free": "0", "acme/paid": "0.000001"}


def make_task(**changes: Any) -> DevTask:
    values = {"task_id": "t", "category": "unit_test", "description": "x", "repository": "/r"}
    return DevTask.parse(**values | changes)


@asynccontextmanager
async def service(**key: Any) -> AsyncGenerator[str]:
    """A service with three models, which says this about the key."""

    async def models(_: web.Request) -> web.Response:
        data = [{"id": name, "pricing": {"prompt": price, "completion": price}} for name, price in PRICES.items()]
        return web.json_response({"data": data})

    async def said(_: web.Request) -> web.Response:
        return web.json_response({"data": key})

    application = web.Application()
    application.add_routes([web.get("/v1/models", models), web.get("/v1/key", said)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


CASES = [
    pytest.param({"model": "acme/router"}, {}, False, id="unknown-price-with-the-usual-limit"),
    pytest.param({"model": "acme/router", "limits": {"cost_usd": None}}, {}, True, id="unknown-price-without-limit"),
    pytest.param(
        {"model": "acme/router", "limits": {"cost_usd": None, "batch_cost_usd": 1}, "batch": "b"}, {}, False, id="batch"
    ),
    pytest.param(
        {"model": "acme/router", "limits": {"cost_usd": None}},
        {"max_cost_usd_per_day": 1},
        False,
        id="day-of-the-block",
    ),
    pytest.param({"model": "acme/free:free"}, {}, True, id="zero-price"),
    pytest.param({"model": "acme/paid"}, {}, True, id="known-price"),
    pytest.param({"model": "acme/unheard-of"}, {}, True, id="not-listed-is-the-selector's-business"),
    pytest.param({}, {}, True, id="no-model-asked-for"),
]


@pytest.mark.parametrize(("asked", "block", "accepted"), CASES)
def test_a_model_of_unknown_price_is_refused_before_the_work_where_money_is_limited(
    asked: dict[str, Any], block: dict[str, Any], accepted: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def refusals() -> list[InvalidInput]:
        found: list[InvalidInput] = []
        async with service() as url, Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
            credentials = OpenRouterCredentials(api_key=SecretStr("k"), base_url=url, **block)

            async def load(_: str) -> OpenRouterCredentials:
                return credentials

            monkeypatch.setattr(client.OpenRouterCredentials, "aload", load)
            task = make_task(**asked)
            run: Any = SimpleNamespace(task=task, credentials=credentials, ledger=ledger)
            for check in (check_price(run), client.check_price(task, "default")):
                try:
                    await check
                except InvalidInput as refusal:
                    found.append(refusal)
        return found

    found = asyncio.run(refusals())
    assert len(found) == (0 if accepted else 2), "by the flow, and already where it is submitted"
    assert all((each.field, each.value) == ("model", "acme/router") for each in found)


def test_what_a_machine_cannot_read_the_flow_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    async def load(_: str) -> OpenRouterCredentials:
        raise ValueError("no such block")

    monkeypatch.setattr(client.OpenRouterCredentials, "aload", load)
    asyncio.run(client.check_price(make_task(model="acme/router"), "missing"))


def test_a_run_s_pacing_has_the_task_s_the_block_s_and_the_service_s_limits(tmp_path: Path) -> None:
    async def run() -> tuple[Any, Any]:
        daily = {"limit": 50, "used": 7, "remaining": 43}
        async with (
            service(is_free_tier=True, free_model_daily_requests=daily) as url,
            Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger,
        ):
            keys = OpenRouterCredentials(
                api_key=SecretStr("k"), base_url=url, requests_per_minute=5, max_cost_usd_per_day=2
            )
            task = make_task(batch="nightly", limits={"cost_usd": 0.1, "batch_cost_usd": 1})
            async with AsyncExitStack() as stack:
                opened = await Services(stack, ledger, task, "run", breaker=False, redactor=Redactor()).of(None, keys)
            return opened.pacing, await ledger.day_use(fingerprint(url, keys.api_key))

    pacing, use = asyncio.run(run())
    assert pacing._limits == AccountLimits(requests_per_minute=5)
    assert pacing._budgets == Budgets(0.1, 1, 2)
    assert (pacing._order.flow_run_id, pacing._order.batch, pacing._breaker) == ("run", "nightly", False)
    assert (use.used, use.limit) == (7, 50)
