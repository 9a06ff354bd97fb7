"""The `local` runtime: the agent and the commands as processes of this machine, under one supervisor for each run."""

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any, Self

from devtasks.errors import AgentCrashed
from devtasks.execution.runtime import AgentEvent, AgentRequest, AgentResult, Command, CommandResult, OnEvent
from devtasks.processes import kill_at_home, kill_tree

MAX_LINE = 8 << 20
"""Bytes of one protocol line; the supervisor's own lines stay far below."""

GRACE_SECONDS = 10.0
"""What the supervisor may take beyond a job's own limit before it is killed itself."""

HOME = "home"
"""The folder below the run's that is HOME for all that runs there."""

PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ")
"""The variables of this process that the agent and its commands get to see."""


class LocalRuntime:
    """Runs jobs through one supervisor process, with a scrubbed environment and HOME in the run's folder.

    `folder` is the run's own; its `home` and `tmp` are what the agent gets for HOME and TMPDIR.
    """

    isolation = "local"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: Process | None = None
        self._one_job = asyncio.Lock()

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
        answer = await self._do(job, command.timeout, _ignore)
        return CommandResult(answer["exit_code"], answer["output"], answer["seconds"], answer["timed_out"])

    async def run_agent(self, request: AgentRequest, *, deadline: float, on_event: OnEvent) -> AgentResult:
        """Run one conversation for at most `deadline` seconds; raise AgentCrashed if its process died."""
        job = {"job": "agent", "request": request.model_dump(mode="json"), "deadline": deadline}
        answer = await self._do(job, deadline, on_event)
        return AgentResult.model_validate(answer["result"])

    async def close(self) -> None:
        """End the supervisor and with it every process of this run."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), GRACE_SECONDS)
        except TimeoutError:
            await _kill(process)
        if process.returncode != 0:
            await asyncio.to_thread(kill_at_home, self._folder / HOME)

    async def _do(self, job: dict[str, Any], seconds: float, on_event: OnEvent) -> dict[str, Any]:
        async with self._one_job:
            process = await self._supervisor()
            try:
                async with asyncio.timeout(seconds + GRACE_SECONDS):
                    answer = await _exchange(process, job, on_event)
            except BaseException as error:
                # Cancelled, out of time or out of step: this supervisor cannot be spoken to again.
                await self.close()
                if isinstance(error, TimeoutError):
                    raise AgentCrashed("the agent's supervisor did not answer in time") from None
                raise
        if "error" in answer:
            raise AgentCrashed(answer["error"])
        return answer

    async def _supervisor(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            with (self._folder / "supervisor.log").open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "devtasks.execution.supervisor"),
                    cwd=self._folder,
                    env=self._environment(),
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=log,
                    start_new_session=True,
                    limit=MAX_LINE,
                )
        return self._process

    def _environment(self) -> dict[str, str]:
        folders = {"HOME": self._folder / HOME, "TMPDIR": self._folder / "tmp"}
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        own = {
            "GIT_CEILING_DIRECTORIES": str(self._folder),  # git never finds a repository above the run's folder
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no download at import
            "LOG_AUTO_CONFIG": "false",
            "NO_COLOR": "1",  # escape sequences cost tokens
            "OPENHANDS_SUPPRESS_BANNER": "1",
            "PYTHONUTF8": "1",
        }
        shown = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        # The agent's `python` and `pytest` are the interpreter that judges it.
        shown["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), shown.get("PATH", os.defpath)])
        return shown | own | {name: str(folder) for name, folder in folders.items()}


async def _exchange(process: Process, job: dict[str, Any], on_event: OnEvent) -> dict[str, Any]:
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(json.dumps(job).encode() + b"\n")
        await process.stdin.drain()
        while line := await process.stdout.readline():
            message = _parse(line)
            if message is None:
                continue
            if message.get("type") == "result":
                return message
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


async def _kill(process: Process) -> None:
    kill_tree(process.pid)
    await process.wait()


def _ignore(_: AgentEvent) -> None:
    return None
