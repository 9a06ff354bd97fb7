"""A running stack as one object: for programs that submit tasks themselves, and for the command line."""

import asyncio
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prefect.client.orchestration import get_client

from deployments.stack import Say, Stack
from deployments.task_queue import TaskQueue
from deployments.up import running_stack
from devtasks.config import STACK, OpenHandsConfig
from devtasks.errors import DevtasksError
from devtasks.task import DevTask
from flows.admission import Enqueued


class EngineNotStarted(DevtasksError):
    """The engine was asked for something before `start` or after `stop`."""


class ExecutionEngine:
    """Brings up what tasks need, with one worker, and keeps it up between `start` and `stop`; or use `async with`.

    The server is that of PREFECT_API_URL, or an embedded one whose state lies in `folder` (default: the folder of
    `devtasks up` under DEVTASKS_HOME). `max_concurrent_tasks` is how many tasks run at a time.
    """

    def __init__(
        self,
        config: OpenHandsConfig | None = None,
        max_concurrent_tasks: int = 5,
        *,
        folder: Path | None = None,
        say: Say = lambda _: None,
    ) -> None:
        self._config = config or OpenHandsConfig.from_env()
        self._limit = max_concurrent_tasks
        self._folder = folder or (self._config.home / STACK).expanduser().resolve()
        self._say = say
        self._open = AsyncExitStack()
        self._parts: tuple[Stack, TaskQueue, asyncio.Task[None]] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def queue(self) -> TaskQueue:
        """The queue of the engine's server."""
        return self._started[1]

    @property
    def stack(self) -> Stack:
        """What runs besides the worker."""
        return self._started[0]

    async def start(self) -> None:
        """Bring everything up and let this asyncio task's Prefect clients use it; a second call does nothing.

        `stop` is to be called from the same asyncio task.
        """
        if self._parts:
            return
        async with AsyncExitStack() as opening:
            running = running_stack(self._folder, self._config, self._say, limit=self._limit)
            keeper = await opening.enter_async_context(running)
            client = await opening.enter_async_context(get_client())
            keeping = asyncio.create_task(keeper.keep())
            opening.push_async_callback(_end, keeping)
            self._parts = keeper.stack, TaskQueue(client, self._config.queue_max_size), keeping
            self._open = opening.pop_all()

    async def submit_task(self, task: DevTask, **options: Any) -> Enqueued:
        """Submit a task; `options` as of `TaskQueue.enqueue`, which also says what is refused."""
        return await self.queue.enqueue(task, **options)

    async def wait(self) -> None:
        """Wait until the engine can no longer be kept up, which raises why; cancel it to go on."""
        await self._started[2]

    async def stop(self) -> None:
        """End the worker and what it runs, then the server; runs under way are queued again for the next start."""
        self._parts = None
        await self._open.aclose()

    @property
    def _started(self) -> tuple[Stack, TaskQueue, asyncio.Task[None]]:
        if self._parts is None:
            raise EngineNotStarted("the engine is not running: call start() first")
        return self._parts


async def _end(keeping: asyncio.Task[None]) -> None:
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping
