"""What a user sees of a worker besides how runs end: under prefork the same as under the stock process worker."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect_stack import SECONDS, SUPPORT, PrefectStack, ended, until
from worker_flows import LINES

from deployments.prefork.environment import is_secret
from devtasks.config import AGENT_SERVER

KINDS = {"stock": "process", "prefork": "prefork"}
QUEUES = ("critical", "high", "normal", "low")
LIMIT = 2
LEAVING_SECONDS = 20
LATE_SECONDS = 30
HEARTBEAT_SECONDS = 30

LEAVERS = {"stock": ("in front",), "prefork": ("in front", "in background")}
"""The stock worker never leaves in a script's background: it turns SIGTERM into SIGINT, which is ignored there."""


class Step(NamedTuple):
    """A line of the file to which flows append."""

    name: str
    what: str
    pid: int
    worker: str


@dataclass(frozen=True)
class Site:
    """A pool for one kind of worker, and the folder where its flows leave their traces."""

    stack: PrefectStack
    client: PrefectClient
    kind: str
    pool: str
    folder: Path

    async def submit(self, flow: str, *, queue: str | None = None, **parameters: str) -> FlowRun:
        entrypoint, parameters = f"worker_flows.py:{flow}", {"folder": str(self.folder), **parameters}
        return await self.stack.submit(self.client, self.pool, entrypoint, parameters, queue=queue)

    def let_go(self, *names: str) -> None:
        for name in names:
            (self.folder / f"{name}.go").touch()

    def steps(self) -> list[Step]:
        path = self.folder / "steps"
        lines = path.read_text().splitlines() if path.exists() else []
        return [Step(name, what, int(pid), worker) for name, what, pid, worker in (line.split("\t") for line in lines)]

    async def begun(self, *names: str) -> None:
        def have() -> bool:
            return set(names) <= {step.name for step in self.steps() if step.what == "began"}

        await until(have, f"{names} have begun under {self.kind}")

    async def ended(self, *flow_runs: FlowRun) -> list[str | None]:
        """Wait for the end of flow runs; return their states."""

        async def has(flow_run: FlowRun) -> bool:
            return ended(await self.client.read_flow_run(flow_run.id))

        for each in flow_runs:
            await until(partial(has, each), f"{each.name} has ended under {self.kind}")
        return [(await self.client.read_flow_run(each.id)).state_name for each in flow_runs]

    async def state_types(self, *flow_runs: FlowRun) -> list[StateType | None]:
        return [(await self.client.read_flow_run(each.id)).state_type for each in flow_runs]

    async def lines(self, flow_run: FlowRun) -> list[str]:
        """Return what the run itself said, first to last, waiting some time for the last line."""
        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run.id]))
        found: list[str] = []
        deadline = time.monotonic() + LATE_SECONDS
        while f"line {LINES - 1}." not in found and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
            found.clear()
            while page := await self.client.read_logs(wanted, limit=100, offset=len(found)):
                found.extend(log.message for log in page)
        return [line for line in found if line.startswith(("line", "printed"))]


@dataclass(frozen=True)
class Left:
    """How a worker left that was asked to while it ran one run."""

    code: int | None
    said_so: bool
    state: str | None
    processes: list[int]


async def leave(site: Site, worker: subprocess.Popen[bytes], number: int, name: str, flow_run: FlowRun) -> Left:
    """Send a worker a signal; see how it leaves, and what it leaves behind of its run and servers."""
    below = psutil.Process(worker.pid).children(recursive=True)
    worker.send_signal(number)
    try:
        code = await asyncio.to_thread(worker.wait, LEAVING_SECONDS)
    except subprocess.TimeoutExpired:
        code = None
    _, alive = await asyncio.to_thread(psutil.wait_procs, below, 10)
    said_so = f"Worker '{name}' stopped!" in site.stack.log(site.pool)
    state = (await site.client.read_flow_run(flow_run.id)).state_name
    return Left(code, said_so, state, [process.pid for process in alive])


@dataclass(frozen=True)
class Queue:
    """What a worker with a limit, while its slots are taken, showed; and what its runs did."""

    steps: list[Step]
    waiting: list[StateType | None]
    states: list[str | None]
    health: int
    terminated: Left


