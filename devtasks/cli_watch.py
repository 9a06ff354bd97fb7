"""The command that shows what happens while it happens."""

import asyncio
from contextlib import aclosing, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from deployments.console import out, until_signal
from devtasks.cli_client import open_client
from devtasks.errors import InvalidInput
from devtasks.report import DELIVERED

if TYPE_CHECKING:
    from deployments.watch import QueueWatch, TaskWatch

INTERRUPTED, UNREACHABLE = 130, 3


def register(app: App) -> None:
    """Add the command to the command line."""
    app.command(watch)


def watch(
    *tasks: Annotated[str, Parameter(help="A flow run's id or name; without one, the whole queue is watched.")],
    seconds: Annotated[float | None, Parameter(help="Stop after so many seconds.")] = None,
    json: Annotated[bool, Parameter(name="--json", negative="", help="Print one line of JSON for each event.")] = False,
) -> int:
    """Show what happens to tasks until they have ended, or to the whole queue until Ctrl-C.

    On a terminal a view is drawn anew, elsewhere each event is a line. A server that goes away is waited for. Exit
    code 0 where every task named was accepted or approved (for the queue: always), 1 where one was not, or has not
    ended after --seconds, 3 where the server was away then, 130 after Ctrl-C.
    """
    if seconds is not None and not 0 < seconds < float("inf"):
        raise InvalidInput("--seconds", seconds, "a number of seconds above 0")
    from deployments.watch import QueueWatch, TaskWatch

    watching = TaskWatch(tuple(dict.fromkeys(tasks))) if tasks else QueueWatch()
    away = until_signal(_show(watching, seconds, json=json))
    if away is None:
        return INTERRUPTED
    if away:
        return UNREACHABLE
    if isinstance(watching, QueueWatch):
        return 0
    return 0 if watching.done and all(each.outcome in DELIVERED for each in watching.reports.values()) else 1


async def _show(watching: "TaskWatch | QueueWatch", seconds: float | None, *, json: bool) -> bool:
    """Show events until the end or the deadline, and return whether the server was away then."""
    from deployments.watch import Away, looks
    from deployments.watch_view import LiveView, print_event, print_json_line

    live = LiveView(watching) if out.is_terminal and not json else None
    lines = partial(print_event, several=watching.several)
    tell = live.tell if live else print_json_line if json else lines
    away = True
    limit = asyncio.timeout(seconds)
    with live or nullcontext():
        try:
            async with limit, aclosing(looks(open_client, watching)) as found:
                async for events in found:
                    away = any(isinstance(event, Away) for event in events)
                    for event in events:
                        tell(event)
        except TimeoutError:
            if not limit.expired():
                raise
    return away
