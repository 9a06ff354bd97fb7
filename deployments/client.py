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
from prefect.client.schemas.objects import FlowRun, Log
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort, LogSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Cancelling

from blocks import OpenRouterCredentials
from devtasks.config import OpenHandsConfig
from devtasks.errors import InvalidInput, ServiceUnreachable
from devtasks.openrouter.client import list_models
from devtasks.openrouter.overlay import Overlay
from devtasks.openrouter.price import require_known_price
from devtasks.selection.capability import ModelCapability
from devtasks.task import DevTask

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


async def follow(client: PrefectClient, flow_run_id: UUID) -> AsyncGenerator[Log | FlowRun]:
    """Yield a flow run's log lines as they arrive and the flow run at each change of its state, until it has ended.

    The state that ends it comes last, after the log lines that were still under way.
    """
    logs = LogReader(client, flow_run_id)
    state_id = None
    while True:
        flow_run = await client.read_flow_run(flow_run_id)
        ended = flow_run.state is not None and flow_run.state.is_final()
        if flow_run.state_id != state_id and not ended:
            state_id = flow_run.state_id
            yield flow_run
        for log in await logs.new():
            yield log
        if ended:
            break
        await asyncio.sleep(POLL_SECONDS)
    for _ in range(LAST_POLLS):
        await asyncio.sleep(POLL_SECONDS)
        for log in await logs.new():
            yield log
    yield flow_run


class LogReader:
    """Reads a flow run's log lines, each once, in the order of their times as far as they arrive so."""

    def __init__(self, client: PrefectClient, flow_run_id: UUID) -> None:
        self._client = client
        self._flow_run = LogFilterFlowRunId(any_=[flow_run_id])
        self._seen: set[UUID] = set()
        self._newest: datetime | None = None

    async def new(self) -> list[Log]:
        """Return the lines that have arrived since the last call, at most 200."""
        after = {"after_": self._newest - LATE} if self._newest else {}
        timestamp = LogFilterTimestamp.model_validate(after)
        log_filter = LogFilter(flow_run_id=self._flow_run, timestamp=timestamp)
        logs = await self._client.read_logs(log_filter, sort=LogSort.TIMESTAMP_ASC, limit=200)
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
