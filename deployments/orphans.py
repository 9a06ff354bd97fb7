"""Runs whose worker died: what they left running is killed, what they left lying about goes, the task is queued again.

A flow run's process survives the death of the worker that started it, but nobody could cancel it any more or tell
when it crashed. So whoever starts a worker on this machine first takes care of what an earlier one left behind.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
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

from deployments.setup import POOL
from deployments.task_queue import is_moving
from devtasks.execution.docker_engine import remove_containers
from devtasks.execution.local import HOME
from devtasks.processes import kill_at_home, kill_tree
from devtasks.run_folder import RunFolder
from flows.taking_up import take_up

STOP_SECONDS = 15.0
"""What a flow run's process gets to clean up after a request to end."""

UNDER_WAY = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)

SETTLED_SECONDS = 30.0
"""A worker notes a run's process right after it has taken the run, on a busy machine within seconds; only a run that
has been under way for longer can be told from one without a process."""

PENDING_SECONDS = 600.0
"""A worker starts what it has taken within seconds, or minutes where an image has to come first; one that has not by
then is gone."""

RESUMED = (*UNDER_WAY, StateType.CRASHED)
"""A run with a folder that says it can go on is taken up also where its process still could call it crashed."""


ELSEWHERE = timedelta(minutes=2)
"""A run begins moments before its folder is claimed, and again elsewhere after more than three minutes of silence
(flows/taking_up.py); what is between is for the clocks of server and machine."""


async def recover(runs_folder: Path, *, owns_pool: bool) -> list[FlowRun]:
    """End and requeue what dead workers left behind in a folder; call it only while nobody works for it.

    With `owns_pool` (the embedded stack, whose workers are all on this machine) runs of the pool that have no folder
    yet and no process any more count too. Returns the flow runs that were touched.
    """
    folders = RunFolder.claimed(runs_folder)
    async with get_client() as client:
        flow_runs = {each.id: each for each in await _lost(client, owns_pool=owns_pool)}
        for folder in folders:
            flow_run = await _read(client, folder.flow_run_id)
            if flow_run is None or flow_run.state_type not in RESUMED:
                continue
            if owns_pool or not begun_elsewhere(flow_run.state, folder):
                flow_runs[flow_run.id] = flow_run
        await end_owners(folders)
        touched = [before for before in flow_runs.values() if await take_up(client, before)]
        for folder in folders:
            flow_run = await _read(client, folder.flow_run_id)
            if flow_run is None or flow_run.state is None or flow_run.state.is_final():
                folder.release()
    return touched


async def requeue_lost(client: PrefectClient, *, owns_pool: bool) -> list[FlowRun]:
    """Requeue runs that a worker took and never started, as it was killed in between; return those.

    Where all workers are on this machine (`owns_pool`), a run that is under way counts whose process is gone as well.
    """
    lost = [each for each in await _lost(client, owns_pool=owns_pool) if await _is_still(client, each)]
    return [before for before in lost if await take_up(client, before)]


def begun_elsewhere(state: State | None, folder: RunFolder) -> bool:
    """Whether a run was begun on another machine since this one claimed its folder, as one is that lost its worker."""
    if state is None or state.type is not StateType.RUNNING:
        return False
    try:
        claimed_at = datetime.fromtimestamp(folder.record.stat().st_mtime, UTC)
    except FileNotFoundError:  # it has just been released
        return False
    return state.timestamp - claimed_at > ELSEWHERE


async def end_owners(folders: Iterable[RunFolder]) -> None:
    """End the processes that work in these run folders, and what a killed one may have left below it."""
    folders = list(folders)
    await asyncio.to_thread(end_processes, [owner for folder in folders if (owner := folder.owner())])
    for folder in folders:
        await asyncio.to_thread(kill_at_home, folder.work / HOME)
    await remove_containers(folder.work for folder in folders)


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


async def _lost(client: PrefectClient, *, owns_pool: bool) -> list[FlowRun]:
    """Return the pool's runs that are under way in nobody's hands; what a move holds the queue finishes itself."""
    return [each for each in await _under_way(client) if not is_moving(each) and _is_lost(each, owns_pool=owns_pool)]


def _is_lost(flow_run: FlowRun, *, owns_pool: bool) -> bool:
    if flow_run.state is None:
        return False
    age = (datetime.now(UTC) - flow_run.state.timestamp).total_seconds()
    if owns_pool:
        return age > SETTLED_SECONDS and not _has_process(flow_run)
    return age > PENDING_SECONDS and flow_run.state.is_pending()


def _has_process(flow_run: FlowRun) -> bool:
    """Whether the process that a worker of this machine has noted for a run is alive."""
    pid = flow_run.infrastructure_pid or ""
    return pid.isdecimal() and psutil.pid_exists(int(pid))


async def _is_still(client: PrefectClient, before: FlowRun) -> bool:
    now = await client.read_flow_run(before.id)
    return bool(now.state and before.state and now.state.id == before.state.id)


async def _read(client: PrefectClient, flow_run_id: str) -> FlowRun | None:
    try:
        return await client.read_flow_run(UUID(flow_run_id))
    except (ObjectNotFound, ValueError):
        return None
