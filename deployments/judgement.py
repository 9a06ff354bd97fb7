"""Judging a change that no agent of ours made, as a flow run would: same sandbox, environment, baseline and rules."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from devtasks import workspace
from devtasks.errors import InvalidInput, WorkspaceError
from devtasks.task import DevTask
from devtasks.validation.baseline import measure_baseline
from devtasks.validation.result import ValidationResult
from devtasks.validation.rule import ValidationContext
from devtasks.validation.validator import ResultValidator
from devtasks.workspace import Patch
from tasks.project import Project, open_project


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
    async with open_project(task, docker=docker, say=say) as project:
        return await _judge(task, patch, project, say)


async def _judge(task: DevTask, patch: bytes | None, project: Project, say: Callable[[str], None]) -> Judgement:
    made, folder, runtime, python = project.made, project.folder, project.runtime, project.python
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
