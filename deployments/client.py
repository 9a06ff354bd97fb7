"""What people do with tasks through Prefect's API: follow, look up, cancel."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
    LogFilter,
    LogFilterFlowRunId,
    LogFilterTimestamp,
)
from prefect.client.schemas.objects import FlowRun, Log, WorkerStatus
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort, LogSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Cancelling

from blocks import GitHubCredentials, OpenRouterCredentials, load_block
from devtasks.config import OpenHandsConfig
from devtasks.errors import InvalidInput, ServiceUnreachable
from devtasks.openrouter.client import list_models
from devtasks.openrouter.overlay import Overlay
from devtasks.openrouter.price import require_known_price
from devtasks.selection.capability import ModelCapability
from devtasks.task import Delivery, DevTask

POLL_SECONDS = 0.5

LAST_POLLS = 4
"""How often the log is read after the end: the process sends its last lines when it leaves."""

LATE = timedelta(seconds=15)
"""How long after its time a log line may still arrive: Prefect sends them in batches, from several threads."""


async def check_price(task: DevTask, credentials: str) -> None:
    """Raise InvalidInput where the task's model has no known price and the task or the block limits money.

    Where block or catalogue cannot be read from here the flow, which checks the same, has the word.
    """
    with contextlib.suppress(ValueError, ServiceUnreachable):
        if task.model:
            block = await OpenRouterCredentials.aload(credentials)
            limits = (task.limits.cost_usd, task.limits.batch_cost_usd, block.max_cost_usd_per_day)
            if any(limit is not None for limit in limits):
                overlay = Overlay.load(OpenHandsConfig.from_env().models_file)
                listed = await list_models(block.base_url)
                require_known_price(task.model, overlay.apply(map(ModelCapability.of, listed.data)))


async def check_github(task: DevTask, name: str) -> None:
    """Raise InvalidInput where a task is to become a pull request, and there is no block of this name."""
    if task.delivery is Delivery.PULL_REQUEST:
        await load_block(GitHubCredentials, "github", name)


async def follow(client: PrefectClient, flow_run_id: UUID) -> AsyncGenerator[Log | FlowRun]:
    """Yield a flow run's log lines as they arrive and the flow run at each change of its state, until it has ended.

    The state that ends it comes last, after the log lines that were still under way.
    """
    follower = Follower(flow_run_id)
    while not follower.done:
        for item in await follower.look(client):
            yield item
        await asyncio.sleep(0 if follower.done else POLL_SECONDS)


class Follower:
    """What is new of one flow run, look by look; what a look that failed would have told, the next one tells."""

    def __init__(self, flow_run_id: UUID) -> None:
        self.flow_run_id = flow_run_id
        self.done = False
        self._logs = LogReader(flow_run_id)
        self._state_id: UUID | None = None
        self._ended: FlowRun | None = None
        self._looks_left = LAST_POLLS

    async def look(self, client: PrefectClient) -> list[Log | FlowRun]:
        """Return the new log lines, and the flow run where its state has changed; `done` after the last of all."""
        if self._ended is not None:
            return await self._look_back(client, self._ended)
        flow_run = await client.read_flow_run(self.flow_run_id)
        if flow_run.state is not None and flow_run.state.is_final():
            self._ended = flow_run
            return [*await self._logs.new(client)]
        logs = await self._logs.new(client)
        changed = [flow_run] if flow_run.state_id != self._state_id else []
        self._state_id = flow_run.state_id
        return [*changed, *logs]

    async def _look_back(self, client: PrefectClient, ended: FlowRun) -> list[Log | FlowRun]:
        logs = await self._logs.new(client)
        self._looks_left -= 1
        self.done = not self._looks_left
        return [*logs, ended] if self.done else [*logs]


class LogReader:
    """Reads a flow run's log lines, each once, in the order of their times as far as they arrive so."""

    def __init__(self, flow_run_id: UUID) -> None:
        self._flow_run = LogFilterFlowRunId(any_=[flow_run_id])
        self._seen: set[UUID] = set()
        self._newest: datetime | None = None

    async def new(self, client: PrefectClient) -> list[Log]:
        """Return the lines that have arrived since the last call, at most 200."""
        after = {"after_": self._newest - LATE} if self._newest else {}
        timestamp = LogFilterTimestamp.model_validate(after)
        log_filter = LogFilter(flow_run_id=self._flow_run, timestamp=timestamp)
        logs = await client.read_logs(log_filter, sort=LogSort.TIMESTAMP_ASC, limit=200)
        fresh = [log for log in logs if log.id not in self._seen]
        for log in fresh:
            self._seen.add(log.id)
            self._newest = max(self._newest or log.timestamp, log.timestamp)
        return fresh


async def cancel(client: PrefectClient, flow_run: FlowRun, what: str = "task") -> None:
    """Have a run cancelled, as the UI does it; raise InvalidInput where it has ended or the server refuses."""
    if flow_run.state is not None and flow_run.state.is_final():
        raise InvalidInput(what, flow_run.name, f"a {what} that has not ended; this one is {flow_run.state.name}")
    # A run that has given its slot back has no process to end, and nobody who would bring Cancelling to an end.
    waits = flow_run.state is not None and flow_run.state.is_scheduled()
    result = await client.set_flow_run_state(flow_run.id, Cancelled() if waits else Cancelling())
    if result.status is SetStateStatus.ABORT:
        raise InvalidInput(what, flow_run.name, f"a {what} that can be cancelled: {result.details}")


async def online_workers(client: PrefectClient, pool: str) -> list[str]:
    """Return the names of the workers that poll a work pool; none where there is no such pool."""
    try:
        known = await client.read_workers_for_work_pool(pool)
    except ObjectNotFound:
        return []
    return [each.name for each in known if each.status is WorkerStatus.ONLINE]


async def find_flow_run(client: PrefectClient, name: str) -> FlowRun:
    """Return the flow run of this id, or the newest of this name; raise InvalidInput where there is none."""
    try:
        return await client.read_flow_run(UUID(name))
    except ObjectNotFound:
        pass
    except ValueError:
        named = FlowRunFilter(name=FlowRunFilterName(any_=[name]))
        if found := await client.read_flow_runs(flow_run_filter=named, sort=FlowRunSort.START_TIME_DESC, limit=1):
            return found[0]
    raise InvalidInput("task", name, "the id or the name of a flow run of this server")
