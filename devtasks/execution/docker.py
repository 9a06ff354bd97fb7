"""The `docker` runtime: the supervisor, the agent and the commands in a container for each run.

A container sees the run's folder, what git borrows there (read-only) and the gateway's socket, all at their own
paths, and nothing else of the machine. Its supervisor is the container's first process: when its input closes,
because the run ended or the flow was killed, the container goes with all that runs in it.
"""

import asyncio
import contextlib
import csv
import io
import os
import secrets
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import devtasks
from devtasks.errors import AgentCrashed, InvalidInput, ServiceUnreachable
from devtasks.execution.image import PYTHON, RECIPE_LABEL, SOURCE, default_image, recipe
from devtasks.execution.limits import TASKS_PER_PROCESS, ResourceLimits
from devtasks.execution.local import CONSTANTS, HOME, WRITABLE
from devtasks.execution.runtime import AgentRequest, AgentResult, Command, CommandResult, OnEvent
from devtasks.execution.supervised import SUPERVISOR, SupervisedRuntime
from devtasks.execution.supervisor import ALONE
from devtasks.forkserver.client import ForkedProcess
from devtasks.workspace import seen_by_git

RUN_LABEL = "devtasks.run"
"""The label with a container's run folder, by which one that was left behind is found."""

UNPRIVILEGED = 65_532
"""User and group in the container where the worker is root; elsewhere they are the worker's own."""

TEMPORARY_MB = 512
"""What /tmp in the container holds; it counts as memory. TMPDIR lies in the run's folder."""

ANSWER_SECONDS = 30.0
"""What the Docker engine may take to answer a question."""

_MAKE = "one that `make image` made from this version"


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
        await _docker("rm", "--force", self._name)
        with contextlib.suppress(ProcessLookupError):
            process.kill()

    async def _clear_up(self) -> None:
        await remove_containers([self._folder])

    def _options(self) -> list[str]:
        limits = self._limits
        memory = f"{limits.memory_mb}m"
        options = {
            "label": f"{RUN_LABEL}={self._folder}",
            "pull": "never",
            "log-driver": "none",  # what passes here is the protocol, and nothing that Docker is to keep
            "user": "{}:{}".format(*_user()),
            "network": "none",
            "ipc": "none",
            "hostname": "sandbox",
            "workdir": str(self._folder),
            "cap-drop": "ALL",
            "security-opt": "no-new-privileges",
            "memory": memory,
            "memory-swap": memory,
            "cpus": f"{min(limits.cpus, os.cpu_count() or 1):g}",
            "pids-limit": str(TASKS_PER_PROCESS * limits.processes),
            "tmpfs": f"/tmp:rw,exec,nosuid,nodev,mode=1777,size={TEMPORARY_MB}m",  # noqa: S108
        }
        settings = [f"--{name}={value}" for name, value in options.items()]
        mounts = [f"--mount={each}" for each in self._mounts()]
        variables = [f"--env={name}={value}" for name, value in self._environment().items()]
        return ["--interactive", "--rm", "--read-only", *settings, *mounts, *variables]

    def _mounts(self) -> list[str]:
        borrowed = [path for path in seen_by_git(self._folder) if not path.is_relative_to(self._folder)]
        read_only = {path: str(path) for path in (*borrowed, *self._shown, *self._way_out())}
        read_only[Path(devtasks.__file__).parent] = SOURCE
        writable = [self._folder / name for name in WRITABLE]
        return [
            *(_mount(path, target, "readonly") for path, target in read_only.items()),
            *(_mount(path, str(path)) for path in writable),
        ]

    def _environment(self) -> dict[str, str]:
        folders = {"HOME": self._folder / HOME, "TMPDIR": self._folder / "tmp"}
        own = CONSTANTS | {"GIT_CEILING_DIRECTORIES": str(self._folder), "USER": "agent"}
        return own | {name: str(folder) for name, folder in folders.items()}

    def _hand_over(self) -> None:
        """Make what the container may write the container's user's, where the worker is another."""
        for folder in (self._folder / name for name in WRITABLE):
            folder.mkdir(parents=True, exist_ok=True)
            if os.getuid() == _user()[0]:
                continue
            _give(folder)
            for _, folders, files, directory in os.fwalk(folder, follow_symlinks=False):
                for name in (*folders, *files):
                    _give(name, directory)
        for path in (self._gateway, *self._way_out()) if self._gateway else ():
            _give(path)


async def check_image(image: str) -> None:
    """Raise InvalidInput where no container of the image could run: no docker command, no or another image.

    Raises:
        InvalidInput: there is no `docker` command, no such image, or one made from another recipe than this version's.
        ServiceUnreachable: no engine answers.
    """
    if shutil.which("docker") is None:
        raise InvalidInput("runtime", "docker", "local, or a worker with Docker: there is no docker command here")
    code, found, words = await _docker(
        "image", "inspect", "--format", f'{{{{index .Config.Labels "{RECIPE_LABEL}"}}}}', image
    )
    if code and "No such image" in words:
        raise InvalidInput("image", image, f"{_MAKE}; there is none of this name")
    if code:
        raise ServiceUnreachable("Docker", await _engine(), words)
    if found != recipe():
        raise InvalidInput(
            "image", image, f"{_MAKE} (recipe {recipe()}), or an image FROM it; this is {found or 'foreign'}"
        )


async def remove_containers(folders: Iterable[Path]) -> int:
    """Remove the containers that runs left behind in these folders; return how many."""
    wanted = set(folders)
    strays = [container for container, folder in await list_containers() if folder in wanted] if wanted else []
    if strays:
        await _docker("rm", "--force", *strays)
    return len(strays)


async def list_containers() -> list[tuple[str, Path]]:
    """Return the id and the run's folder of every container of ours; none where there is no Docker."""
    if shutil.which("docker") is None:
        return []
    listed = await _docker(
        "ps", "--all", "--format", f'{{{{.ID}}}}\t{{{{.Label "{RUN_LABEL}"}}}}', "--filter", f"label={RUN_LABEL}"
    )
    lines = (line.partition("\t") for line in listed[1].splitlines())
    return [(container, Path(folder)) for container, _, folder in lines]


async def _engine() -> str:
    return (await _docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}"))[1] or "its socket"


async def _docker(*arguments: str) -> tuple[int, str, str]:
    """Return a docker command's exit code and what it said on either stream; -1 where it took too long."""
    process = await asyncio.create_subprocess_exec(
        "docker", *arguments, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
    )
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            output, error = await process.communicate()
    except TimeoutError:
        return -1, "", f"no answer within {ANSWER_SECONDS:g} s"
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, output.decode().strip(), error.decode(errors="replace").strip()


def _user() -> tuple[int, int]:
    return (os.getuid(), os.getgid()) if os.getuid() else (UNPRIVILEGED, UNPRIVILEGED)


def _give(path: str | Path, directory: int | None = None) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.chown(path, *_user(), dir_fd=directory, follow_symlinks=False)


def _mount(source: Path, target: str, *options: str) -> str:
    """Return the words of a bind mount; commas and quotes of a path are written as CSV has them."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(["type=bind", f"source={source}", f"target={target}", *options])
    return line.getvalue()
