"""The `local` runtime: the agent and the commands as processes of this machine, under one supervisor for each run."""

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import Process
from pathlib import Path

from devtasks.execution.limits import ResourceLimits
from devtasks.execution.supervised import SUPERVISOR, SupervisedRuntime
from devtasks.forkserver.client import CannotFork, ForkedProcess, fork
from devtasks.processes import kill_at_home, kill_tree

HOME = "home"
"""The folder below the run's that is HOME for all that runs there."""

WRITABLE = (HOME, "conversations", "scratch", "tmp", "workspace")
"""The folders below the run's that a sandbox lets write to; the trusted git dir and the log are not among them."""

FORKED_SUPERVISOR = f"{SUPERVISOR}:forked"
"""What a preloaded server's children run."""

CONSTANTS = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no download at import
    "LOG_AUTO_CONFIG": "false",
    "NO_COLOR": "1",  # escape sequences cost tokens
    "OPENHANDS_SUPPRESS_BANNER": "1",
    "PYTHONUTF8": "1",
}
"""Variables that are the same for every run; some take effect when Python starts or OpenHands is imported."""

PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ")
"""The variables of this process that the agent and its commands get to see."""


class LocalRuntime(SupervisedRuntime):
    """Runs jobs through one supervisor process, with a scrubbed environment and HOME in the run's folder.

    `folder` is the run's own; its `home` and `tmp` are what the agent gets for HOME and TMPDIR. The supervisor is a
    fork of the preloaded server at the address `server`, and a new process where none answers there.
    """

    isolation = "local"
    python = Path(sys.executable)

    def __init__(
        self,
        folder: Path,
        *,
        limits: ResourceLimits | None = None,
        gateway: Path | None = None,
        server: Path | None = None,
    ) -> None:
        super().__init__(folder, limits=limits, gateway=gateway)
        self._server = server

    async def _start(self, jobs: int, log: int) -> Process | ForkedProcess:
        environment = self._environment()
        if self._server:
            request = {"environment": environment, "folder": str(self._folder)}
            with contextlib.suppress(CannotFork):
                return await fork(self._server, request, (jobs, jobs, log))
        return await self._spawn((sys.executable, "-P", "-m", SUPERVISOR), environment, jobs, log)

    async def _spawn(self, argv: tuple[str, ...], environment: dict[str, str], jobs: int, log: int) -> Process:
        """Start a program in the run's folder and in a session of its own, with the supervisor's channels."""
        return await asyncio.create_subprocess_exec(
            *argv, cwd=self._folder, env=environment, stdin=jobs, stdout=jobs, stderr=log, start_new_session=True
        )

    async def _kill(self, process: Process | ForkedProcess) -> None:
        kill_tree(process.pid)

    async def _clear_up(self) -> None:
        await asyncio.to_thread(kill_at_home, self._folder / HOME)

    def _environment(self) -> dict[str, str]:
        folders = {"HOME": self._folder / HOME, "TMPDIR": self._folder / "tmp"}
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        # git never finds a repository above the run's folder
        own = CONSTANTS | {"GIT_CEILING_DIRECTORIES": str(self._folder)}
        shown = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        # The agent's `python` and `pytest` are the interpreter that judges it.
        shown["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), shown.get("PATH", os.defpath)])
        return shown | own | {name: str(folder) for name, folder in folders.items()}
