"""The quota's promise, with real processes and a simulator that counts for itself."""

import asyncio
import os
import random
import signal
from datetime import datetime
from typing import Any

import httpx
import pytest
from hammer import KEY, Herd, Target, Victim, ask, call_for_ever, paced_gateway, scenario

from devtasks.ledger import DayUse, Ledger
from devtasks.openrouter.account import fingerprint
from devtasks.openrouter.gateway import Gateway
from devtasks.simulator import Simulator
from devtasks.simulator.quota import busiest

MINUTE = 1
"""Seconds of the simulator's and the quota's minute here; `make bench-quota` does it with 60."""


def test_eight_processes_never_send_the_21st_request_of_a_minute_nor_the_51st_of_the_day(database_url: str) -> None:
    herd = Herd(8)

    async def run() -> tuple[list[int | None], list[datetime], set[int | None], DayUse]:
        limits = {"requests_per_minute": 20, "free_requests_per_day": 50, "minute_seconds": MINUTE}
        async with Simulator(scenario(**limits)) as simulator:
            herd.release(Target(simulator.base_url, database_url, MINUTE))
            codes = await herd.ended(120)
            async with Ledger.open(database_url) as ledger:
                use = await ledger.day_use(fingerprint(simulator.base_url, KEY))
            times = [datetime.fromisoformat(each.time) for each in simulator.requests]
            return codes, times, {each.status for each in simulator.requests}, use

    codes, times, statuses, use = asyncio.run(run())
    assert codes == [0] * 8
    assert statuses == {200}, "the simulator had to refuse nothing"
    assert busiest(times, MINUTE) <= 20
    assert len(times) == 50, "neither one too many, nor any wasted"
    assert (use.used, use.limit) == (50, 50)


CALLS = 100


def test_kills_at_random_moments_never_leave_a_count_below_what_was_received(database_url: str) -> None:
    victims, chance = [Victim(call_for_ever) for _ in range(8)], random.Random(4)

    async def run() -> tuple[list[tuple[int, int]], int, int]:
        counts: list[tuple[int, int]] = []
        async with Simulator(scenario(free_requests_per_day=1_000)) as simulator:
            account = fingerprint(simulator.base_url, KEY)
            for number, victim in enumerate(victims):
                is_last = victim is victims[-1]
                wanted = CALLS if is_last else len(simulator.requests) + chance.randint(1, 2 * CALLS // len(victims))
                victim.release(Target(simulator.base_url, database_url, at_once=6), f"run-{number}")
                async with asyncio.timeout(60):
                    while len(simulator.requests) < wanted:
                        await asyncio.sleep(chance.uniform(0, 0.02))
                await victim.kill()
                async with Ledger.open(database_url) as ledger:
                    counts.append(((await ledger.day_use(account)).used, len(simulator.requests)))
            async with Ledger.open(database_url) as ledger:
                rows = sum([len(await ledger.calls(f"run-{number}")) for number in range(len(victims))])
            return counts, rows, len(simulator.requests)

    counts, rows, received = asyncio.run(run())
    assert received >= CALLS
    assert [pair for pair in counts if pair[0] < pair[1]] == []
    assert rows >= received, "no call's row is lost either"


async def _die_connected(target: Target, name: str) -> None:
    async with paced_gateway(target, name) as gateway:

        async def die(_request: Any, _call: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        gateway.service.pacing.depart = die
        await _ask_once(gateway)


async def _die_sending(target: Target, name: str) -> None:
    async with paced_gateway(target, name) as gateway:
        depart = gateway.service.pacing.depart

        async def depart_and_die(request: Any, call: Any) -> None:
            await depart(request, call)
            os.kill(os.getpid(), signal.SIGKILL)

        gateway.service.pacing.depart = depart_and_die
        await _ask_once(gateway)


async def _ask_once(gateway: Gateway) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        await ask(client, gateway)


@pytest.mark.parametrize(
    ("end", "counted"),
    [
        pytest.param(_die_connected, 0, id="about-to-be-sent-has-taken-no-place"),
        pytest.param(_die_sending, 1, id="reserved-may-have-been-sent-and-counts"),
    ],
)
def test_a_call_of_a_killed_process_counts_exactly_where_it_may_have_been_sent(
    sqlite_url: str, end: Any, counted: int
) -> None:
    victim = Victim(end)

    async def run() -> tuple[int, int]:
        async with Simulator(scenario(free_requests_per_day=50)) as simulator:
            victim.release(Target(simulator.base_url, sqlite_url), "run")
            await victim.died()
            async with Ledger.open(sqlite_url) as ledger:
                use = await ledger.day_use(fingerprint(simulator.base_url, KEY))
            return use.used, len(simulator.requests)

    assert asyncio.run(run()) == (counted, 0)
