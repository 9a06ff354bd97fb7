"""The commands about the queue: what waits and runs in it, and cancelling, moving and retrying a task."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime
from json import dumps
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from pydantic import ValidationError
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table

from deployments.console import out, say, until_signal
from devtasks.cli_client import open_client
from devtasks.cli_models import ledger_url
from devtasks.config import OpenHandsConfig
from devtasks.errors import InvalidInput
from devtasks.report import TaskReport, verdict_markdown
from devtasks.task import TaskPriority, TaskStatus

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

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
    app.command(review)
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
        print_stats(stats)
    return 0


def cancel(task: Task, /, *, json: Json = False) -> int:
    """Cancel a task: its agent and all that it started end within seconds, what it has done so far is not delivered."""
    cancelled = _ask(lambda queue: queue.cancel(task))
    if cancelled and not json:
        say(f"{cancelled.id} is being cancelled")
        return 0
    return _print_task(cancelled, json=json)


def retry(task: Task, /, *, json: Json = False) -> int:
    """Submit a task anew that ended without an accepted result, and print the new flow run's id.

    Where the same task waits, runs, or was accepted since, that one's id is printed.
    """
    entered = _ask(lambda queue: queue.retry(task))
    return _print_task(entered and entered.flow_run, json=json)


def review(
    task: Annotated[str, Parameter(help="A flow run's id or name; without one, the tasks that wait are listed.")] = "",
    /,
    *,
    try_again: Annotated[bool, Parameter(negative="", help="Try again, from the start.")] = False,
    accept: Annotated[bool, Parameter(negative="", help="Deliver the last change although it did not pass.")] = False,
    give_up: Annotated[bool, Parameter(negative="", help="End the task as rejected.")] = False,
    hint: Annotated[str, Parameter(help="With --try-again: what the model should know.")] = "",
    model: Annotated[str, Parameter(help="With --try-again: a model's id, to use that one alone.")] = "",
    larger: Annotated[
        float, Parameter(help="With --try-again: how much is added to every limit; 1 is as much again.")
    ] = 1.0,
    json: Json = False,
) -> int:
    """Answer a task that waits for a person (state NeedsReview); without an answer, show what it asks.

    Tasks ask when they were submitted with --review-hours. The form in the Prefect UI (Resume) does the same.
    """
    if not task:
        return list_tasks(state=[TaskStatus.NEEDS_REVIEW], json=json)
    given = [
        name for name, chosen in (("try again", try_again), ("accept anyway", accept), ("give up", give_up)) if chosen
    ]
    if len(given) > 1 or (not try_again and (hint or model or larger != 1)):
        raise InvalidInput("review", given, "one of --try-again (with --hint, --model, --larger), --accept, --give-up")

    async def show(queue: "TaskQueue") -> "TaskReport":
        return await queue.get(task)

    async def answer(queue: "TaskQueue") -> "FlowRun":
        from flows.review import Review

        try:
            form = Review.model_validate({"decision": given[0], "hint": hint, "model": model, "larger": larger})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise InvalidInput.worded(f"--{first['loc'][0]}", first["input"], first["msg"]) from None
        return await queue.answer(task, form)

    if given:
        return _print_task(_ask(answer), json=json)
    report = _ask(show)
    if report is None:
        return INTERRUPTED
    if json:
        sys.stdout.write(report.model_dump_json(indent=2) + "\n")
    else:
        out.print(Markdown(verdict_markdown(report)))
        out.print("answer with --try-again, --accept or --give-up" if report.state == TaskStatus.NEEDS_REVIEW else "")
    return 0


def set_priority(
    task: Task,
    priority: Annotated[TaskPriority, Parameter(help="The queue it is to wait in.")],
    /,
    *,
    json: Json = False,
) -> int:
    """Have a waiting task wait in another priority's queue, and print its flow run's id there.

    The old id leads to the new one. A task that has begun stays where it is, and that is refused.
    """
    return _print_task(_ask(lambda queue: queue.move(task, priority)), json=json)


def _ask[T](question: "Callable[[TaskQueue], Awaitable[T]]") -> T | None:
    """Ask the queue of the server that is up; None on Ctrl-C."""

    max_size = OpenHandsConfig.from_env().queue_max_size

    async def run() -> T:
        from deployments.task_queue import TaskQueue

        async with open_client() as client:
            return await question(TaskQueue(client, max_size))

    return until_signal(run())


def _print_task(flow_run: "FlowRun | None", *, json: bool) -> int:
    """Print a task's id, or as JSON what `list` says of it."""
    from deployments.task_queue import listed

    if flow_run is None:
        return INTERRUPTED
    if json:
        _print_json(asdict(listed(flow_run)))
    else:
        out.print(str(flow_run.id))
    return 0


def print_stats(stats: "QueueStats") -> None:
    """Print counts and forecasts as a person reads them."""
    table = Table("priority", "waiting", "a new one starts", box=None, pad_edge=False)
    for priority, waiting in stats.waiting.items():
        table.add_row(priority, str(waiting), _start(stats.expected_wait_seconds[priority]))
    out.print(table)
    out.print(
        f"{stats.running} running, {stats.awaiting_quota} waiting for quota, {stats.needs_review} waiting for a "
        f"person; {sum(stats.waiting.values()) + stats.awaiting_quota} of at most {stats.max_size} wait",
        soft_wrap=True,
    )
    if not stats.workers:
        out.print("[yellow]no worker polls the queues, so nothing starts[/]: `devtasks up` or `devtasks run-engine`")
    if stats.quota_limit is None:
        out.print("today's free requests: the service has named no limit")
    else:
        more = "" if stats.tasks_today is None else f"; enough for about {stats.tasks_today} more tasks"
        out.print(
            f"today's free requests: {stats.quota_used} of {stats.quota_limit} used{more}",
            soft_wrap=True,
        )


def _start(seconds: float | None) -> str:
    """Return a forecast in words; nobody knows before a task has ended."""
    if seconds is None:
        return "? (no task has ended yet)"
    return f"in about {_duration(seconds)}" if seconds else "when a worker is free"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _local(time: datetime | None) -> str:
    return f"{time.astimezone():%m-%d %H:%M}" if time else ""


def _print_json(document: object) -> None:
    sys.stdout.write(dumps(document, indent=2, default=str) + "\n")
