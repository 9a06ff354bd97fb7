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
from tasks.options import STEP
from tasks.run import Run


async def check_pull_request(run: Run) -> None:
    """Raise where it is known already that a pull request could not be opened; no Prefect task.

    Raises InvalidInput, ServiceUnreachable or GitHubRefused.
    """
    if run.github is None:
        return
    async with GitHub(run.github.api_url, run.github.token) as client:
        found = await _repository(run, run.github, client)
        commit = await asyncio.to_thread(git.check_repository, run.task)
        if not await client.has(found, "commits", commit):
            # It would be published with the result.
            allowed = f"a commit that {found.full_name} has on GitHub; push {commit[:12]} first"
            raise InvalidInput("base_ref", run.task.base_ref, allowed)


@task(name="open-pull-request", **STEP)
async def open_pull_request(run: Run, workspace: git.Workspace, report: TaskReport) -> str:
    """Push the report's branch and return the address of its draft pull request, which is opened once only."""
    keys, branch, commit = run.github, report.branch, report.commit
    if not (keys and branch and commit):
        raise InvalidInput("delivery", run.task.delivery, "pull_request, of a result that was delivered as a branch")
    async with GitHub(keys.api_url, keys.token) as client:
        found = await _repository(run, keys, client)
        named = await asyncio.to_thread(git.branch_name, Path(run.task.repository), run.task.base_ref)
        base = named if named and await client.has(found, "branches", named) else found.default_branch
        url = f"{web_url(keys.api_url)}/{found.full_name}.git"
        await asyncio.to_thread(git.push, workspace, commit, branch, url, keys.token)
        title, body = pull_request_text(report)
        address = await client.open_draft(
            found, head=branch, base=base, title=run.redactor.text(title), body=run.redactor.text(body)
        )
    get_run_logger().info("draft pull request on %s: %s", base, address)
    return address


async def _repository(run: Run, keys: GitHubCredentials, client: GitHub) -> Repository:
    host = urlsplit(web_url(keys.api_url)).hostname
    name = await asyncio.to_thread(git.github_name, Path(run.task.repository), host)
    found = await client.repository(name)
    if found.archived or not found.permissions.push:
        why = "is archived" if found.archived else "may not be written by the owner of the token"
        raise InvalidInput("delivery", "pull_request", f"patch or branch: {found.full_name} {why}")
    return found
