"""The quota's promise, with real processes and a simulator that counts for itself."""

import asyncio
from datetime import datetime

from hammer import KEY, Herd, Target, scenario

from devtasks.ledger import DayUse, Ledger
from devtasks.openrouter.account import fingerprint
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
