"""The preloaded servers of a worker: one generation takes the jobs, earlier ones live until their last child ended.

A generation is two servers: one whose children are flow runs, and one with OpenHands imported, whose children are the
supervisors of these runs' agents. They are apart so that a flow run does not share, and so account for, what only
agents need.
"""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployments.prefork.installed import State, installed
from devtasks.config import AGENT_SERVER
from devtasks.forkserver import server as server_program
from devtasks.forkserver.client import CannotFork, ForkedProcess, fork

MAX_JOBS = 200
"""Flow runs of one generation; the next one is preloaded while it still serves."""

START_SECONDS = 120.0
"""What preloading may take; on two slow cores 3 s were measured, 15 s without compiled bytecode."""

STOP_SECONDS = 5.0

RETRY_SECONDS = 60.0
"""How long after a server that did not start the next one is tried."""


@dataclass(frozen=True)
class Preload:
    """What a server holds in memory before it forks, and what its children run; names are `module:function`."""

    entry: str
    modules: Sequence[str]
    environment: Mapping[str, str]
    prepare: tuple[str, Any] | None = None


class Server:
    """One preloaded server process."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket, address: Path) -> None:
        self.process = process
        self.address = address
        self._control = control
        self._is_ready = False

    @classmethod
    async def start(cls, preload: Preload, address: Path) -> "Server":
        """Start a server that listens at an address; jobs that come before it has imported all wait."""
        control, theirs = socket.socketpair()
        with theirs, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(address))
            listener.listen()
            descriptors = (listener.fileno(), theirs.fileno())
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", str(Path(server_program.__file__)), *map(str, descriptors)),
                env=preload.environment,
                cwd="/",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=None,
                pass_fds=descriptors,
                start_new_session=True,
            )
        control.setblocking(False)
        configuration = {"entry": preload.entry, "preload": list(preload.modules), "prepare": preload.prepare}
        await asyncio.get_running_loop().sock_sendall(control, json.dumps(configuration).encode() + b"\n")
        return cls(process, control, address)

    async def ready(self) -> None:
        """Wait until it has imported its libraries; raise CannotFork where it could not."""
        try:
            async with asyncio.timeout(START_SECONDS):
                ready = await asyncio.get_running_loop().sock_recv(self._control, 1)
        except TimeoutError:
            raise CannotFork(f"the server was not ready within {START_SECONDS:g} s") from None
        if not ready:
            raise CannotFork(f"the server ended with {await self.process.wait()} while it imported the libraries")
        self._is_ready = True

    @property
    def alive(self) -> bool:
        """Whether it can take jobs."""
        return self.process.returncode is None

    def retire(self) -> None:
        """Take no more jobs: it leaves when its last child has ended, at once where it is still importing."""
        with contextlib.suppress(BlockingIOError):
            self._is_ready = self._is_ready or bool(self._control.recv(1))
        if self._is_ready:
            self._control.close()
        else:
            self.kill()

    def kill(self) -> None:
        """Kill it, where it has not ended."""
        self._control.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


@dataclass
class Generation:
    """The servers that were started together, from the same libraries."""

    flows: Server
    agents: Server
    state: State
    jobs: int = 0
    _leaving: asyncio.Task[None] | None = field(default=None, init=False)

    @classmethod
    async def start(cls, flows: Preload, agents: Preload, folder: Path) -> "Generation":
        """Start both servers; return when flow runs can be forked, which is seconds before agents can."""
        state = installed()
        folder.mkdir()  # noqa: ASYNC240 - once for each generation
        first = await Server.start(flows, folder / "flows")
        try:
            await first.ready()
            return cls(first, await Server.start(agents, folder / "agents"), state)
        except BaseException:
            first.kill()
            raise

    @property
    def usable(self) -> bool:
        """Whether it can go on: its libraries are the installed ones, and nobody killed one of its servers.

        A server for agents that ended by itself does not count: the next one would too, and runs do without it.
        """
        killed = self.agents.process.returncode is not None and self.agents.process.returncode < 0
        return self.flows.alive and not killed and self.state == installed()

    def retire(self) -> None:
        """Take no more flow runs; the server for agents stays as long as the last of them."""
        self.flows.retire()
        self._leaving = asyncio.create_task(self._retire_agents())

    async def _retire_agents(self) -> None:
        await self.flows.process.wait()
        self.agents.retire()
        await self.agents.process.wait()

    @property
    def left(self) -> bool:
        """Whether it has retired and all of it has ended."""
        return self._leaving is not None and self._leaving.done()

    async def close(self) -> None:
        """Wait until it has left, and kill what does not within STOP_SECONDS."""
        assert self._leaving
        await asyncio.wait([self._leaving], timeout=STOP_SECONDS)
        self._leaving.cancel()
        for server in (self.flows, self.agents):
            if server.alive:
                server.kill()
                await server.process.wait()


class Servers:
    """Keeps a generation ready: replaces it after `max_jobs` jobs, when libraries change, and when it died."""

    def __init__(
        self,
        flows: Preload,
        agents: Preload,
        *,
        max_jobs: int = MAX_JOBS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._preloads = (flows, agents)
        self._max_jobs = max_jobs
        self._clock = clock
        self._folder = Path(tempfile.mkdtemp(prefix="prefork-"))
        self._started = 0
        self._current: Generation | None = None
        self._retired: list[Generation] = []
        self._starting: asyncio.Task[Generation] | None = None
        self._failed: tuple[float, CannotFork] | None = None

    def prepare(self) -> None:
        """Begin to start a generation, unless one is starting already or has just failed."""
        if self._starting is None and self._failure() is None:
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def fork(self, request: Mapping[str, Any], *, with_output: bool) -> ForkedProcess:
        """Fork a child for a job, which writes to this process's output or nowhere; raise CannotFork."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        streams = (nowhere, 1, 2) if with_output else (nowhere, nowhere, nowhere)
        try:
            while True:
                generation = await self._usable()
                environment = {**request["environment"], AGENT_SERVER: str(generation.agents.address)}
                try:
                    return await fork(generation.flows.address, {**request, "environment": environment}, streams)
                except CannotFork:
                    if self._current is generation:
                        raise  # else it was replaced in this very moment, and its follower is asked
        finally:
            os.close(nowhere)

    async def _usable(self) -> Generation:
        """Return the generation that takes the next job."""
        current = self._current
        if current is None or not current.usable:
            current = await self._ready()
        elif current.jobs >= self._max_jobs:
            self.prepare()
        current.jobs += 1
        return current

    async def close(self) -> None:
        """Let the servers leave, which they do at once where no child is left; kill one that does not."""
        if self._starting:
            self._starting.cancel()
            with contextlib.suppress(asyncio.CancelledError, CannotFork):
                await self._starting
        self._retire()
        await asyncio.gather(*(generation.close() for generation in self._retired))
        shutil.rmtree(self._folder, ignore_errors=True)

    def _failure(self) -> CannotFork | None:
        recent = self._failed and self._clock() < self._failed[0] + RETRY_SECONDS
        return self._failed[1] if self._failed and recent else None

    async def _ready(self) -> Generation:
        self.prepare()
        if self._starting is None:
            raise self._failure() or CannotFork("no server is ready")
        return await asyncio.shield(self._starting)

    async def _start(self) -> Generation:
        self._started += 1
        try:
            fresh = await Generation.start(*self._preloads, self._folder / str(self._started))
        except CannotFork as error:
            self._failed = (self._clock(), error)
            raise
        finally:
            self._starting = None
        self._retire()
        self._current, self._failed = fresh, None
        return fresh

    def _retire(self) -> None:
        self._retired = [generation for generation in self._retired if not generation.left]
        if self._current:
            self._current.retire()
            self._retired.append(self._current)
            self._current = None
