"""Watching: what is told of changes, a server that goes away, and the terminal that is given back."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from harness import BIN, wait_for
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.states import Completed, Failed, Paused, Pending, Running
from prefect_stack import PrefectStack
from queues import empty_queue, make_task
from rich.console import Console

from deployments.client import Follower
from deployments.stack import Connection
from deployments.task_queue import QueuedTask, TaskQueue
from deployments.watch import Away, Back, Change, Event, QueueWatch, TaskWatch, Watch, changes, looks
from deployments.watch_view import groups, queue_table
from devtasks import cli
from devtasks.errors import ServiceUnreachable
from devtasks.report import TaskReport
from devtasks.task import TaskPriority
from tasks.deliver_result import REPORT_KEY

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)


def queued(name: str = "a", **others: Any) -> QueuedTask:
    values = {
        "flow_run_id": name,
        "title": f"title {name}",
        "priority": "normal",
        "state": "Scheduled",
        "state_type": "SCHEDULED",
        "state_since": NOW,
        "due_at": NOW - timedelta(minutes=1),
        "submitted_at": NOW,
        "started_at": None,
        "ended_at": None,
    }
    return QueuedTask(**values | others)


def shown(tasks: Sequence[QueuedTask], ended: Sequence[QueuedTask] = ()) -> str:
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(queue_table(tasks, ended, NOW))
    return console.export_text()


def test_changes_are_new_tasks_and_new_states_the_oldest_first() -> None:
    later = queued("b", state="Running", state_since=NOW + timedelta(seconds=5))
    retrying = queued("c", state_since=NOW + timedelta(seconds=1))
    before = {each.flow_run_id: each for each in (queued("a"), queued("b"), queued("c"))}
    now = {"a": queued("a"), "b": later, "c": retrying, "d": queued("d")}
    assert changes(before, now) == [
        Change(now["d"], None),
        Change(retrying, "Scheduled"),
        Change(later, "Scheduled"),
    ]


def test_tasks_are_grouped_by_what_they_wait_for_in_the_order_of_service() -> None:
    tasks = [
        queued("second"),
        queued("first", due_at=NOW - timedelta(hours=1)),
        queued("urgent", priority="critical"),
        queued("quota", state="AwaitingQuota", due_at=NOW + timedelta(hours=3)),
        queued("works", state="Running", state_type="RUNNING"),
        queued("asks", state="NeedsReview", state_type="PAUSED"),
    ]
    found = {name: [task.flow_run_id for task in members] for name, members in groups(tasks, NOW).items() if members}
    assert found == {
        "running": ["works"],
        "critical": ["urgent"],
        "normal": ["first", "second"],
        "waiting for a time": ["quota"],
        "waiting for a person": ["asks"],
    }
    assert [name for name in groups([], NOW) if name in set(TaskPriority)] == list(TaskPriority)


def test_view_of_a_queue_tells_of_an_empty_and_of_a_long_one() -> None:
    assert "nothing" in shown([])
    many = shown([queued(str(number)) for number in range(20)], [queued("z", state="Accepted", state_type="COMPLETED")])
    assert "… and 12 more" in many
    assert "Accepted" in many
    assert "until" in shown([queued(state="AwaitingQuota", due_at=NOW + timedelta(hours=3))])


class ThreeLooks:
    """A watch that is done after three looks."""

    def __init__(self) -> None:
        self.done = False
        self.looks = 0

    async def look(self, client: PrefectClient) -> Sequence[Event]:
        self.looks += 1
        self.done = self.looks == 3
        return []


def connecting(*away: bool) -> Callable[[], contextlib.AbstractAsyncContextManager[PrefectClient]]:
    """Connections that fail, or break after one look, or hold, in turn."""
    turns = iter(away)

    @contextlib.asynccontextmanager
    async def connect() -> AsyncGenerator[Any]:
        if next(turns, False):
            raise ServiceUnreachable("the server", "a", "gone")
        yield None

    return connect


async def gather(connect: Callable[[], Any], watch: Watch) -> list[list[Event]]:
    return [list(events) async for events in looks(connect, watch, every=0)]


def test_server_that_goes_away_is_told_once_and_waited_for() -> None:
    watch = ThreeLooks()
    breaks = iter([False, True, False, False])

    async def look(client: PrefectClient) -> Sequence[Event]:
        if next(breaks):
            raise ServiceUnreachable("the server", "a", "gone")
        return await ThreeLooks.look(watch, client)

    watch.look = look  # type: ignore[method-assign]
    away = Away("the server at a cannot be reached: gone")
    told = asyncio.run(gather(connecting(False, True, True), watch))
    assert told == [[], [away], [Back()], []]


def test_server_that_is_not_there_at_first_is_an_error() -> None:
    with pytest.raises(ServiceUnreachable):
        asyncio.run(gather(connecting(True), ThreeLooks()))


def test_state_is_told_again_where_the_log_could_not_be_read() -> None:
    state = SimpleNamespace(is_final=lambda: False)
    run = SimpleNamespace(state=state, state_id=uuid4())
    answers = iter([OSError("gone"), []])

    class Client:
        async def read_flow_run(self, _: object) -> Any:
            return run

        async def read_logs(self, *_: object, **__: object) -> Any:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

    async def follow() -> list[Any]:
        follower, client = Follower(uuid4()), Client()
        with contextlib.suppress(OSError):
            await follower.look(client)  # type: ignore[arg-type]
        return list(await follower.look(client))  # type: ignore[arg-type]

    assert asyncio.run(follow()) == [run]


@pytest.fixture
def connected(server: PrefectStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[PrefectStack]:
    monkeypatch.setenv("PREFECT_API_URL", server.url)
    monkeypatch.setenv("DEVTASKS_HOME", str(tmp_path / "devtasks"))
    with Connection(server.url, server.auth).settings():
        yield server


def test_queue_is_watched_from_the_submission_to_the_end(connected: PrefectStack, repository: Path) -> None:
    async def watch() -> list[tuple[str, str | None]]:
        async with empty_queue(connected) as (client, queue):
            watching, told = QueueWatch(), list[Event]()
            told += await watching.look(client)
            task = (await queue.enqueue(make_task(repository))).flow_run.id
            for state in (None, Running(), Paused(name="NeedsReview"), Completed(name="Approved")):
                if state:
                    await client.set_flow_run_state(task, state, force=True)
                told += await watching.look(client)
            assert [each.state for each in watching.ended] == ["Approved"]
            assert watching.tasks == {}
            return [(each.task.state, each.previous) for each in told if isinstance(each, Change)]

    assert asyncio.run(watch()) == [
        ("Scheduled", None),
        ("Running", "Scheduled"),
        ("NeedsReview", "Running"),
        ("Approved", "NeedsReview"),
    ]


def test_task_is_watched_into_the_queue_it_was_moved_to(connected: PrefectStack, repository: Path) -> None:
    async def watch() -> list[str]:
        async with empty_queue(connected) as (client, queue):
            task = str((await queue.enqueue(make_task(repository, priority="low"))).flow_run.id)
            watching, names = TaskWatch([task]), list[str]()
            await watching.look(client)
            moved = await queue.move(task, TaskPriority.HIGH)
            await client.set_flow_run_state(moved.id, Failed(name="Rejected"), force=True)
            while not watching.done:
                names += [each.outcome for each in await watching.look(client) if isinstance(each, TaskReport)]
            return names

    assert asyncio.run(watch()) == ["failed"]


async def end_accepted(client: PrefectClient, queue: TaskQueue, repository: Path) -> str:
    flow_run = (await queue.enqueue(make_task(repository))).flow_run
    values = {name: "x" for name in ("task_id", "title", "reason", "repository")}
    report = TaskReport(flow_run_id=str(flow_run.id), state="Accepted", outcome="accepted", **values)
    artifact = ArtifactCreate(key=REPORT_KEY, type="markdown", data=report.model_dump_json(), flow_run_id=flow_run.id)
    await client.create_artifact(artifact)
    for state in (Pending(), Running(), Completed(name="Accepted")):
        await client.set_flow_run_state(flow_run.id, state, force=True)
    return str(flow_run.id)


def test_exit_code_is_that_of_the_tasks_and_each_event_a_line_of_json(
    connected: PrefectStack, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def submit() -> tuple[str, str]:
        async with empty_queue(connected) as (client, queue):
            accepted = await end_accepted(client, queue, repository)
            return accepted, str((await queue.enqueue(make_task(repository))).flow_run.id)

    accepted, waiting = asyncio.run(submit())

    def devtasks(*words: str) -> tuple[int, list[dict[str, Any]]]:
        monkeypatch.setattr(sys, "argv", ["devtasks", "watch", "--json", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(str(end.value.code)), [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    code, lines = devtasks(accepted)
    assert (code, [line["event"] for line in lines]) == (0, ["state", "report"])
    assert (lines[0]["state"], lines[1]["report"]["outcome"]) == ("Accepted", "accepted")
    code, lines = devtasks(accepted, waiting, "--seconds", "15")
    assert (code, {line["flow_run_id"] for line in lines}) == (1, {accepted, waiting})
    code, lines = devtasks("--seconds", "2")
    assert (code, [line["flow_run_id"] for line in lines]) == (0, [waiting])
    assert devtasks("nobody") == (2, [])


def test_interrupted_view_gives_the_terminal_back(connected: PrefectStack) -> None:
    ours, theirs = pty.openpty()
    variables = connected.variables | {"TERM": "xterm", "DEVTASKS_HOME": os.environ["DEVTASKS_HOME"]}
    process = subprocess.Popen([BIN / "devtasks", "watch"], stdin=theirs, stdout=theirs, stderr=theirs, env=variables)
    os.close(theirs)
    os.set_blocking(ours, False)
    seen = bytearray()

    def read() -> bytes:
        with contextlib.suppress(OSError):
            seen.extend(os.read(ours, 65_536))
        return bytes(seen)

    try:
        wait_for(lambda: b"title" in read(), 90, "the view is drawn")
        assert b"\x1b[?25l" in seen, "the cursor is hidden"
        process.send_signal(signal.SIGINT)
        wait_for(lambda: b"\x1b[?25h" in read(), 30, "the cursor is shown again")
        assert process.wait(30) == 130
        assert b"Traceback" not in read()
    finally:
        process.kill()
        process.wait()
        os.close(ours)
