import asyncio
import itertools
import os
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import alive, supervisors
from sandboxes import require_bubblewrap, require_docker

from deployments.prefork.servers import Server
from deployments.prefork.worker import preloads
from devtasks.execution.bubblewrap import BubblewrapRuntime
from devtasks.execution.docker import DockerRuntime
from devtasks.execution.local import LocalRuntime
from devtasks.execution.runtime import Command, CommandResult
from devtasks.execution.supervised import SupervisedRuntime

_MARKS = itertools.count(900_000)


@pytest.fixture
def mark() -> Iterator[str]:
    """Seconds to sleep, too many to end by itself, by which the sleeping process is found; none outlives its test."""
    mark = f"{next(_MARKS)}.{os.getpid()}"
    yield mark
    for process in alive(mark):
        process.kill()


class Stage:
    """One runtime that several tests share, because its first conversation costs seconds of imports."""

    def __init__(self, runtime: SupervisedRuntime, folder: Path, runner: asyncio.Runner) -> None:
        self.folder = folder
        self.runtime = runtime
        self._runner = runner

    @property
    def gateway(self) -> Path | None:
        """Where the gateway has to listen for the agent to reach it; None where a port will do."""
        return gateway_of(self.folder) if isinstance(self.runtime, DockerRuntime | BubblewrapRuntime) else None

    def play[T](self, act: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(act)

    def run(self, *argv: str, timeout: float = 60, **env: str) -> CommandResult:
        return self.play(self.runtime.run(Command(argv, self.workspace, timeout, env)))

    @property
    def workspace(self) -> Path:
        """Where commands are run."""
        return self.folder / "workspace"


@pytest.fixture(scope="session")
def agents() -> Iterator[Path]:
    """The address of a preloaded server for agents, as a prefork worker has one."""
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as folder:
        server = runner.run(Server.start(preloads()[1], Path(folder) / "agents"))
        yield server.address
        server.retire()
        runner.run(server.process.wait())


RUNTIMES: dict[str, Callable[..., SupervisedRuntime]] = {
    "local": LocalRuntime,
    "bubblewrap": lambda folder, **given: BubblewrapRuntime(folder, gateway=gateway_of(folder), **given),
    "docker": lambda folder, **given: DockerRuntime(folder, gateway=gateway_of(folder), **given),
}
SANDBOXES = {"bubblewrap": require_bubblewrap, "docker": require_docker}


def gateway_of(folder: Path) -> Path:
    return folder / "gateway" / "socket"


@pytest.fixture(params=RUNTIMES)
def new_runtime(request: pytest.FixtureRequest) -> Callable[..., SupervisedRuntime]:
    """How a runtime of each kind is made."""
    if request.param in SANDBOXES:
        SANDBOXES[request.param]()
    return RUNTIMES[request.param]


@pytest.fixture(scope="module", params=["forked", *SANDBOXES])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The local runtime with a forked supervisor, in bubblewrap, where it is a new process, and the docker runtime."""
    if request.param in SANDBOXES:
        SANDBOXES[request.param]()
    server: Path | None = request.getfixturevalue("agents") if request.param == "forked" else None
    folder = tmp_path_factory.mktemp("run")
    (folder / "workspace").mkdir()
    runtime = RUNTIMES[request.param](folder) if request.param in SANDBOXES else LocalRuntime(folder, server=server)
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        for name in ("OPENROUTER_API_KEY", "PREFECT_API_AUTH_STRING", "GITHUB_TOKEN", "PYTHONPATH", "DEVTASKS_HOME"):
            patch.setenv(name, "never-to-be-seen")
        stage = Stage(runtime, folder, runner)
        runner.run(stage.runtime.__aenter__())
        yield stage
        runner.run(stage.runtime.close())
        assert supervisors(folder) == []
