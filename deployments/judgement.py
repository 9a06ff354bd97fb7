"""Judging a change that no agent of ours made, as a flow run would: same sandbox, environment, baseline and rules."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from blocks import OpenHandsRuntime
from devtasks import workspace
from devtasks.config import OpenHandsConfig
from devtasks.environments import project_environment
from devtasks.errors import InvalidInput, WorkspaceError
from devtasks.execution.docker import DockerRuntime
from devtasks.execution.local import HOME
from devtasks.execution.supervised import SupervisedRuntime
from devtasks.run_folder import RunFolder
from devtasks.task import DevTask
from devtasks.validation.baseline import measure_baseline
from devtasks.validation.result import ValidationResult
from devtasks.validation.rule import ValidationContext
from devtasks.validation.validator import ResultValidator
from devtasks.workspace import Patch
from tasks.sandbox import choose_sandbox, make_runtime


@dataclass(frozen=True)
class Judgement:
    """A verdict, on which change since which commit, and what shut in the commands that led to it."""

    verdict: ValidationResult
    patch: Patch
    base_commit: str
    isolation: str

    def document(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {
            **asdict(self.verdict),
            "changes": [asdict(change) for change in self.patch.changes],
            "base_commit": self.base_commit,
            "isolation": self.isolation,
        }


async def judge(
    task: DevTask, patch: bytes | None, *, docker: bool = False, say: Callable[[str], None] = lambda _: None
) -> Judgement:
    """Return the verdict on a patch, else on a checkout's files as they are, against the task's base commit.

    The repository is only read, and no server is asked; `say` is told what is being done. Raises InvalidInput for a
    patch that does not apply, and what a task's workspace, environment and baseline raise.
    """
    config, settings = OpenHandsConfig.from_env(), OpenHandsRuntime()
    sandbox = await choose_sandbox(docker, settings, config, say)
    config.make_home()
    folder = RunFolder.claim(config.runs_folder, str(uuid4()))
    try:
        async with make_runtime(sandbox, folder.work, settings, config, None) as runtime:
            return await _judge(task, patch, folder=folder, runtime=runtime, config=config, say=say)
    finally:
        folder.release()
        workspace.remove(folder.path)


async def _judge(
    task: DevTask,
    patch: bytes | None,
    *,
    folder: RunFolder,
    runtime: SupervisedRuntime,
    config: OpenHandsConfig,
    say: Callable[[str], None],
) -> Judgement:
    made = await asyncio.to_thread(workspace.prepare, task, folder.work, config.repositories_folder)
    builder = runtime.builder(config.environments_folder) if isinstance(runtime, DockerRuntime) else None
    environment = await project_environment(
        task, made, config.environments_folder, folder.work / HOME, say, builder=builder
    )
    if environment.folder:
        runtime.show(environment.folder)
    python = environment.python
    say(f"measuring the project at {made.base_commit[:12]}, isolation {runtime.isolation}")
    baseline = await measure_baseline(task, made.path, runtime, folder.scratch("baseline"), python)
    await asyncio.to_thread(_change, made, task, patch)
    change = await asyncio.to_thread(workspace.diff, made)
    await asyncio.to_thread(workspace.reset, made, change.tree)
    say(f"judging {len(change.changes)} changed files")
    scratch = folder.scratch("validation")
    before = partial(workspace.read_bytes, made)
    context = ValidationContext(task, made.path, change.changes, baseline, runtime, scratch, python, before)
    verdict = await ResultValidator().validate(context, cut=False)
    return Judgement(verdict, change, made.base_commit, runtime.isolation)


def _change(made: workspace.Workspace, task: DevTask, patch: bytes | None) -> None:
    if patch is None:
        workspace.take_over(made, Path(task.repository))
        return
    try:
        workspace.apply_patch(made, patch)
    except WorkspaceError as error:
        raise InvalidInput("--diff", str(error), f"a patch that applies to {made.base_commit[:12]}") from None