async def queue(site: Site) -> Queue:
    """Fill a worker's slots; let runs of all priorities wait for one of them, least important first; end the worker."""
    await site.stack.create_pool(site.pool, KINDS[site.kind])
    for priority, name in enumerate(QUEUES, start=2):  # the pool's own queue has 1
        await site.client.create_work_queue(name, priority=priority, work_pool_name=site.pool)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {"PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1", "PREFECT_WORKER_WEBSERVER_PORT": str(port)}
    options = ("--name", "full", "--limit", str(LIMIT), "--prefetch-seconds", "0", "--with-healthcheck")
    with site.stack.worker(site.pool, *options, **variables) as worker:
        released, kept = [await site.submit("holds", name=name) for name in ("released", "kept")]
        await site.begun("released", "kept")
        runs = [await site.submit("holds", queue=name, name=name) for name in reversed(QUEUES)]
        await polled(site, times=2)
        waiting = await site.state_types(*runs)
        async with httpx.AsyncClient() as client:
            health = (await client.get(f"http://127.0.0.1:{port}/health")).status_code
        site.let_go("released", *QUEUES)
        states = await site.ended(released, *runs)
        terminated = await leave(site, worker, signal.SIGTERM, "full", kept)
    return Queue(site.steps(), waiting, states, health, terminated)


async def polled(site: Site, *, times: int) -> None:
    """Wait until the worker has asked for runs, so often."""

    async def last() -> object:
        return (await site.client.read_work_queue_by_name("default", work_pool_name=site.pool)).last_polled

    for _ in range(times):
        before = await last()

        async def again(before: object = before) -> bool:
            return await last() != before

        await until(again, f"the worker has asked for runs under {site.kind}")


@dataclass(frozen=True)
class Once:
    """What came of the runs of a worker that polls once."""

    code: int
    states: dict[str, str | None]
    late: StateType | None
    steps: list[Step]
    heartbeats: int
    surroundings: dict[str, Any]
    lines: dict[str, list[str]]
    output: Counter[str]


async def once(site: Site) -> Once:
    """Let a worker that polls a pool of type `process` once run what is there; another run comes too late."""
    await site.stack.create_pool(site.pool, "process")
    flow_runs = {name: await site.submit(name) for name in ("pauses", "says", "says_and_exits")}
    (site.folder / "work").mkdir()
    flow_runs["looks"] = await site.stack.submit(
        site.client,
        site.pool,
        "worker_flows.looks",
        {"folder": str(site.folder)},
        code=None,
        working_dir=str(site.folder / "work"),
        env={
            "PYTHONPATH": str(SUPPORT),
            "CHANGED": "by the job",
            "NONE": None,
            "PREFECT_TASKS_DEFAULT_RETRIES": "4",
        },
    )
    variables = {"KEPT": "the worker's", "CHANGED": "the worker's", "NONE": "the worker's"}
    variables["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] = str(HEARTBEAT_SECONDS)
    with site.stack.worker(site.pool, "--type", KINDS[site.kind], "--run-once", **variables) as worker:
        await site.begun("pauses")
        late = await site.submit("holds", name="late")
        await resume(site, flow_runs["pauses"])
        heartbeats = await count_heartbeats(site, flow_runs["pauses"])
        code = await asyncio.to_thread(worker.wait, SECONDS)
    names = dict(zip(flow_runs, await site.ended(*flow_runs.values()), strict=True))
    return Once(
        code,
        names,
        *await site.state_types(late),
        site.steps(),
        heartbeats,
        json.loads((site.folder / "found.json").read_text()),
        {name: await site.lines(flow_runs[name]) for name in ("says", "says_and_exits")},
        Counter(line.rpartition(" - ")[2] for line in site.stack.log(site.pool).splitlines() if " - line " in line),
    )


async def resume(site: Site, flow_run: FlowRun) -> None:
    async def paused() -> bool:
        return await site.state_types(flow_run) == [StateType.PAUSED]

    await until(paused, f"the run is paused under {site.kind}")
    await site.client.resume_flow_run(flow_run.id)


async def count_heartbeats(site: Site, flow_run: FlowRun) -> int:
    """Wait for a flow run's first heartbeat; return how many there are."""
    wanted = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{flow_run.id}"]},
    }
    found: list[int] = []

    async def beaten() -> bool:
        response = await site.client.request("POST", "/events/filter", json={"filter": wanted})
        found[:] = [response.json()["total"]]
        return found[0] > 0

    await until(beaten, f"there is a heartbeat under {site.kind}")
    return found[0]


