"""The commands about the queue: what waits and runs in it, and cancelling, moving and retrying a task."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime
from json import dumps
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.markup import escape
from rich.table import Table

from deployments.console import out, until_signal
from devtasks.cli_client import open_client
from devtasks.cli_models import ledger_url
from devtasks.config import OpenHandsConfig
from devtasks.errors import InvalidInput
from devtasks.task import TaskPriority

if TYPE_CHECKING:
    from deployments.queue_stats import QueueStats
    from deployments.task_queue import TaskQueue

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON document for machines.")]
Task = Annotated[str, Parameter(help="A flow run's id or name.")]
INTERRUPTED = 130


def register(app: App) -> None:
    """Add the commands to the command line."""
    app.command(list_tasks, name="list")
    app.command(queue_stats)
    app.command(cancel)
    app.command(retry)
    app.command(set_priority)


def list_tasks(
    *,
    state: Annotated[
        list[str] | None, Parameter(negative="", help="Only tasks in this state, by its name in the UI; repeatable.")
    ] = None,
    priority: Annotated[TaskPriority | None, Parameter(help="Only tasks of this priority.")] = None,
    limit: Annotated[int, Parameter(help="At most so many.")] = 50,
    json: Json = False,
) -> int:
    """List tasks, the newest first."""
    if limit < 1:
        raise InvalidInput("--limit", limit, "a whole number from 1")
    found = _ask(lambda queue: queue.list(states=state or (), priority=priority, limit=limit))
    if found is None:
        return INTERRUPTED
    if json:
        _print_json([asdict(each) for each in found])
        return 0
    table = Table(box=None, pad_edge=False)
    for column in ("task", "priority", "state", "submitted"):
        table.add_column(column, no_wrap=True, overflow="ignore")
    table.add_column("title", overflow="fold")
    for each in found:
        table.add_row(
            each.flow_run_id, each.priority, escape(each.state), _local(each.submitted_at), escape(each.title)
        )
    out.print(table if found else "no tasks", soft_wrap=True)
    return 0


def queue_stats(*, json: Json = False) -> int:
    """Count what waits and runs, and forecast when a task submitted now would start and how many today's quota allows.

    A forecast is made from the last tasks that ended; there is none before any has.
    """
    config = OpenHandsConfig.from_env()

    async def ask(queue: "TaskQueue") -> "QueueStats":
        from deployments.queue_stats import read_stats
        from devtasks.ledger import Ledger

        async with Ledger.open(ledger_url(config)) as ledger:
            return await read_stats(queue, ledger, config)

    stats = _ask(ask)
    if stats is None:
        return INTERRUPTED
    if json:
        _print_json(asdict(stats))
    else:
        _print_stats(stats)
    return 0


def cancel(task: Task, /) -> int:
    """Cancel a task: its agent and all that it started end within seconds, what it has done so far is not delivered."""

    async def ask(queue: "TaskQueue") -> str:
        return str((await queue.cancel(task)).id)

    return INTERRUPTED if _ask(ask) is None else 0


def retry(task: Task, /) -> int:
    """Submit a task anew that ended without an accepted result, and print the new flow run's id.

    Where the same task waits, runs, or was accepted since, that one's id is printed.
    """

    async def ask(queue: "TaskQueue") -> str:
        return str((await queue.retry(task)).flow_run.id)

    return _print_id(_ask(ask))


def set_priority(
    task: Task, priority: Annotated[TaskPriority, Parameter(help="The queue it is to wait in.")], /
) -> int:
    """Have a waiting task wait in another priority's queue, and print its flow run's id there.

    The old id leads to the new one. A task that has begun stays where it is, and that is refused.
    """

    async def ask(queue: "TaskQueue") -> str:
        return str((await queue.move(task, priority)).id)

    return _print_id(_ask(ask))


def _ask[T](question: "Callable[[TaskQueue], Awaitable[T]]") -> T | None:
    """Ask the queue of the server that is up; None on Ctrl-C."""

    async def run() -> T:
        from deployments.task_queue import TaskQueue

        async with open_client() as client:
            return await question(TaskQueue(client, OpenHandsConfig.from_env().queue_max_size))

    return until_signal(run())


def _print_id(flow_run_id: str | None) -> int:
    if flow_run_id is None:
        return INTERRUPTED
    out.print(flow_run_id)
    return 0


def _print_stats(stats: "QueueStats") -> None:
    table = Table("priority", "waiting", "a new one starts", box=None, pad_edge=False)
    for priority, waiting in stats.waiting.items():
        seconds = stats.expected_wait_seconds[priority]
        table.add_row(priority, str(waiting), "?" if seconds is None else f"in about {_duration(seconds)}")
    out.print(table)
    out.print(
        f"{stats.running} running, {stats.awaiting_quota} waiting for quota, {stats.needs_review} waiting for a "
        f"person; {sum(stats.waiting.values()) + stats.awaiting_quota} of at most {stats.max_size} wait",
        soft_wrap=True,
    )
    if stats.quota_limit is None:
        out.print("today's free requests: the service has named no limit")
    else:
        allowed = "?" if stats.tasks_today is None else f"about {stats.tasks_today}"
        out.print(
            f"today's free requests: {stats.quota_used} of {stats.quota_limit} used; enough for {allowed} more tasks",
            soft_wrap=True,
        )


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _local(time: datetime | None) -> str:
    return f"{time.astimezone():%m-%d %H:%M}" if time else ""


def _print_json(document: object) -> None:
    sys.stdout.write(dumps(document, indent=2, default=str) + "\n")
