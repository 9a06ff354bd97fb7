"""The prefork worker beside Prefect's stock process worker: CPU, delay, memory and throughput of flow runs.

Both workers run against one server on this machine, one after the other; run it on an idle machine. `--soak N` runs
N flow runs through one prefork worker instead, and looks for growth.
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import mean, median
from typing import Annotated, Any

import psutil
from cyclopts import App, Parameter
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect_stack import PrefectStack, ended, prefect_stack
from report import Aim, finish, machine

from deployments.demo import SCENARIO, SIMULATED, demo_task, fresh_example, simulated_models
from deployments.setup import set_up_blocks
from devtasks.config import OpenHandsConfig
from flows.admission import task_parameters

STOCK, PREFORK = "process", "prefork"
SLOTS = 8
TRIVIAL, TASK = "bench_flows.py:trivial", "flows.development_task.development_task"
SETTLE_SECONDS = 1.0
POLL_SECONDS = 0.25

app = App(help=__doc__)


@dataclass
class Samples:
    """One worker's figures; CPU-seconds and seconds for each run, bytes for each process."""

    cpu: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    delay: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    pss: list[int] = field(default_factory=list[int])
    private: list[int] = field(default_factory=list[int])
    servers_mb: list[float] = field(default_factory=list[float])
    runs_per_minute: float = 0.0


@dataclass
class Bench:
    """A running worker, and what is needed to run flows on it."""

    stack: PrefectStack
    client: PrefectClient
    pool: str
    process: psutil.Process
    folder: Path

    async def run(self, entrypoint: str, parameters: dict[str, Any]) -> FlowRun:
        """Run a flow to its end, which has to be good."""
        flow_run = await self.stack.submit(self.client, self.pool, entrypoint, parameters)
        while not ended(flow_run := await self.client.read_flow_run(flow_run.id)):  # noqa: ASYNC110 - polls a server
            await asyncio.sleep(POLL_SECONDS)
        assert flow_run.state_type is StateType.COMPLETED, flow_run.state
        return flow_run

    async def delay(self, flow_run: FlowRun) -> float:
        """Return the seconds from Pending to Running."""
        pending, running = [await self.entered(flow_run, state) for state in (StateType.PENDING, StateType.RUNNING)]
        return (running - pending).total_seconds()

    async def entered(self, flow_run: FlowRun, wanted: StateType) -> datetime:
        """Return when a flow run first was in a state."""
        states = await self.client.read_flow_run_states(flow_run.id)
        return min(state.timestamp for state in states if state.type is wanted)

    def cpu(self) -> float:
        """Return the CPU-seconds of the worker, its server, and all their children that have ended."""
        return sum(sum(process.cpu_times()[:4]) for process in (self.process, *self.servers()))

    def servers(self) -> list[psutil.Process]:
        """Return the preloaded servers."""
        found = [child for child in self.process.children() if any("server.py" in word for word in words(child))]
        return sorted(found, key=psutil.Process.create_time)

    def flow_processes(self) -> list[psutil.Process]:
        """Return the flow runs' processes."""
        parent, *_ = self.servers() or [self.process]  # the server for flow runs starts before that for agents
        return parent.children()

    async def idle(self) -> None:
        """Wait until no flow run's process is left and the worker has taken note of it."""
        while self.flow_processes():  # noqa: ASYNC110 - a process says nothing when it ends
            await asyncio.sleep(0.05)
        await asyncio.sleep(SETTLE_SECONDS)

    async def preloaded(self) -> None:
        """Wait until the servers do nothing any more."""
        before = -1.0
        while self.cpu() - before > 0.1:
            before = self.cpu()
            await asyncio.sleep(SETTLE_SECONDS)


def words(process: psutil.Process) -> list[str]:
    """Return a process's command line; none for one that has ended meanwhile."""
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


