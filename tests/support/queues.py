"""A Prefect server with the deployments of our flow and nobody who works, and tasks to submit to it."""

import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from prefect.client.orchestration import PrefectClient
from prefect_stack import PrefectStack

from deployments.setup import POOL
from deployments.task_queue import TaskQueue
from devtasks.task import DevTask, TaskPriority


async def deploy_tasks(stack: PrefectStack) -> None:
    """Make the pool, its queues and the four deployments."""
    await stack.create_pool(POOL, "process")
    async with stack.client() as client:
        flow_id = await client.create_flow_from_name("development-task")
        for priority in TaskPriority:
            await client.create_deployment(
                flow_id, priority, entrypoint="flows:none", work_pool_name=POOL, work_queue_name=priority
            )


def make_repository(folder: Path) -> Path:
    """Make a repository with one file, `shop.py`, in one commit."""
    git(folder, "init", "--quiet")
    (folder / "shop.py").write_text("PRICE = 1\n")
    commit(folder)
    return folder


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=folder, check=True)


def commit(folder: Path) -> None:
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "more")


def make_task(repository: Path, **changes: Any) -> DevTask:
    """A task that no other test has submitted, but for these changes."""
    values = {
        "task_id": "new",
        "category": "unit_test",
        "description": f"Test it, {uuid4()}.",
        "repository": str(repository),
        "target_file": "shop.py",
    }
    return DevTask.parse(**values | changes)


@asynccontextmanager
async def empty_queue(server: PrefectStack, max_size: int = 100) -> AsyncGenerator[tuple[PrefectClient, TaskQueue]]:
    async with server.client() as client:
        for flow_run in await client.read_flow_runs():
            await client.delete_flow_run(flow_run.id)
        yield client, TaskQueue(client, max_size)
