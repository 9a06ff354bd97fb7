"""What the runtimes share: one supervisor process for each run, spoken to in JSON lines over a socket.

A runtime says how that process is started and, where closing its input does not help, how it is ended.
"""

import asyncio
import contextlib
import json
import socket
import time
from abc import ABC, abstractmethod
from asyncio.subprocess import Process
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from devtasks.errors import AgentCrashed
from devtasks.execution.limits import ResourceLimits
from devtasks.execution.oversight import Oversight
from devtasks.execution.runtime import (
    AgentEvent,
    AgentRequest,
    AgentResult,
    AgentStatus,
    Command,
    CommandResult,
    OnEvent,
    Stop,
)
from devtasks.forkserver.client import ForkedProcess

MAX_LINE = 8 << 20
"""Bytes of one protocol line; the supervisor's own lines stay far below."""

GRACE_SECONDS = 3.0
"""What the supervisor may take to stop a job, or to leave, before it is killed itself with all that runs there."""

START_SECONDS = 120.0
"""What a supervisor may take until a job begins: a container's start, and OpenHands' imports on a busy machine."""

SUPERVISOR = "devtasks.execution.supervisor"
"""The module that is the supervisor's program."""


class _Unanswered(Exception):
    """The supervisor did not say in time that it had stopped a job; it was killed."""


@dataclass(frozen=True)
class _Supervisor:
    """The running supervisor and the two directions of its socket."""

    process: Process | ForkedProcess
    answers: asyncio.StreamReader
    jobs: asyncio.StreamWriter