@asynccontextmanager
async def open_bench(stack: PrefectStack, client: PrefectClient, worker_type: str) -> AsyncGenerator[Bench]:
    """Start a worker on a new pool; the first run, not counted, waits until it is ready."""
    pool = f"bench-{worker_type}"
    await stack.create_pool(pool, worker_type)
    variables: dict[str, Any] = {"DEVTASKS_HOME": str(stack.folder / "devtasks"), "PREFECT_WORKER_QUERY_SECONDS": "1"}
    with stack.worker(pool, "--limit", str(SLOTS), **variables) as process:
        bench = Bench(stack, client, pool, psutil.Process(process.pid), stack.folder / worker_type)
        bench.folder.mkdir()
        await bench.run(TRIVIAL, {"folder": str(bench.folder)})
        await bench.idle()
        await bench.preloaded()
        yield bench
        assert "start as with the stock process worker" not in stack.log(pool), "flow runs were not forked"


async def measure(bench: Bench, runs: int, tasks: int, task: dict[str, Any]) -> Samples:
    """Return one worker's figures."""
    samples = Samples()
    plan = {TRIVIAL: (runs, {"folder": str(bench.folder)}), TASK: (tasks, task)}
    for entrypoint, (count, parameters) in plan.items():
        cpu, delay = samples.cpu.setdefault(entrypoint, []), samples.delay.setdefault(entrypoint, [])
        for _ in range(count):
            before = bench.cpu()
            flow_run = await bench.run(entrypoint, parameters)
            await bench.idle()
            cpu.append(round(bench.cpu() - before, 2))
            delay.append(round(await bench.delay(flow_run), 3))
    samples.pss, samples.private = await hold(bench)
    samples.servers_mb = [server.memory_full_info().pss / 1e6 for server in bench.servers()]
    samples.runs_per_minute = await saturate(bench, runs)
    return samples


async def hold(bench: Bench) -> tuple[list[int], list[int]]:
    """Return PSS and private bytes of SLOTS flow runs at the same time."""
    held = bench.folder / "held"
    held.mkdir()
    parameters = {"folder": str(held)}
    running = [asyncio.create_task(bench.run("bench_flows.py:hold", parameters)) for _ in range(SLOTS)]
    while len(list(held.iterdir())) < SLOTS:  # noqa: ASYNC110 - other processes write there
        await asyncio.sleep(0.2)
    memory = [process.memory_full_info() for process in bench.flow_processes()]
    (bench.folder / "go").touch()
    await asyncio.gather(*running)
    await bench.idle()
    return [each.pss for each in memory], [each.uss for each in memory]


async def run_many(bench: Bench, count: int) -> list[FlowRun]:
    """Submit trivial flow runs all at once and wait for them, with few questions to the server that they need too."""
    parameters = {"folder": str(bench.folder)}
    submitted = [await bench.stack.submit(bench.client, bench.pool, TRIVIAL, parameters) for _ in range(count)]
    these = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id for flow_run in submitted]))
    while not all(map(ended, found := await bench.client.read_flow_runs(flow_run_filter=these))):  # noqa: ASYNC110 - as above
        await asyncio.sleep(1)
    assert {flow_run.state_type for flow_run in found} == {StateType.COMPLETED}
    return found


async def saturate(bench: Bench, runs: int) -> float:
    """Return the runs a minute with all slots in use, from the worker's taking the first to the last one's end."""
    found = await run_many(bench, runs + SLOTS)
    taken = [await bench.entered(flow_run, StateType.PENDING) for flow_run in found]
    done = [await bench.entered(flow_run, StateType.COMPLETED) for flow_run in found]
    return round(len(found) / (max(done) - min(taken)).total_seconds() * 60, 1)


