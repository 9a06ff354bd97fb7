"""Runs whose worker died: what they left running is killed, what they left lying about goes, the task is queued again.

A flow run's process survives the death of the worker that started it, but nobody could cancel it any more or tell
when it crashed. So whoever starts a worker on this machine first takes care of what an earlier one left behind.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

import psutil
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed, Scheduled

from deployments.setup import POOL
from deployments.task_queue import is_moving
from devtasks.execution.docker_engine import remove_containers
from devtasks.execution.local import HOME
from devtasks.processes import kill_at_home, kill_tree
from devtasks.run_folder import RunFolder
from devtasks.task import TaskStatus
from flows.batch_tasks import AWAITING_TASKS

MAX_RESTARTS = 3
"""How often a run that lost its worker is queued again before it counts as crashed."""

QUEUED_AGAIN = "Its worker died; queued again."

GAVE_BACK = (TaskStatus.AWAITING_QUOTA, TaskStatus.AWAITING_RETRY, AWAITING_TASKS)
"""States of runs that go on later by their own wish; they may have begun any number of times."""

STOP_SECONDS = 15.0
"""What a flow run's process gets to clean up after a request to end."""

UNDER_WAY = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)

RESUMED = (*UNDER_WAY, StateType.CRASHED)
"""A run with a folder that says it can go on is taken up also where its process still could call it crashed."""


async def recover(runs_folder: Path, *, owns_pool: bool) -> list[FlowRun]:
    """End and requeue what dead workers of this machine left behind; call it only while none runs here.

    With `owns_pool` (the embedded stack) every run of the pool that is under way counts, also those that have no
    folder yet. Returns the flow runs that were touched.
    """
    folders = RunFolder.claimed(runs_folder)
    async with get_client() as client:
        under_way = await _under_way(client) if owns_pool else []
        # What a move holds was taken by no worker; the queue finishes the move itself.
        flow_runs = {each.id: each for each in under_way if not is_moving(each)}
        for folder in folders:
            if (flow_run := await _read(client, folder.flow_run_id)) and flow_run.state_type in RESUMED:
                flow_runs[flow_run.id] = flow_run
        await end_owners(folders)
        touched = [before for before in flow_runs.values() if await take_up(client, before)]
        for folder in folders:
            flow_run = await _read(client, folder.flow_run_id)
            if flow_run is None or flow_run.state is None or flow_run.state.is_final():
                folder.release()
    return touched


async def end_owners(folders: Iterable[RunFolder]) -> None:
    """End the processes that work in these run folders, and what a killed one may have left below it."""
    folders = list(folders)
    await asyncio.to_thread(end_processes, [owner for folder in folders if (owner := folder.owner())])
    for folder in folders:
        await asyncio.to_thread(kill_at_home, folder.work / HOME)
    await remove_containers(folder.work for folder in folders)


async def take_up(client: PrefectClient, before: FlowRun) -> bool:
    """Give a run that lost its worker its next state, unless it came to an end of its own meanwhile."""
    now = await client.read_flow_run(before.id)
    # A process that was asked to end calls its run crashed, which is no end of the task.
    if now.state and now.state.is_final() and now.state_type is not StateType.CRASHED:
        return False
    states = await client.read_flow_run_states(before.id)
    await client.set_flow_run_state(before.id, next_state(before, states), force=True)
    return True


def end_processes(processes: list[psutil.Process]) -> None:
    """Ask each process to end, and after STOP_SECONDS kill those that did not, with all their descendants."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=STOP_SECONDS)
    for process in alive:
        kill_tree(process.pid)
    psutil.wait_procs(alive, timeout=STOP_SECONDS)


async def _under_way(client: PrefectClient) -> list[FlowRun]:
    return await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(UNDER_WAY)))),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL])),
    )


async def _read(client: PrefectClient, flow_run_id: str) -> FlowRun | None:
    try:
        return await client.read_flow_run(UUID(flow_run_id))
    except (ObjectNotFound, ValueError):
        return None


def next_state(flow_run: FlowRun, states: Iterable[State]) -> State:
    """Return what becomes of a run that lost its worker, by all the states it was in."""
    if flow_run.state_type is StateType.CANCELLING:
        return Cancelled(message="Cancelled while its worker was gone.")
    if (deaths := _deaths(states)) >= MAX_RESTARTS:
        return Crashed(message=f"Its worker died {deaths + 1} times; not queued again.")
    return Scheduled(name=TaskStatus.AWAITING_RETRY, message=QUEUED_AGAIN)


def _deaths(states: Iterable[State]) -> int:
    """Return how often a run was queued again since it last gave its slot back of its own accord."""
    deaths = 0
    for state in sorted(states, key=lambda each: each.timestamp):
        if state.message == QUEUED_AGAIN:
            deaths += 1
        elif state.name in GAVE_BACK:
            deaths = 0
    return deaths
