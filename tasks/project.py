"""A project at a commit, ready for its tests to be run as a flow run would: same sandbox, same environment."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from blocks import OpenHandsRuntime
from devtasks import workspace
from devtasks.config import OpenHandsConfig
from devtasks.environments import project_environment
from devtasks.execution.docker import DockerRuntime
from devtasks.execution.local import HOME
from devtasks.execution.supervised import SupervisedRuntime
from devtasks.run_folder import RunFolder
from devtasks.task import DevTask
from devtasks.workspace import Workspace
from tasks.sandbox import choose_sandbox, make_runtime


@dataclass(frozen=True)
class Project:
    """A copy of a repository, the folder it lies in, what its commands run in, and its environment's interpreter."""

    made: Workspace
    folder: RunFolder
    runtime: SupervisedRuntime
    python: Path


@asynccontextmanager
async def open_project(
    task: DevTask, *, docker: bool = False, say: Callable[[str], None] = lambda _: None
) -> AsyncGenerator[Project]:
    """Yield a copy of a task's repository at its base commit, which goes on leaving; the repository is only read.

    No server is asked; `say` is told what is being done. Raises what a task's workspace and environment raise.
    """
    config, settings = OpenHandsConfig.from_env(), OpenHandsRuntime()
    sandbox = await choose_sandbox(docker, settings, config, say)
    config.make_home()
    folder = RunFolder.claim(config.runs_folder, str(uuid4()))
    try:
        async with make_runtime(sandbox, folder.work, settings, config, None) as runtime:
            made = await asyncio.to_thread(workspace.prepare, task, folder.work, config.repositories_folder)
            builder = runtime.builder(config.environments_folder) if isinstance(runtime, DockerRuntime) else None
            environment = await project_environment(
                task, made, config.environments_folder, folder.work / HOME, say, builder=builder
            )
            if environment.folder:
                runtime.show(environment.folder)
            yield Project(made, folder, runtime, environment.python)
    finally:
        folder.release()
        workspace.remove(folder.path)