@asynccontextmanager
async def opened() -> AsyncGenerator[tuple[PrefectStack, PrefectClient, dict[str, Any]]]:
    """Yield a server, a client of it, and the parameters of a development task with a simulated model."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)  # noqa: ASYNC240
        scenario = folder / "scenario.yaml"
        lines = SCENARIO.read_text().splitlines(keepends=True)
        scenario.write_text("".join(line for line in lines if "latency:" not in line))
        with prefect_stack(folder) as stack:
            updates: dict[Any, str] = {PREFECT_API_URL: stack.url, PREFECT_API_AUTH_STRING: stack.auth}
            with temporary_settings(updates=updates):
                await set_up_blocks(OpenHandsConfig.from_env())
                async with simulated_models(scenario, SIMULATED), stack.client() as client:
                    yield stack, client, task_parameters(demo_task(fresh_example(folder))) | {"credentials": SIMULATED}


@app.default
def compare(
    *,
    runs: Annotated[int, Parameter(help="Trivial flow runs under each worker.")] = 20,
    tasks: Annotated[int, Parameter(help="Development tasks under each worker.")] = 20,
) -> int:
    """Measure both workers."""

    async def main() -> dict[str, Samples]:
        async with opened() as (stack, client, task):
            found: dict[str, Samples] = {}
            for worker_type in (STOCK, PREFORK):
                async with open_bench(stack, client, worker_type) as bench:
                    found[worker_type] = await measure(bench, runs, tasks, task)
            return found

    where = machine()
    found = asyncio.run(main())
    stock, prefork = found[STOCK], found[PREFORK]
    rows: list[tuple[str, ...]] = [("", "stock", "prefork")]
    aims: list[Aim] = []
    for flow, entrypoint in (("trivial flow", TRIVIAL), ("development task", TASK)):
        cpu = [mean(each.cpu[entrypoint]) for each in (stock, prefork)]
        delay = [median(each.delay[entrypoint]) for each in (stock, prefork)]
        rows.append((f"{flow}: CPU-seconds a run", *(f"{value:.2f}" for value in cpu)))
        rows.append((f"{flow}: seconds from Pending to Running, p50", *(f"{value:.2f}" for value in delay)))
        aims.append(Aim(f"{flow}: share of the stock worker's CPU", cpu[1] / cpu[0], 0.1, "at most"))
        aims.append(Aim(f"{flow}: seconds from Pending to Running, p50", delay[1], 1.2, "at most"))
    pss, private = ([mean(getattr(each, name)) / 1e6 for each in (stock, prefork)] for name in ("pss", "private"))
    rows.append((f"PSS of one of {SLOTS} runs, MB", *(f"{value:.0f}" for value in pss)))
    rows.append((f"private memory of one of {SLOTS} runs, MB", *(f"{value:.0f}" for value in private)))
    rows.append(("PSS of the preloaded servers, MB, once", "-", f"{sum(prefork.servers_mb):.0f}"))
    rows.append((f"trivial runs a minute with {SLOTS} slots", str(stock.runs_per_minute), str(prefork.runs_per_minute)))
    aims.append(Aim("share of the stock worker's memory (PSS)", pss[1] / pss[0], 0.5, "at most"))
    aims.append(Aim("runs a minute, times stock", prefork.runs_per_minute / stock.runs_per_minute, 5, "at least"))
    samples = {worker_type: vars(each) for worker_type, each in found.items()}
    return finish("worker", where, rows, samples, aims)


@app.command
def soak(*, runs: Annotated[int, Parameter(help="Flow runs through one worker.")] = 500) -> int:
    """Run many flow runs through one prefork worker, and look for growth and for processes left over."""

    def look(bench: Bench) -> dict[str, int]:
        process = bench.process
        everything = process.children(recursive=True)
        return {
            "rss_mb": process.memory_info().rss // 1_000_000,
            "threads": process.num_threads(),
            "open_files": process.num_fds(),
            "servers": len(bench.servers()),
            "zombies": sum(each.status() == psutil.STATUS_ZOMBIE for each in everything),
        }

    async def main() -> list[dict[str, int]]:
        async with opened() as (stack, client, _), open_bench(stack, client, PREFORK) as bench:
            found: list[dict[str, int]] = []
            for _ in range(10):
                await run_many(bench, runs // 10)
                await bench.idle()
                found.append(look(bench))
            return found

    where = machine()
    found = asyncio.run(main())
    rows = [("after runs", *found[0])]
    rows += [(str((number + 1) * runs // 10), *map(str, each.values())) for number, each in enumerate(found)]
    half = len(found) // 2

    def growth(name: str) -> int:
        """Return by how much the least of the second half exceeds that of the first: a leak lifts the floor."""
        return min(each[name] for each in found[half:]) - min(each[name] for each in found[1:half])

    aims = [
        Aim("growth of the worker's memory, MB", growth("rss_mb"), 5, "at most"),
        Aim("growth in its threads", growth("threads"), 0, "at most"),
        Aim("growth in its open files", growth("open_files"), 0, "at most"),
        Aim("zombie processes", max(each["zombies"] for each in found), 0, "at most"),
    ]
    return finish("worker-soak", where, rows, found, aims)


if __name__ == "__main__":
    sys.exit(app())
