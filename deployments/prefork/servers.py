"""The preloaded servers of a worker: one takes the jobs, earlier ones live until their last child has ended."""

import asyncio
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from deployments.prefork import environment
from deployments.prefork import server as server_program
from deployments.prefork.forked import ForkedProcess, Output, over_socket
from deployments.prefork.installed import State, installed

MAX_JOBS = 200
"""Jobs of one server; the next one is preloaded while it still serves."""

START_SECONDS = 120.0
"""What preloading may take; on two slow cores 3 s were measured, 15 s without compiled bytecode."""

STOP_SECONDS = 5.0

RETRY_SECONDS = 60.0
"""How long after a server that did not start the next one is tried."""


class CannotFork(Exception):
    """No child was forked; the message says why. The job has not begun and can be started another way."""


@dataclass(frozen=True)
class Job:
    """What a child is to run, and where."""

    kind: str
    arguments: Sequence[str]
    folder: str
    environment: Mapping[str, str]


class Server:
    """One preloaded server process."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket, state: State) -> None:
        self.process = process
        self.state = state
        self.jobs = 0
        self._control = control

    @classmethod
    async def start(cls, preload: Sequence[str]) -> "Server":
        """Start a server and wait until it has imported `preload`; raise CannotFork where it could not."""
        state = installed()
        control, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", str(Path(server_program.__file__)), str(theirs.fileno()), *preload),
                env=environment.of_server(),
                cwd="/",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=None,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        control.setblocking(False)
        try:
            async with asyncio.timeout(START_SECONDS):
                ready = await asyncio.get_running_loop().sock_recv(control, 1)
        except BaseException as error:
            control.close()
            process.kill()
            if isinstance(error, TimeoutError):
                raise CannotFork(f"the server was not ready within {START_SECONDS:g} s") from None
            raise
        if not ready:
            control.close()
            raise CannotFork(f"the server ended with {await process.wait()} while it imported the libraries")
        return cls(process, control, state)

    @property
    def alive(self) -> bool:
        """Whether it can take jobs."""
        return self.process.returncode is None

    async def fork(self, job: Job, *, with_output: bool) -> ForkedProcess:
        """Fork a child for a job; raise CannotFork where the server could not."""
        self.jobs += 1
        mine, theirs = socket.socketpair()
        mine.setblocking(False)
        readers, writers = zip(*(_output(with_output) for _ in ("stdout", "stderr")), strict=True)
        try:
            try:
                socket.send_fds(self._control, [b"j"], [theirs.fileno(), *writers])
            finally:
                theirs.close()
                for descriptor in writers:
                    os.close(descriptor)
            child = await over_socket(mine, json.dumps(asdict(job)).encode())
        except OSError as error:
            mine.close()
            for descriptor in filter(None, readers):
                os.close(descriptor)
            raise CannotFork(f"the server did not fork: {error}") from error
        if with_output:
            child.stdout, child.stderr = [await Output.over(descriptor) for descriptor in readers if descriptor]
        return child

    def retire(self) -> None:
        """Give it no more jobs: it leaves when its last child has ended."""
        self._control.close()


class Servers:
    """Keeps one server ready: replaces it after `max_jobs` jobs, when libraries change, and when it died."""

    def __init__(
        self, preload: Sequence[str], *, max_jobs: int = MAX_JOBS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._preload = preload
        self._max_jobs = max_jobs
        self._clock = clock
        self._current: Server | None = None
        self._retired: list[Server] = []
        self._starting: asyncio.Task[Server] | None = None
        self._failed: tuple[float, CannotFork] | None = None

    def prepare(self) -> None:
        """Begin to start a server, unless one is starting already or has just failed."""
        if self._starting is None and self._failure() is None:
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def fork(self, job: Job, *, with_output: bool) -> ForkedProcess:
        """Fork a child for a job, with pipes from its output or without; raise CannotFork where that is impossible."""
        current = self._current
        if current is None or not current.alive or current.state != installed():
            current = await self._ready()
        elif current.jobs >= self._max_jobs:
            self.prepare()
        forking = asyncio.ensure_future(current.fork(job, with_output=with_output))
        try:
            return await asyncio.shield(forking)
        except asyncio.CancelledError:  # a child that nobody knows of must not be left behind
            (await forking).kill()
            raise

    async def close(self) -> None:
        """Let the servers leave, which they do at once where no child is left; kill one that does not."""
        if self._starting:
            self._starting.cancel()
            with contextlib.suppress(asyncio.CancelledError, CannotFork):
                await self._starting
        self._retire()
        for server in self._retired:
            try:
                await asyncio.wait_for(server.process.wait(), STOP_SECONDS)
            except TimeoutError:
                server.process.kill()

    def _failure(self) -> CannotFork | None:
        recent = self._failed and self._clock() < self._failed[0] + RETRY_SECONDS
        return self._failed[1] if self._failed and recent else None

    async def _ready(self) -> Server:
        self.prepare()
        if self._starting is None:
            raise self._failure() or CannotFork("no server is ready")
        return await asyncio.shield(self._starting)

    async def _start(self) -> Server:
        try:
            fresh = await Server.start(self._preload)
        except CannotFork as error:
            self._failed = (self._clock(), error)
            raise
        finally:
            self._starting = None
        self._retire()
        self._current, self._failed = fresh, None
        return fresh

    def _retire(self) -> None:
        self._retired = [server for server in self._retired if server.alive]
        if self._current:
            self._current.retire()
            self._retired.append(self._current)
            self._current = None


def _output(wanted: bool) -> tuple[int | None, int]:
    """Return the ends of a pipe; where no output is wanted, nothing to read and /dev/null to write to."""
    return os.pipe() if wanted else (None, os.open(os.devnull, os.O_WRONLY))
