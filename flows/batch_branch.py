"""A batch's accepted patches on one branch of each repository, what the project's tests say there, and its draft."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from blocks import GitHubCredentials, OpenHandsRuntime, load_block
from devtasks import workspace
from devtasks.batch.order import BatchOrder
from devtasks.batch.rendering import draft_text
from devtasks.batch.standing import Standing
from devtasks.batch.summary import BatchSummary, BatchTask, MergedBranch
from devtasks.config import OpenHandsConfig, environment_secrets
from devtasks.errors import DevtasksError
from devtasks.redaction import Redactor
from devtasks.report import delivered_message
from devtasks.run_folder import RunFolder
from devtasks.task import DevTask, TaskCategory
from devtasks.validation.baseline import measure_baseline
from devtasks.workspace import Contribution, Identity, Merge
from tasks.open_pull_request import check_draft, open_draft
from tasks.project import open_project


async def check_drafts(order: BatchOrder) -> None:
    """Raise where it is known already that a repository's draft pull request could not be opened.

    Raises InvalidInput, ServiceUnreachable or GitHubRefused.
    """
    keys = await load_block(GitHubCredentials, "github", order.github)
    for task in {task.repository: task for task in reversed(order.tasks)}.values():
        await check_draft(keys, task)


async def merge_branches(order: BatchOrder, summary: BatchSummary, folder: RunFolder) -> tuple[MergedBranch, ...]:
    """Put the accepted patches together, in each repository on its first task's base ref; no checkout is touched.

    What stands against a repository's branch is said in its place, and the others are made.
    """
    settings = await load_block(OpenHandsRuntime, "runtime_block", order.runtime_block)
    author = Identity(settings.author_name, settings.author_email)
    accepted = {each.task_id: each for each in summary.tasks if each.standing is Standing.ACCEPTED}
    repositories: dict[str, list[DevTask]] = {}
    for task in order.tasks:
        if task.task_id in accepted:
            repositories.setdefault(task.repository, []).append(task)
    return tuple(
        [
            await _merge(order, tasks, accepted, batch=summary.batch_id, author=author, folder=folder)
            for tasks in repositories.values()
        ]
    )


async def _merge(
    order: BatchOrder,
    tasks: list[DevTask],
    accepted: dict[str, BatchTask],
    *,
    batch: str,
    author: Identity,
    folder: RunFolder,
) -> MergedBranch:
    first = tasks[0]
    patches, lost = _patches(tasks, accepted)

    def merge() -> tuple[workspace.Workspace, Merge]:
        made = workspace.prepare(first, folder.scratch("merge"), OpenHandsConfig.from_env().repositories_folder)
        return made, workspace.merge_patches(made, patches, branch=order.one_branch, batch=batch, author=author)

    try:
        place, found = await asyncio.to_thread(merge)
    except DevtasksError as error:
        return MergedBranch(repository=first.repository, left_out=lost, problem=str(error))
    left_out = {**lost, **found.left_out}
    if found.branch is None:
        return MergedBranch(repository=first.repository, left_out=left_out, problem="no patch could be put on it")
    merged = MergedBranch(
        repository=first.repository,
        branch=found.branch,
        commit=found.commit,
        merged=found.merged,
        left_out=left_out,
        suite=await _suite(first, found.commit, docker=order.use_docker),
    )
    if not order.pull_request:
        return merged
    try:
        address = await _draft(order, first, place, merged, [accepted[name] for name in found.merged])
    except DevtasksError as error:
        return merged.model_copy(update={"problem": str(error)})
    return merged.model_copy(update={"pull_request": address})


async def _draft(
    order: BatchOrder, first: DevTask, place: workspace.Workspace, merged: MergedBranch, tasks: list[BatchTask]
) -> str:
    """Open a merged branch's draft pull request, and return its address."""
    assert merged.branch
    assert merged.commit
    keys = await load_block(GitHubCredentials, "github", order.github)
    redactor = Redactor(environment_secrets() | {"GitHub token": keys.token.get_secret_value()})
    title, body = map(redactor.text, draft_text(order.name, merged, tasks))
    return await open_draft(keys, first, place, branch=merged.branch, commit=merged.commit, title=title, body=body)


def _patches(tasks: Iterable[DevTask], accepted: dict[str, BatchTask]) -> tuple[list[Contribution], dict[str, str]]:
    """Return what the tasks contribute, and why the patch of a task cannot be read here."""
    found: list[Contribution] = []
    lost: dict[str, str] = {}
    for task in tasks:
        result = accepted[task.task_id]
        try:
            patch = Path(result.diff_path or "").read_bytes()
        except OSError as error:
            lost[task.task_id] = f"its patch file cannot be read here: {error.strerror}"
            continue
        message = delivered_message(
            task=task,
            flow_run_id=result.flow_run_id or "",
            model=result.model,
            score=result.score or 0.0,
            passed=True,
            simulated=result.simulated,
        )
        found.append(Contribution(task.task_id, patch, message))
    return found, lost


async def _suite(task: DevTask, commit: str, *, docker: bool) -> str:
    """Run the project's tests at a commit, in its environment and the sandbox; say in words how they ended."""
    whole = DevTask.parse(
        task_id="suite",
        category=TaskCategory.ANALYSIS,
        description="run the tests",
        repository=task.repository,
        base_ref=commit,
        environment=task.environment,
        setup_command=task.setup_command,
    )
    try:
        async with open_project(whole, docker=docker) as project:
            scratch = project.folder.scratch("suite")
            baseline = await measure_baseline(whole, project.made.path, project.runtime, scratch, project.python)
    except DevtasksError as error:
        return f"not run: {error}"
    counts = f"{len(baseline.passed)} passed, {len(baseline.failed)} failed, {len(baseline.skipped)} skipped"
    return f"{baseline.suite} ({counts})"
