"""Counts of the queue and what they forecast: when a task would start, and how many today's quota still allows."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from blocks import OpenRouterCredentials
from deployments.client import online_workers
from deployments.setup import POOL
from deployments.task_queue import TaskQueue
from devtasks.config import OpenHandsConfig
from devtasks.ledger import Ledger
from devtasks.metrics_collector import MetricsCollector
from devtasks.openrouter.account import fingerprint
from devtasks.quota import tasks_within
from devtasks.task import TaskPriority


@dataclass(frozen=True)
class QueueStats:
    """Tasks by what they wait for, and forecasts; None where there is nothing yet to forecast from.

    `waiting` are those that a worker could start now, by priority; `expected_wait_seconds` is what a task submitted
    now would wait in each. `workers` poll the queues; without one nothing starts. The quota is that of the account of
    the credentials block `default`.
    """

    waiting: Mapping[str, int]
    workers: int
    running: int
    awaiting_quota: int
    needs_review: int
    max_size: int
    mean_task_seconds: float | None
    expected_wait_seconds: Mapping[str, float | None]
    quota_used: int
    quota_limit: int | None
    calls_per_task: float | None
    tasks_today: int | None


async def read_stats(queue: TaskQueue, ledger: Ledger, config: OpenHandsConfig) -> QueueStats:
    """Return the counts of the queue's server, and forecasts from its last tasks and from the ledger's calls."""
    counts = await asyncio.gather(*(queue.ready(priority) for priority in TaskPriority))
    waiting = dict(zip(map(str, TaskPriority), counts, strict=True))
    running, awaiting_quota, needs_review, seconds = await asyncio.gather(
        queue.running(), queue.awaiting_quota(), queue.needs_review(), queue.mean_seconds()
    )
    workers = await online_workers(queue.client, POOL)
    used, limit = await day_quota(ledger, config)
    calls = _calls_per_task(MetricsCollector(await ledger.attempts()))
    return QueueStats(
        waiting=waiting,
        workers=len(workers),
        running=running,
        awaiting_quota=awaiting_quota,
        needs_review=needs_review,
        max_size=queue.max_size,
        mean_task_seconds=seconds,
        expected_wait_seconds=expected_waits(waiting, running, seconds),
        quota_used=used,
        quota_limit=limit,
        calls_per_task=calls,
        tasks_today=tasks_within(used, limit, calls),
    )


def expected_waits(waiting: Mapping[str, int], running: int, mean_seconds: float | None) -> Mapping[str, float | None]:
    """Return how long a new task of each priority would wait, in seconds; priorities from the first served on.

    As many tasks at a time are counted on as run now, one at least.
    """
    ahead, waits = 0, dict[str, float | None]()
    for priority, number in waiting.items():
        ahead += number
        waits[priority] = None if mean_seconds is None else mean_seconds * ahead / max(running, 1)
    return waits


async def day_quota(ledger: Ledger, config: OpenHandsConfig) -> tuple[int, int | None]:
    """Return today's free requests of the block `default`, or of the key in the environment: used, and the limit."""
    try:
        block = await OpenRouterCredentials.aload("default")
    except ValueError:
        if config.api_key is None:
            return 0, None
        block = OpenRouterCredentials(api_key=config.api_key, base_url=config.base_url)
    use = await ledger.day_use(fingerprint(block.base_url, block.api_key))
    return use.used, use.limit


def _calls_per_task(collector: MetricsCollector) -> float | None:
    system = collector.system()
    return system.llm_calls / system.tasks if system.tasks else None
