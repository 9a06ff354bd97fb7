"""The `docker` runtime: the supervisor, the agent and the commands in a container for each run.

A container sees the run's folder, what git borrows there (read-only) and the gateway's socket, all at their own
paths, and nothing else of the machine. Its supervisor is the container's first process: when its input closes,
because the run ended or the flow was killed, the container goes with all that runs in it.
"""

import asyncio
import contextlib
import os
import secrets
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any, Self

import devtasks
from devtasks.errors import AgentCrashed
from devtasks.execution.docker_builder import DockerBuilder
from devtasks.execution.docker_engine import ask, check_image, give, hand_over, mount, remove_containers, shut_in
from devtasks.execution.image import PYTHON, SOURCE, default_image
from devtasks.execution.limits import TASKS_PER_PROCESS, ResourceLimits
from devtasks.execution.local import CONSTANTS, HOME, WRITABLE
from devtasks.execution.runtime import AgentRequest, AgentResult, Command, CommandResult, OnEvent
from devtasks.execution.supervised import SUPERVISOR, SupervisedRuntime
from devtasks.execution.supervisor import ALONE
from devtasks.forkserver.client import ForkedProcess
from devtasks.workspace import seen_by_git


class DockerRuntime(SupervisedRuntime):
    """Runs jobs in a container of `image`, which has no network; `gateway` is the socket that leads to the models.

    `folder` is the run's own. Entering it raises InvalidInput where there is no Docker engine or no such image; the
    container itself is started with the first job, when the workspace is there to be shown.
    """

    isolation = "docker"
    python = Path(PYTHON)

    def __init__(
        self,
        folder: Path,
        *,
        image: str | None = None,
        gateway: Path | None = None,
        limits: ResourceLimits | None = None,
    ) -> None:
        super().__init__(folder, limits=limits, gateway=gateway)
        self._image = image or default_image()
        self._name = ""
        self._logged = 0

    async def __aenter__(self) -> Self:
        """Check the engine and the image, before anything is paid for."""
        await check_image(self._image)
        return self

    def builder(self, cache: Path) -> DockerBuilder:
        """Return what makes projects' environments for this runtime; `cache` is the folder they are in."""
        return DockerBuilder(self._image, self._folder, cache)

    async def run(self, command: Command) -> CommandResult:
        """Run a command in the container."""
        await asyncio.to_thread(self._hand_over)
        return await super().run(command)

    async def run_agent(self, request: AgentRequest, *, deadline: float, on_event: OnEvent) -> AgentResult:
        """Run one conversation in the container."""
        await asyncio.to_thread(self._hand_over)
        return await super().run_agent(request, deadline=deadline, on_event=on_event)

    async def _do(self, job: dict[str, Any], seconds: float, on_event: OnEvent) -> dict[str, Any]:
        try:
            return await super()._do(job, seconds, on_event)
        except AgentCrashed as error:
            if refusal := self._refusal():
                raise AgentCrashed(f"{error}: {refusal}") from error
            raise

    def _refusal(self) -> str:
        """Return why Docker did not start the last container; nothing where it did."""
        with (self._folder / "supervisor.log").open(errors="replace") as log:
            log.seek(self._logged)
            return next((line.strip() for line in log if line.startswith("docker: ")), "")

    async def _start(self, jobs: int, log: int) -> Process | ForkedProcess:
        self._logged = os.fstat(log).st_size
        self._name = f"devtasks-{secrets.token_hex(8)}"
        return await asyncio.create_subprocess_exec(
            *("docker", "run", "--name", self._name, *self._options(), self._image),
            *(PYTHON, "-P", "-m", SUPERVISOR, ALONE),
            stdin=jobs,
            stdout=jobs,
            stderr=log,
            start_new_session=True,
        )

    async def _kill(self, process: Process | ForkedProcess) -> None:
        await ask("rm", "--force", self._name)
        with contextlib.suppress(ProcessLookupError):
            process.kill()

    async def _clear_up(self) -> None:
        await remove_containers([self._folder])

    def _options(self) -> list[str]:
        limits = self._limits
        memory = f"{limits.memory_mb}m"
        return [
            "--interactive",
            *shut_in(
                self._folder,
                self._environment(),
                self._mounts(),
                network="none",
                ipc="none",
                hostname="sandbox",
                workdir=str(self._folder),
                memory=memory,
                memory_swap=memory,
                cpus=f"{min(limits.cpus, os.cpu_count() or 1):g}",
                pids_limit=str(TASKS_PER_PROCESS * limits.processes),
            ),
        ]

    def _mounts(self) -> list[str]:
        borrowed = [path for path in seen_by_git(self._folder) if not path.is_relative_to(self._folder)]
        read_only = {path: str(path) for path in (*borrowed, *self._shown, *self._way_out())}
        read_only[Path(devtasks.__file__).parent] = SOURCE
        writable = [self._folder / name for name in WRITABLE]
        return [
            *(mount(path, target, "readonly") for path, target in read_only.items()),
            *(mount(path, str(path)) for path in writable),
        ]

    def _environment(self) -> dict[str, str]:
        folders = {"HOME": self._folder / HOME, "TMPDIR": self._folder / "tmp"}
        own = CONSTANTS | {"GIT_CEILING_DIRECTORIES": str(self._folder), "USER": "agent"}
        return own | {name: str(folder) for name, folder in folders.items()}

    def _hand_over(self) -> None:
        """Make what the container may write the container's user's, where the worker is another."""
        for folder in (self._folder / name for name in WRITABLE):
            folder.mkdir(parents=True, exist_ok=True)
            hand_over(folder)
        for path in (self._gateway, *self._way_out()) if self._gateway else ():
            give(path)