class SupervisedRuntime(ABC):
    """Runs jobs through one supervisor process within `limits`; `folder` is the run's own.

    `gateway` is the socket, in a folder of its own, that leads to the models out of a sandbox without a network.
    """

    isolation: str
    python: Path

    def __init__(self, folder: Path, *, limits: ResourceLimits | None = None, gateway: Path | None = None) -> None:
        self._folder = folder
        self._limits = limits or ResourceLimits()
        self._gateway = gateway
        self._shown: tuple[Path, ...] = ()
        self._current: _Supervisor | None = None
        self._one_job = asyncio.Lock()
        self._time: asyncio.Timeout | None = None
        self._oversight: Oversight | None = None

    @abstractmethod
    async def _start(self, jobs: int, log: int) -> Process | ForkedProcess:
        """Start a supervisor with the file descriptor `jobs` as its input and output, and `log` as its error."""

    @abstractmethod
    async def _kill(self, process: Process | ForkedProcess) -> None:
        """End a supervisor that did not leave when its input closed, and all that runs under it."""

    @abstractmethod
    async def _clear_up(self) -> None:
        """End whatever a supervisor that was killed may have left behind."""

    def _way_out(self) -> tuple[Path, ...]:
        """Return the folder in which the gateway listens or will; shown as a folder, it shows a new socket too."""
        if self._gateway is None:
            return ()
        self._gateway.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return (self._gateway.parent,)

    async def __aenter__(self) -> Self:
        """Start the supervisor, which imports OpenHands while the workspace is made."""
        await self._supervisor()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def run(self, command: Command) -> CommandResult:
        """Run a command in this isolation; raise AgentCrashed if the supervisor died."""
        job = {
            "job": "command",
            "argv": list(command.argv),
            "cwd": str(command.cwd),
            "env": dict(command.env),
            "timeout": command.timeout,
        }
        started = time.monotonic()
        try:
            answer = await self._do(job, command.timeout, _ignore)
        except _Unanswered:
            return CommandResult(None, "", time.monotonic() - started, timed_out=True)
        fields = ("exit_code", "output", "seconds", "timed_out", "exceeded")
        return CommandResult(**{name: answer[name] for name in fields})

    async def run_agent(self, request: AgentRequest, *, deadline: float, on_event: OnEvent) -> AgentResult:
        """Run one conversation for at most `deadline` seconds; raise AgentCrashed if its process died."""
        request = request.model_copy(update={"gateway_socket": self._gateway})
        job = {"job": "agent", "request": request.model_dump(mode="json"), "deadline": deadline}
        silence, output = request.max_silence_seconds, request.max_output_bytes
        with Oversight(self._stop, silence=silence, output=output) as self._oversight:

            def heard(event: AgentEvent) -> None:
                on_event(event)
                oversight.feed(event)

            oversight = self._oversight
            started = time.monotonic()
            try:
                answer = await self._do(job, deadline, heard)
            except _Unanswered:
                stop = oversight.stopped or Stop(AgentStatus.DEADLINE)
                answer = {"result": {**stop._asdict(), "seconds": time.monotonic() - started}}
        result = AgentResult.model_validate(answer["result"])
        # Whoever was stopped could not say how far it had come.
        return result if result.iterations else result.model_copy(update={"iterations": oversight.iterations})

    def show(self, folder: Path) -> None:
        """Let jobs read a folder at its own path; before the first of them, because a sandbox is made for that."""
        self._shown = (*self._shown, folder)

    def extend(self, seconds: float) -> None:
        """Give the job under way so many seconds more; without one nothing happens."""
        if self._time and self._current and (when := self._time.when()) is not None:
            self._time.reschedule(when + seconds)
            self._tell({"extend": seconds})
            if self._oversight:
                self._oversight.extend(seconds)

    def _stop(self, stop: Stop) -> None:
        if self._time and self._current:
            self._time.reschedule(asyncio.get_running_loop().time() + GRACE_SECONDS)
        self._tell({"stop": stop})

    def _tell(self, message: dict[str, Any]) -> None:
        """Say something about the job under way."""
        if self._current:
            self._current.jobs.write(json.dumps(message).encode() + b"\n")

    async def close(self) -> None:
        """End the supervisor and with it every process of this run."""
        await self._end(GRACE_SECONDS)

    async def _end(self, grace: float) -> None:
        """End the supervisor, which may take so many seconds to leave by itself."""
        supervisor, self._current = self._current, None
        if supervisor is None:
            return
        process = supervisor.process
        supervisor.jobs.close()
        try:
            await asyncio.wait_for(process.wait(), grace)
        except TimeoutError:
            await self._kill(process)
            await process.wait()
        if process.returncode != 0:
            await self._clear_up()

    async def _do(self, job: dict[str, Any], seconds: float, on_event: OnEvent) -> dict[str, Any]:
        job = job | {"limits": asdict(self._limits)}
        async with self._one_job:
            supervisor = await self._supervisor()
            begun = False

            def begin() -> None:
                nonlocal begun
                begun = True
                limit.reschedule(asyncio.get_running_loop().time() + seconds + GRACE_SECONDS)

            try:
                async with asyncio.timeout(START_SECONDS) as self._time:
                    limit = self._time
                    answer = await _exchange(supervisor, job, begin, on_event)
            except TimeoutError:
                await self._end(0)
                if not begun:
                    raise AgentCrashed(f"the agent's supervisor began nothing within {START_SECONDS:g} s") from None
                raise _Unanswered from None
            except BaseException:
                # Cancelled or out of step: this supervisor cannot be spoken to again.
                await self.close()
                raise
            finally:
                self._time = None
        if "error" in answer:
            raise AgentCrashed(answer["error"])
        return answer

    async def _supervisor(self) -> _Supervisor:
        if self._current and self._current.answers.at_eof():  # it died since its last job
            await self.close()
        if self._current is None:
            mine, theirs = socket.socketpair()
            with theirs, (self._folder / "supervisor.log").open("ab") as log:
                try:
                    process = await self._start(theirs.fileno(), log.fileno())
                except BaseException:
                    mine.close()
                    raise
            reader, writer = await asyncio.open_connection(sock=mine, limit=MAX_LINE)
            self._current = _Supervisor(process, reader, writer)
        return self._current


async def _exchange(
    supervisor: _Supervisor, job: dict[str, Any], begin: Callable[[], None], on_event: OnEvent
) -> dict[str, Any]:
    try:
        supervisor.jobs.write(json.dumps(job).encode() + b"\n")
        await supervisor.jobs.drain()
        while line := await supervisor.answers.readline():
            message = _parse(line)
            if message is None:
                continue
            match message.get("type"):
                case "begun":
                    begin()
                case "result":
                    return message
                case _:
                    on_event(message)
    except (ConnectionError, ValueError) as error:
        raise AgentCrashed(f"the agent's supervisor broke off: {error}") from error
    raise AgentCrashed("the agent's supervisor ended in the middle of a job")


def _parse(line: bytes) -> AgentEvent | None:
    """Return the message in a line; None for a blank or one that a killed conversation left half written."""
    with contextlib.suppress(ValueError):
        message = json.loads(line)
        if isinstance(message, dict):
            return message  # pyright: ignore[reportUnknownVariableType]
    return None


def _ignore(_: AgentEvent) -> None:
    return None
