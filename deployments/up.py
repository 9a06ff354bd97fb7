"""Keeping the embedded stack up: the set-up, the worker, and what follows when the worker dies."""

import asyncio
import time
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from httpx import HTTPError
from prefect.client.orchestration import get_client

from deployments.batches import Batches
from deployments.orphans import end_owners, recover, requeue_lost
from deployments.retention import clear_daily
from deployments.setup import set_up_deployments, set_up_pool
from deployments.stack import Say, Stack, end_process, open_stack
from deployments.task_queue import TaskQueue
from devtasks.config import OpenHandsConfig
from devtasks.errors import DevtasksError
from devtasks.run_folder import RunFolder

MIN_LIFE_SECONDS = 30.0
"""A worker that dies sooner than this after its start makes the next start wait, twice as long each time."""

MAX_WAIT_SECONDS = 60.0

TEND_SECONDS = 60.0
"""Between two looks at what waits too long, and at what a broken-off move left behind."""


@asynccontextmanager
async def running_stack(
    folder: Path, config: OpenHandsConfig, say: Say, *, limit: int
) -> AsyncGenerator["WorkerKeeper"]:
    """Bring a stack with one worker up, let this process's Prefect clients use it, and end all of it on leaving."""
    async with open_stack(folder, config, say) as stack:
        with stack.connection.settings():
            keeper = WorkerKeeper(stack, limit)
            try:
                await keeper.start()
                yield keeper
            finally:
                say("stopping …")
                await keeper.stop()


class WorkerKeeper:
    """Keeps one worker running on a stack; when it dies its runs are recovered and another is started."""

    def __init__(self, stack: Stack, limit: int) -> None:
        self.stack = stack
        self._limit = limit
        self._worker: Process | None = None

    async def start(self) -> None:
        """Take care of what an earlier worker left behind, set the server up and start the worker."""
        await self._recover()
        self.stack.say("setting up pool, queues, blocks and deployments, and starting the worker …")
        await set_up_pool()
        self._worker = await self.stack.start_worker(self._limit)
        await set_up_deployments(self.stack.config, self.stack.environment())

    async def keep(self) -> None:
        """Replace the worker and the server whenever one of them ends, tend the queue and clear up, until cancelled."""
        config, say = self.stack.config, self.stack.say
        tending = tend_queue(config, say, owns_pool=self.stack.embedded)
        besides = [asyncio.create_task(each) for each in (clear_daily(config, say), tending)]
        try:
            await self._replace()
        finally:
            for each in besides:
                each.cancel()

    async def _replace(self) -> None:
        wait = 1.0
        while self._worker:
            started = time.monotonic()
            await _one_of(self._worker, self.stack.server)
            wait = min(wait * 2, MAX_WAIT_SECONDS) if time.monotonic() - started < MIN_LIFE_SECONDS else 1.0
            if self.stack.server and self.stack.server.returncode is not None:
                self.stack.say(f"the Prefect server ended with {self.stack.server.returncode}")
                await asyncio.sleep(wait)
                await self.stack.start_server()
            if self._worker.returncode is not None:
                self.stack.say(f"the worker ended with {self._worker.returncode}; recovering its runs")
                await self._recover()
                await asyncio.sleep(wait)
                self._worker = await self.stack.start_worker(self._limit)
                self.stack.say("started another worker")

    async def stop(self) -> None:
        """End the worker, then the runs it left behind; those are queued again for the next start."""
        if self._worker:
            await end_process(self._worker)
        try:
            await self._recover()
        except HTTPError as error:
            await end_owners(RunFolder.claimed(self.stack.runs_folder))
            self.stack.say(f"the server does not answer ({error}); runs under way are taken up at the next start")

    async def _recover(self) -> None:
        for flow_run in await recover(self.stack.runs_folder, owns_pool=self.stack.embedded):
            self.stack.say(f"recovered {flow_run.name} ({flow_run.id}), which was {flow_run.state_name}")


async def tend_queue(config: OpenHandsConfig, say: Say, *, owns_pool: bool) -> None:
    """Lift LOW tasks that waited too long, finish what was broken off and requeue what a worker took and lost.

    Does so once a minute until cancelled; `owns_pool` as of `requeue_lost`.
    """
    while True:
        await asyncio.sleep(TEND_SECONDS)
        try:
            async with get_client() as client:
                queue = TaskQueue(client, config.queue_max_size)
                for flow_run in await queue.finish_moves():
                    say(f"finished moving {flow_run.name} ({flow_run.id})")
                for flow_run in await requeue_lost(client, owns_pool=owns_pool):
                    say(f"requeued {flow_run.name} ({flow_run.id}), which was {flow_run.state_name} in nobody's hands")
                for batch in await Batches(client).finish_cancelling():
                    say(f"cancelled the tasks of the batch {batch.name} ({batch.id})")
                for flow_run in await queue.lift(timedelta(hours=config.lift_after_hours)):
                    say(f"lifted {flow_run.name} to normal, as {flow_run.id}: it waited too long")
        except (HTTPError, OSError, DevtasksError) as error:
            say(f"the queue could not be tended: {type(error).__name__}: {error}")


async def _one_of(*processes: Process | None) -> None:
    """Wait until one of the processes has ended."""
    waits = [asyncio.ensure_future(process.wait()) for process in processes if process]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