@dataclass(frozen=True)
class Neighbours:
    """How the workers of one pool left, one after the other, and which of their runs were there just before."""

    left: dict[str, Left]
    alive: list[set[str]]


async def neighbours(site: Site) -> Neighbours:
    """Let workers of one pool run a run each; end one after the other, by Ctrl-C or as a script does."""
    await site.stack.create_pool(site.pool, KINDS[site.kind])
    names = LEAVERS[site.kind]
    with ExitStack() as stack:
        workers: dict[str, subprocess.Popen[bytes]] = {}
        for name in names:
            options = ("--limit", "1", "--name", name)
            background = name == "in background"
            workers[name] = stack.enter_context(site.stack.worker(site.pool, *options, in_background=background))
        flow_runs = {name: await site.submit("holds", name=name) for name in ("one", "two")[: len(names)]}
        await site.begun(*flow_runs)
        runs = {step.worker: step for step in site.steps()}
        assert runs.keys() == set(names), f"each worker runs a run under {site.kind}"
        found = Neighbours({}, [])
        for name in names:
            number = signal.SIGTERM if name == "in background" else signal.SIGINT
            found.alive.append({each.worker for each in runs.values() if psutil.pid_exists(each.pid)})
            found.left[name] = await leave(site, workers[name], number, name, flow_runs[runs[name].name])
    return found


class Shown:
    """Every part under either worker, all played at the same time."""

    def __init__(self, stack: PrefectStack, new_folder: Callable[[str], Path]) -> None:
        self._keys = [(part, kind) for part in (queue, once, neighbours) for kind in KINDS]
        self._found = asyncio.run(self._play(stack, new_folder))

    async def _play(self, stack: PrefectStack, new_folder: Callable[[str], Path]) -> list[Any]:
        async with stack.client() as client:
            parts: list[Coroutine[Any, Any, Any]] = []
            for part, kind in self._keys:
                name = f"{kind}-{part.__name__}"
                parts.append(part(Site(stack, client, kind, name, new_folder(name))))
            return await asyncio.gather(*parts, return_exceptions=True)

    def of[T](self, part: Callable[[Site], Coroutine[Any, Any, T]], kind: str) -> T:
        """Return what a part showed; raise what kept it from its end."""
        found = self._found[self._keys.index((part, kind))]
        if isinstance(found, BaseException):
            raise found
        return found


