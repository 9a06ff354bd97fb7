"""Keeping the embedded stack up: the set-up, the worker, and what follows when the worker dies."""

import asyncio
import time
from asyncio.subprocess import Process

from deployments.orphans import recover
from deployments.setup import set_up
from deployments.stack import Stack, end_process

MIN_LIFE_SECONDS = 30.0
"""A worker that dies sooner than this after its start makes the next start wait, twice as long each time."""

MAX_WAIT_SECONDS = 60.0


class WorkerKeeper:
    """Keeps one worker running on a stack; when it dies its runs are recovered and another is started."""

    def __init__(self, stack: Stack, limit: int) -> None:
        self._stack = stack
        self._limit = limit
        self._worker: Process | None = None

    async def start(self) -> None:
        """Take care of what an earlier worker left behind, set the server up and start the worker."""
        with self._stack.settings():
            await self._recover()
            self._stack.say("setting up pool, queues, blocks and deployments, and starting the worker …")
            _, self._worker = await asyncio.gather(
                set_up(self._stack.config, self._stack.environment()), self._stack.start_worker(self._limit)
            )

    async def keep(self) -> None:
        """Wait for the worker and replace it whenever it ends, until cancelled."""
        wait = 1.0
        while self._worker:
            started = time.monotonic()
            code = await self._worker.wait()
            self._stack.say(f"the worker ended with {code}; recovering its runs and starting another …")
            wait = min(wait * 2, MAX_WAIT_SECONDS) if time.monotonic() - started < MIN_LIFE_SECONDS else 1.0
            with self._stack.settings():
                await self._recover()
            await asyncio.sleep(wait)
            self._worker = await self._stack.start_worker(self._limit)

    async def stop(self) -> None:
        """End the worker, then the runs it left behind; those are queued again for the next start."""
        if self._worker:
            await end_process(self._worker)
        with self._stack.settings():
            await self._recover()

    async def _recover(self) -> None:
        for flow_run in await recover(self._stack.runs_folder, owns_pool=self._stack.embedded):
            self._stack.say(f"recovered {flow_run.name} ({flow_run.id}), which was {flow_run.state_name}")
