"""Every way a flow run can end, under the stock process worker and under prefork, on one real server: no difference."""

import asyncio
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import LogSort
from prefect.states import Cancelling
from prefect_stack import PrefectStack, ended, until

LATE_SECONDS = 30
"""How long a log line may take to reach the server: the last ones come when hooks and worker are done."""

POOLS = {"stock": "process", "prefork": "prefork"}


@dataclass
class Attempt:
    """One flow run under one worker, while it runs."""

    stack: PrefectStack
    client: PrefectClient
    pool: str
    folder: Path
    flow_run: FlowRun

    async def announced(self) -> list[int]:
        """Wait until the flow is at work; return its process number and those of its children."""
        path = self.folder / "pids"
        await until(path.exists, f"{self.folder.name} is at work under {self.pool}")
        return json.loads(path.read_text())

    async def has_ended(self) -> bool:
        return ended(await self.client.read_flow_run(self.flow_run.id))

    async def state(self) -> StateType | None:
        return (await self.client.read_flow_run(self.flow_run.id)).state_type


async def nothing(_: Attempt) -> None:
    pass


async def cancel(attempt: Attempt) -> None:
    await attempt.announced()
    await attempt.client.set_flow_run_state(attempt.flow_run.id, Cancelling())


def send(number: int) -> Callable[[Attempt], Coroutine[Any, Any, None]]:
    async def act(attempt: Attempt) -> None:
        pid, *_ = await attempt.announced()
        os.kill(pid, number)

    return act


async def resume(attempt: Attempt) -> None:
    async def suspended() -> bool:
        return await attempt.state() is StateType.PAUSED

    await until(suspended, "the run is suspended")
    [pid] = await attempt.announced()
    await until(lambda: not alive(pid), "its process has ended")  # the stock worker dies of a run resumed before that
    await attempt.client.resume_flow_run(attempt.flow_run.id)


@dataclass(frozen=True)
class Ending:
    """A flow of ending_flows.py, what is done to it from outside, and how it has to end."""

    flow: str
    act: Callable[[Attempt], Coroutine[Any, Any, None]]
    state: str
    message: str
    hooks: tuple[str, ...]


ENDINGS = {
    "success": Ending("succeeds", nothing, "Completed", "None", ("Completed",)),
    "success of a sync flow": Ending("succeeds_in_sync", nothing, "Completed", "None", ("Completed",)),
    "failure": Ending("fails", nothing, "Failed", ".*ValueError: on purpose", ("Failed",)),
    "exception in a task": Ending("task_fails", nothing, "Failed", ".*ValueError: in a task", ("Failed",)),
    "cancelled in mid-tool": Ending("waits_for_tool", cancel, "Cancelled", ".+", ("Cancelling",)),
    "cancelled with children": Ending("has_child", cancel, "Cancelled", ".+", ("Cancelling",)),
    "os._exit": Ending("exits", nothing, "Crashed", ".*status code: 3.*", ("Crashed",)),
    "SIGKILL": Ending("is_killed", send(signal.SIGKILL), "Crashed", ".*status code: -9.*", ("Crashed",)),
    "SIGTERM": Ending("is_terminated", send(signal.SIGTERM), "Crashed", ".+", ("Crashed",)),
    "timeout": Ending("times_out", nothing, "TimedOut", ".*exceeded timeout of 0.5 second.*", ("TimedOut",)),
    "suspended and resumed": Ending("suspends", resume, "Completed", "None", ("Completed",)),
}


@dataclass(frozen=True)
class Seen:
    """What a user sees of a flow run that has ended."""

    state: str
    message: str
    run_count: int
    lines: tuple[str, ...]
    left: tuple[int, ...]


async def see(attempt: Attempt, ending: Ending) -> Seen:
    async def hooks_were_called() -> bool:
        return len(hooks(await read_lines(attempt))) >= len(ending.hooks)

    await until(attempt.has_ended, f"{attempt.flow_run.name} has ended under {attempt.pool}")
    pids = await attempt.announced()
    await until(lambda: not any(map(alive, pids)), f"the processes {pids} have ended")
    await until(hooks_were_called, f"the hooks {ending.hooks} were called under {attempt.pool}")
    flow_run = await attempt.client.read_flow_run(attempt.flow_run.id)
    assert flow_run.state
    left = tuple(pid for pid in pids if alive(pid))
    message = normal(str(flow_run.state.message))
    return Seen(flow_run.state.name, message, flow_run.run_count, await read_lines(attempt), left)