@pytest.fixture(scope="module")
def shown(stack: PrefectStack, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    return Shown(stack, tmp_path_factory.mktemp)


of_each = pytest.mark.parametrize("kind", KINDS)


@pytest.mark.parametrize("part", ["queue", "once", "neighbours"])
def test_all_this_was_seen_of_forks(shown: Shown, stack: PrefectStack, part: str) -> None:
    assert "start as with the stock process worker" not in stack.log(f"prefork-{part}")


@of_each
def test_no_more_runs_than_the_limit_go_at_once_and_the_others_wait(shown: Shown, kind: str) -> None:
    found = shown.of(queue, kind)
    assert found.waiting == [StateType.SCHEDULED] * len(QUEUES)
    assert max(accumulate(1 if step.what == "began" else -1 for step in found.steps)) == LIMIT
    assert set(found.states) == {"Completed"}


@of_each
def test_waiting_runs_start_in_the_order_of_their_queues_priorities(shown: Shown, kind: str) -> None:
    began = [step.name for step in shown.of(queue, kind).steps if step.what == "began"]
    assert sorted(began[:LIMIT]) == ["kept", "released"]
    assert began[LIMIT:] == list(QUEUES)


@of_each
def test_the_health_check_answers_while_the_worker_is_full(shown: Shown, kind: str) -> None:
    assert shown.of(queue, kind).health == 200


@of_each
def test_a_worker_that_polls_once_runs_what_is_there_and_leaves_with_0(shown: Shown, kind: str) -> None:
    found = shown.of(once, kind)
    assert found.code == 0
    completed = dict.fromkeys(("pauses", "says", "looks"), "Completed")
    assert found.states == completed | {"says_and_exits": "Crashed"}
    assert found.late == StateType.SCHEDULED


@of_each
def test_a_paused_run_goes_on_in_the_same_process(shown: Shown, kind: str) -> None:
    began, ended = shown.of(once, kind).steps
    assert (began.what, ended.what) == ("began", "ended")
    assert began.pid == ended.pid


@of_each
def test_a_run_sends_heartbeats_as_often_as_the_workers_settings_say(shown: Shown, kind: str) -> None:
    found = shown.of(once, kind)
    assert found.heartbeats == 1
    assert found.surroundings["heartbeat"] == HEARTBEAT_SECONDS


@of_each
@pytest.mark.parametrize("flow", ["says", "says_and_exits"])
def test_all_lines_of_a_run_that_ends_at_once_arrive_in_order(shown: Shown, kind: str, flow: str) -> None:
    said = [f"line {number}." for number in range(LINES)]
    found = shown.of(once, kind).lines[flow]
    assert found == (["printed first", *said, "printed last"] if flow == "says" else said)


@of_each
def test_the_output_of_runs_is_in_the_workers(shown: Shown, kind: str) -> None:
    assert shown.of(once, kind).output == {f"line {number}.": 2 for number in range(LINES)}


@of_each
def test_a_job_gives_its_run_environment_settings_and_working_directory(shown: Shown, kind: str) -> None:
    surroundings = shown.of(once, kind).surroundings
    environment = surroundings["environment"]
    kept = {"KEPT": "the worker's", "NONE": "the worker's"}  # Prefect takes None for nothing said, not for unset
    assert (kept | {"CHANGED": "by the job"}).items() <= environment.items()
    assert surroundings["retries"] == 4
    assert Path(surroundings["folder"]).name == "work"
    assert str(SUPPORT) in surroundings["path"]


def test_a_run_finds_itself_in_the_same_surroundings(shown: Shown) -> None:
    stock, prefork = (shown.of(once, kind).surroundings for kind in KINDS)
    assert comparable(prefork) == comparable(stock)


def comparable(surroundings: dict[str, Any]) -> dict[str, Any]:
    """Return a run's surroundings without what names it, and without what prefork withholds and adds by design."""
    folder = Path(surroundings["folder"])
    left_out = re.compile(rf"PREFECT__(FLOW_RUN|DEPLOYMENT|WORKER)_\w+|{AGENT_SERVER}")
    kept = {
        name: value.replace(str(folder), "<folder>")
        for name, value in surroundings["environment"].items()
        if not left_out.fullmatch(name) and not is_secret(name, value)
    }
    path = [entry.replace(str(folder), "<folder>") for entry in surroundings["path"]]
    return surroundings | {"environment": kept, "path": path, "folder": folder.name}


IN_ORDER = Left(code=0, said_so=True, state="Running", processes=[])
"""What it was running is killed, its state left to who watches heartbeats."""


@of_each
def test_a_worker_leaves_on_sigterm_and_takes_its_run_along(shown: Shown, kind: str) -> None:
    assert shown.of(queue, kind).terminated == IN_ORDER


@of_each
def test_a_worker_leaves_on_ctrl_c_and_takes_its_run_along(shown: Shown, kind: str) -> None:
    assert shown.of(neighbours, kind).left["in front"] == IN_ORDER


def test_a_prefork_worker_leaves_in_a_scripts_background_as_it_does_elsewhere(shown: Shown) -> None:
    assert shown.of(neighbours, "prefork").left["in background"] == IN_ORDER


def test_prefork_workers_of_one_pool_take_a_run_each_and_leave_each_others_alone(shown: Shown) -> None:
    assert shown.of(neighbours, "prefork").alive == [{"in front", "in background"}, {"in background"}]
