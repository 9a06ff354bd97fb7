"""What changes while somebody watches: tasks until they end, or the whole queue; a server that goes away is waited for.

A watch keeps what it has seen and is asked for what is new with a client of the moment, so that it outlives the server.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, Log, StateType
from prefect.exceptions import ObjectNotFound

from deployments.client import Follower
from deployments.task_queue import MOVED, QueuedTask, TaskQueue, listed
from devtasks.errors import InvalidInput, ServiceUnreachable
from devtasks.report import TaskReport
from flows.reports import read_report

EVERY_SECONDS = 1.0
"""Between two looks, which are a few requests each."""

OPEN = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED)

MOST = 2_000
"""Tasks of a queue that are watched, the newest; twice what may wait by default."""

REMEMBERED = 5
"""Tasks that a view of the queue shows after their end."""


@dataclass(frozen=True)
class Change:
    """A task that is new, or in another state or queue than before (`previous`, None for a new one)."""

    task: QueuedTask
    previous: str | None


@dataclass(frozen=True)
class Away:
    """The server does not answer, for this reason; it is asked again until it does."""

    reason: str


@dataclass(frozen=True)
class Back:
    """The server answers again."""


type Event = Change | FlowRun | Log | TaskReport | Away | Back


class Watch(Protocol):
    """What `looks` asks; `done` once nothing new can come."""

    done: bool

    async def look(self, client: PrefectClient) -> Sequence[Event]:
        """Return what is new since the last look."""
        ...


async def looks(
    connect: Callable[[], AbstractAsyncContextManager[PrefectClient]], watch: Watch, every: float = EVERY_SECONDS
) -> AsyncGenerator[Sequence[Event]]:
    """Yield what each look finds new, until the watch is done; the first one has to find the server there.

    Each connection is looked for anew, since a stack that starts again has another address and password. Raises
    ServiceUnreachable before the first look, and whatever the watch raises of its own.
    """
    seen = away = False
    while not watch.done:
        try:
            async with connect() as client:
                while not watch.done:
                    events = await watch.look(client)
                    yield [Back(), *events] if away else events
                    seen, away = True, False
                    await asyncio.sleep(0 if watch.done else every)
        except ServiceUnreachable as error:
            if not seen:
                raise
            if not away:
                yield [Away(str(error))]
            away = True
            await asyncio.sleep(every)


class TaskWatch:
    """Tasks by id or name, until all have ended: their states and log lines, and each one's report at its end."""

    def __init__(self, tasks: Sequence[str]) -> None:
        self.done = False
        self.several = len(tasks) > 1
        self.reports: dict[str, TaskReport] = {}
        self.now: dict[str, FlowRun] = {}
        self._tasks = tasks
        self._followers: dict[str, Follower] = {}

    async def look(self, client: PrefectClient) -> Sequence[Event]:
        """Return new states and log lines of every task; raise InvalidInput for a task that there is not."""
        found: list[Event] = []
        for task in self._tasks:
            if task not in self.reports:
                found += await self._look_at(task, client)
        self.done = len(self.reports) == len(self._tasks)
        return found

    async def _look_at(self, task: str, client: PrefectClient) -> list[Event]:
        if task not in self._followers:
            self._followers[task] = Follower((await TaskQueue(client).find(task)).id)
        follower = self._followers[task]
        try:
            found: list[Event] = [*await follower.look(client)]
        except ObjectNotFound:
            raise InvalidInput("task", task, "a task that is not deleted while it is watched") from None
        for item in found:
            if isinstance(item, FlowRun):
                self.now[task] = item
        if follower.done and self.now[task].state_name == MOVED:
            del self._followers[task]  # the next look follows it to its other queue
        elif follower.done:
            self.reports[task] = await read_report(client, self.now[task])
            found.append(self.reports[task])
        return found


class QueueWatch:
    """The tasks of the queue that have not ended, and the last ones that have."""

    several = True

    def __init__(self) -> None:
        self.done = False
        self.tasks: Mapping[str, QueuedTask] = {}
        self.ended: Sequence[QueuedTask] = ()

    async def look(self, client: PrefectClient) -> Sequence[Event]:
        """Return what is new, has changed or has ended since the last look."""
        now = {each.flow_run_id: each for each in await TaskQueue(client).list(types=OPEN, limit=MOST)}
        gone = [each for name in self.tasks if name not in now if (each := await _read(client, name))]
        found = changes(self.tasks, now | {each.flow_run_id: each for each in gone})
        self.tasks = now
        self.ended = (*self.ended, *(each for each in gone if each.state != MOVED))[-REMEMBERED:]
        return found


def changes(before: Mapping[str, QueuedTask], now: Mapping[str, QueuedTask]) -> list[Change]:
    """Return the tasks that are new or in another state than before, the ones first that have been so for longest."""
    found = [
        Change(task, before[name].state if name in before else None)
        for name, task in now.items()
        if name not in before or (task.state, task.state_since) != (before[name].state, before[name].state_since)
    ]
    return sorted(found, key=lambda change: str(change.task.state_since))


def event_document(event: Event) -> dict[str, Any]:
    """Return an event as one line of JSON tells it."""
    match event:
        case Change(task=task):
            return _state(task, event.previous)
        case FlowRun():
            return _state(listed(event), None)
        case Log():
            about = {"at": event.timestamp, "flow_run_id": str(event.flow_run_id)}
            return {"event": "log", **about, "level": event.level, "message": event.message}
        case TaskReport():
            return {"event": "report", "flow_run_id": event.flow_run_id, "report": event.model_dump(mode="json")}
        case Away():
            return {"event": "away", "reason": event.reason}
        case Back():
            return {"event": "back"}


def _state(task: QueuedTask, previous: str | None) -> dict[str, Any]:
    return {
        "event": "state",
        "at": task.state_since,
        "flow_run_id": task.flow_run_id,
        "title": task.title,
        "priority": task.priority,
        "state": task.state,
        "previous": previous,
    }


async def _read(client: PrefectClient, flow_run_id: str) -> QueuedTask | None:
    try:
        return listed(await client.read_flow_run(UUID(flow_run_id)))
    except ObjectNotFound:
        return None