def hooks(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Return the states that hooks were called with."""
    return tuple(line.partition("hook: ")[2] for line in lines if " hook: " in line)


async def read_lines(attempt: Attempt) -> tuple[str, ...]:
    """Return a run's log lines in any order's stead sorted: those of worker and flow process are not in step."""
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[attempt.flow_run.id]))
    logs = await attempt.client.read_logs(wanted, sort=LogSort.TIMESTAMP_ASC, limit=200)
    return tuple(sorted(f"{log.name} {log.level} {normal(log.message, attempt.flow_run.name)}" for log in logs))


def normal(text: str, name: str = "") -> str:
    """Return a text without what differs between any two runs."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "<id>", text.replace(name, "<run>") if name else text)
    text = re.sub(r"(Process|Prefork)Worker", "Worker", text)
    return re.sub(r"(task run '\w+-)\w+", r"\1<id>", text)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def seen(stack: PrefectStack, tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[tuple[str, str], Seen]]:
    """Every ending under either worker, all at the same time."""
    folder = tmp_path_factory.mktemp("endings")

    async def play(client: PrefectClient, pool: str, name: str) -> Attempt:
        own = folder / f"{pool} {name}"
        own.mkdir()
        flow_run = await stack.submit(client, pool, f"ending_flows.py:{ENDINGS[name].flow}", {"folder": str(own)})
        attempt = Attempt(stack, client, pool, own, flow_run)
        await ENDINGS[name].act(attempt)
        return attempt

    async def compare(client: PrefectClient, name: str) -> dict[tuple[str, str], Seen]:
        attempts = await asyncio.gather(*(play(client, pool, name) for pool in POOLS))
        deadline = time.monotonic() + LATE_SECONDS
        while True:
            found = await asyncio.gather(*(see(attempt, ENDINGS[name]) for attempt in attempts))
            if len({each.lines for each in found}) == 1 or time.monotonic() > deadline:
                return {(pool, name): each for pool, each in zip(POOLS, found, strict=True)}
            await asyncio.sleep(0.5)

    async def compare_all() -> dict[tuple[str, str], Seen]:
        async with stack.client() as client:
            compared = await asyncio.gather(*(compare(client, name) for name in ENDINGS))
            return {key: each for part in compared for key, each in part.items()}

    with ExitStack() as workers:
        for pool, worker_type in POOLS.items():
            asyncio.run(stack.create_pool(pool, worker_type))
            workers.enter_context(stack.worker(pool))
        yield asyncio.run(compare_all())


@pytest.mark.parametrize("name", ENDINGS)
def test_a_run_ends_under_prefork_as_it_does_under_the_stock_worker(
    seen: dict[tuple[str, str], Seen], name: str
) -> None:
    prefork, stock = seen["prefork", name], seen["stock", name]
    # A busy server loses lines of the stock worker's own; what the flow's process says is complete under either.
    assert own_lines(prefork) - own_lines(stock) == Counter()
    assert Counter(stock.lines) - Counter(prefork.lines) == Counter()
    assert replace(prefork, lines=()) == replace(stock, lines=())


@pytest.mark.usefixtures("seen")
def test_all_this_was_seen_of_forks(stack: PrefectStack) -> None:
    assert "start as with the stock process worker" not in stack.log("prefork")


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("name", ENDINGS)
def test_a_run_ends_as_it_should(seen: dict[tuple[str, str], Seen], name: str, pool: str) -> None:
    ending, found = ENDINGS[name], seen[pool, name]
    assert found.state == ending.state
    assert re.fullmatch(ending.message, found.message)
    assert hooks(found.lines) == ending.hooks
    assert found.left == ()


def test_a_run_whose_worker_is_killed_ends_as_under_the_stock_worker_and_its_hooks_work(
    stack: PrefectStack, tmp_path: Path
) -> None:
    async def outlive(client: PrefectClient, pool: str) -> tuple[Seen, str]:
        name = f"{pool}-killed"
        own = tmp_path / name
        own.mkdir()
        await stack.create_pool(name, POOLS[pool])
        with stack.worker(name) as worker:
            flow_run = await stack.submit(client, name, "ending_flows.py:outlives_worker", {"folder": str(own)})
            attempt = Attempt(stack, client, name, own, flow_run)
            await attempt.announced()
            worker.kill()
        with stack.worker(name):
            following = await stack.submit(client, name, "ending_flows.py:succeeds_in_sync", {"folder": str(tmp_path)})
            (own / "go").touch()
            # Under the stock worker its output now leads nowhere, and a hook that logs fails there.
            called = ("Completed",) if pool == "prefork" else ()
            first = await see(attempt, Ending("outlives_worker", nothing, "Completed", "None", called))
            second = Attempt(stack, client, name, tmp_path, following)
            await until(second.has_ended, f"the next run has ended under {pool}")
            state = (await client.read_flow_run(following.id)).state_name
        return first, str(state)

    async def outlive_all() -> list[tuple[Seen, str]]:
        async with stack.client() as client:
            return await asyncio.gather(*(outlive(client, pool) for pool in POOLS))

    (stock, next_stock), (prefork, next_prefork) = asyncio.run(outlive_all())
    assert (prefork.state, next_prefork) == (stock.state, next_stock) == ("Completed", "Completed")
    assert hooks(prefork.lines) == ("Completed",)
    assert own_lines(stock) - own_lines(prefork) == Counter()


def own_lines(seen: Seen) -> Counter[str]:
    """Return the lines of the flow's process: a killed worker may take some of its own with it."""
    return Counter(line for line in seen.lines if not line.startswith("prefect.flow_runs.worker"))
