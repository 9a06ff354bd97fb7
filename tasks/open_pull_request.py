"""The step that makes a delivered branch a draft pull request, and the look whether it could, before any work."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from prefect import get_run_logger, task

from blocks import GitHubCredentials
from devtasks import workspace as git
from devtasks.errors import InvalidInput
from devtasks.github import GitHub, Repository, web_url
from devtasks.report import TaskReport, pull_request_text
from devtasks.task import DevTask
from tasks.options import STEP
from tasks.run import Run


async def check_pull_request(run: Run) -> None:
    """Raise where it is known already that a pull request could not be opened; no Prefect task.

    Raises InvalidInput, ServiceUnreachable or GitHubRefused.
    """
    if run.github:
        await check_draft(run.github, run.task)


@task(name="open-pull-request", **STEP)
async def open_pull_request(run: Run, workspace: git.Workspace, report: TaskReport) -> str:
    """Push the report's branch and return the address of its draft pull request, which is opened once only."""
    if not (run.github and report.branch and report.commit):
        raise InvalidInput("delivery", run.task.delivery, "pull_request, of a result that was delivered as a branch")
    title, body = map(run.redactor.text, pull_request_text(report))
    return await open_draft(
        run.github, run.task, workspace, branch=report.branch, commit=report.commit, title=title, body=body
    )


async def check_draft(keys: GitHubCredentials, task: DevTask) -> None:
    """Raise where it is known already that no pull request could be opened on the commit that a task starts from.

    Raises InvalidInput, ServiceUnreachable or GitHubRefused.
    """
    async with GitHub(keys.api_url, keys.token) as client:
        found = await _repository(task, keys, client)
        commit = await asyncio.to_thread(git.check_repository, task)
        if not await client.has(found, "commits", commit):
            # It would be published with the result.
            allowed = f"a commit that {found.full_name} has on GitHub; push {commit[:12]} first"
            raise InvalidInput("base_ref", task.base_ref, allowed)


async def open_draft(
    keys: GitHubCredentials,
    task: DevTask,
    workspace: git.Workspace,
    *,
    branch: str,
    commit: str,
    title: str,
    body: str,
) -> str:
    """Push a branch of a workspace, and return the address of its draft pull request, which is opened once only.

    It is on the branch that the task's base ref names, or else on the repository's default branch. Raises as
    `check_draft` does.
    """
    async with GitHub(keys.api_url, keys.token) as client:
        found = await _repository(task, keys, client)
        named = await asyncio.to_thread(git.branch_name, Path(task.repository), task.base_ref)
        base = named if named and await client.has(found, "branches", named) else found.default_branch
        url = f"{web_url(keys.api_url)}/{found.full_name}.git"
        await asyncio.to_thread(git.push, workspace, commit, branch, url, keys.token)
        address = await client.open_draft(found, head=branch, base=base, title=title, body=body)
    get_run_logger().info("draft pull request on %s: %s", base, address)
    return address


async def _repository(task: DevTask, keys: GitHubCredentials, client: GitHub) -> Repository:
    host = urlsplit(web_url(keys.api_url)).hostname
    name = await asyncio.to_thread(git.github_name, Path(task.repository), host)
    found = await client.repository(name)
    if found.archived or not found.permissions.push:
        why = "is archived" if found.archived else "may not be written by the owner of the token"
        raise InvalidInput("delivery", "pull_request", f"patch or branch: {found.full_name} {why}")
    return found
