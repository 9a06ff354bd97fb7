"""The set-up of a Prefect server for devtasks: pool, queues, blocks, deployments and automations.

Repeating it changes nothing.
"""

import asyncio
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from prefect.blocks.core import Block
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists

from blocks import GitHubCredentials, OpenHandsRuntime, OpenRouterCredentials
from deployments.automations import NOTIFY_BLOCK, set_up_automations
from deployments.prefork.worker import PreforkWorker
from deployments.schedules import keeping_schedules
from devtasks.config import OpenHandsConfig
from devtasks.errors import DevtasksError
from devtasks.task import TaskPriority

POOL = "devtasks"
"""The work pool, made with our worker's type; one of type `process` from an earlier set-up keeps that type, which
Prefect cannot change, and our worker serves it too."""

QUEUE_PRIORITIES: Mapping[str, int] = {
    TaskPriority.CRITICAL: 1,
    TaskPriority.HIGH: 2,
    TaskPriority.NORMAL: 3,
    TaskPriority.LOW: 4,
    "default": 5,
}
"""Queue to priority, 1 is served first; the pool's own queue `default` would otherwise tie with critical."""

PROJECT = Path(__file__).resolve().parent.parent
"""The folder of prefect.yaml."""


class DeployFailed(DevtasksError):
    """`prefect deploy` did not succeed; carries the end of what it printed."""


async def set_up(config: OpenHandsConfig, environment: Mapping[str, str]) -> None:
    """Bring the server of the active Prefect settings to what devtasks needs; `environment` is `prefect deploy`'s."""
    await set_up_pool()
    await set_up_deployments(config, environment)


async def set_up_pool() -> None:
    """Make the work pool and its queues, and give each queue its priority, also where it exists with another."""
    async with get_client() as client:
        template = PreforkWorker.get_default_base_job_template()
        with suppress(ObjectAlreadyExists):
            await client.create_work_pool(
                WorkPoolCreate(name=POOL, type=PreforkWorker.type, base_job_template=template)
            )
        for name, priority in QUEUE_PRIORITIES.items():
            with suppress(ObjectAlreadyExists):
                await client.create_work_queue(name=name, priority=priority, work_pool_name=POOL)
            queue = await client.read_work_queue_by_name(name, work_pool_name=POOL)
            if queue.priority != priority:
                await client.update_work_queue(queue.id, priority=priority)


async def set_up_deployments(config: OpenHandsConfig, environment: Mapping[str, str]) -> None:
    """Make the blocks that are missing, deploy what prefect.yaml declares, and make the automations."""
    await asyncio.gather(set_up_blocks(config), deploy(environment))
    async with get_client() as client:
        await set_up_automations(client, config)


async def has_credentials() -> bool:
    """Whether there is a `default` credentials block, which tasks use unless they name another."""
    return await _exists(OpenRouterCredentials)


async def set_up_blocks(config: OpenHandsConfig) -> None:
    """Register the block types, and make the `default` blocks from the environment where they do not exist yet."""
    for block in (OpenRouterCredentials, OpenHandsRuntime, GitHubCredentials):
        await block.register_type_and_schema()  # pyright: ignore[reportGeneralTypeIssues]
    if config.api_key and not await has_credentials():
        await OpenRouterCredentials(api_key=config.api_key, base_url=config.base_url).asave("default")
    if config.notify_url and not await _exists(Webhook, NOTIFY_BLOCK):
        headers = {"Content-Type": "application/json"}
        await Webhook(url=config.notify_url, headers=headers).asave(NOTIFY_BLOCK)  # pyright: ignore[reportArgumentType]
    if not await _exists(OpenHandsRuntime):
        settings = OpenHandsRuntime(max_seconds=config.timeout) if config.timeout else OpenHandsRuntime()
        await settings.asave("default")


async def deploy(environment: Mapping[str, str]) -> None:
    """Deploy what the project's prefect.yaml declares; raise DeployFailed with the last words of `prefect deploy`.

    What a person has set on a schedule that exists stays.
    """
    async with keeping_schedules():
        await _deploy_all(environment)


async def _deploy_all(environment: Mapping[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"),
        cwd=PROJECT,
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise DeployFailed(f"prefect deploy failed: {output.decode(errors='replace').strip()[-1_000:]}")


async def _exists(block: type[Block], name: str = "default") -> bool:
    try:
        await block.aload(name)
    except ValueError:
        return False
    return True
