"""The commands about the queue, against a real server where nobody works."""

import asyncio
import json
import re
import sys
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from builders import make_attempt
from prefect.states import Completed, Failed, Paused, Pending, Running, Scheduled
from prefect_stack import PrefectStack
from queues import empty_queue, make_repository, make_task

from deployments.queue_stats import QueueStats, expected_waits, read_stats
from deployments.stack import Connection
from deployments.task_queue import TaskQueue
from deployments.up import tend_queue
from devtasks import cli, cli_queue
from devtasks.config import OpenHandsConfig
from devtasks.ledger import Ledger
from devtasks.ledger.quota import Arrived
from devtasks.openrouter.account import fingerprint
from devtasks.quota import tasks_within
from devtasks.spool import Spool, read_task
from devtasks.task import TaskPriority

type Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def connected(server: PrefectStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[PrefectStack]:
    """An empty queue, which this process's clients find."""

    async def clear() -> None:
        async with empty_queue(server):
            pass

    asyncio.run(clear())
    monkeypatch.setenv("PREFECT_API_URL", server.url)
    monkeypatch.setenv("DEVTASKS_HOME", str(tmp_path / "devtasks"))
    with Connection(server.url, server.auth).settings():
        yield server


@pytest.fixture
def devtasks(connected: PrefectStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["devtasks", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        # A console breaks no line that it prints softly wrapped.
        return int(str(end.value.code)), printed.out, printed.err

    return run


def submit_words(repository: Path, description: str) -> tuple[str, ...]:
    return (
        *("submit-task", "--category", "unit_test", "--description", description),
        *("--target-file", "shop.py", "--repository", str(repository)),
    )


def test_task_is_submitted_listed_moved_cancelled_and_retried(devtasks: Command, repository: Path) -> None:
    words = submit_words(repository, "Test the price.")
    code, submitted, _ = devtasks(*words, "--priority", "low")
    assert code == 0
    task = submitted.strip()

    code, again, said = devtasks(*words)
    assert (code, again.strip()) == (0, task)
    assert "--force submits it again" in said

    code, moved, _ = devtasks("set-priority", task, "high")
    assert (code, moved.strip() != task) == (0, True)

    code, listed, _ = devtasks("list", "--json", "--state", "Scheduled")
    (only,) = json.loads(listed)
    assert (code, only["flow_run_id"], only["priority"], only["title"]) == (
        0,
        moved.strip(),
        "high",
        "unit_test shop.py",
    )

    assert devtasks("cancel", task)[0] == 0
    assert json.loads(devtasks("get-status", task, "--json")[1])["outcome"] == "cancelled"
    code, retried, _ = devtasks("retry", task)
    assert (code, retried.strip() in {task, moved.strip()}) == (0, False)
    assert devtasks("retry", task)[1] == retried
    assert re.search(rf"{retried.strip()} +high +Scheduled", devtasks("list")[1])


def test_every_answer_about_a_task_is_the_same_document(devtasks: Command, repository: Path) -> None:
    task = devtasks(*submit_words(repository, "Test it for a machine."), "--priority", "low")[1].strip()

    def ask(*words: str) -> dict[str, str]:
        code, printed, _ = devtasks(*words, "--json")
        assert code == 0
        return json.loads(printed)

    moved = ask("set-priority", task, "high")
    assert (moved["priority"], moved["state_type"], moved["title"]) == ("high", "SCHEDULED", "unit_test shop.py")
    cancelled = ask("cancel", task)
    assert (cancelled["flow_run_id"], cancelled["state"]) == (moved["flow_run_id"], "Cancelled")
    retried = ask("retry", task)
    assert (retried["priority"], retried["state"]) == ("high", "Scheduled")
    assert set(retried) == set(moved) == set(cancelled)


def test_forced_task_is_another(devtasks: Command, repository: Path) -> None:
    words = submit_words(repository, "Test the price once more.")
    first = devtasks(*words)[1].strip()
    assert devtasks(*words, "--force")[1].strip() != first
    key = ("--idempotency-key", "pull-request-7")
    assert devtasks(*words, *key)[1] == devtasks(*submit_words(repository, "Test it all."), *key)[1]


def test_full_queue_is_one_line_on_standard_error(
    devtasks: Command, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVTASKS_QUEUE_MAX_SIZE", "1")
    assert devtasks(*submit_words(repository, "First."))[0] == 0
    code, printed, said = devtasks(*submit_words(repository, "Second."))
    assert (code, printed) == (1, "")
    assert said.startswith("devtasks: the queue is full: 1 tasks wait, and 1 may")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("list", "--limit", "0"), "--limit"),
        (("list", "--priority", "urgent"), "critical"),
        (("set-priority", "nobody", "high"), "the id or the name of a flow run"),
        (("retry", "nobody"), "the id or the name of a flow run"),
        (("cancel", "nobody"), "the id or the name of a flow run"),
    ],
    ids=" ".join,
)
def test_mistake_is_told_and_exits_with_2(devtasks: Command, words: tuple[str, ...], message: str) -> None:
    code, printed, said = devtasks(*words)
    assert code == 2
    assert message in printed + said


def test_stats_count_by_what_tasks_wait_for(connected: PrefectStack, repository: Path, tmp_path: Path) -> None:
    config = OpenHandsConfig.model_validate({"OPENROUTER_API_KEY": "sk-or-simulated"})
    assert config.api_key

    async def ask() -> QueueStats:
        async with connected.client() as client, Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
            queue = TaskQueue(client, 7)
            later = Scheduled(name="AwaitingQuota", scheduled_time=datetime.now(UTC) + timedelta(hours=3))
            for priority, *states in (
                ("low",),
                ("low",),
                ("high",),
                ("high", Pending(), Running(), later),
                ("normal", Pending(), Running()),
                ("normal", Pending(), Running()),
                ("normal", Running(), Paused(name="NeedsReview")),
                ("normal", Running(), Completed(name="Accepted")),
                ("normal", Running(), Failed(name="Rejected")),
            ):
                entered = await queue.enqueue(make_task(repository, priority=priority))
                for state in states:
                    await client.set_flow_run_state(entered.flow_run.id, state, force=True)
            account = fingerprint(config.base_url, config.api_key) if config.api_key else ""
            nothing = await ledger.arrived_today(account)
            await ledger.correct_quota(account, limit=50, used=20, arrived=Arrived(nothing.day, 0))
            for number, calls in enumerate((4, 8)):
                await ledger.record_attempt(
                    make_attempt(task_id=f"t{number}", flow_run_id=f"t{number}", llm_calls=calls)
                )
            return await read_stats(queue, ledger, config)

    stats = asyncio.run(ask())
    assert stats.waiting == {"critical": 0, "high": 1, "normal": 0, "low": 2}
    assert (stats.running, stats.awaiting_quota, stats.needs_review, stats.max_size) == (2, 1, 1, 7)
    assert stats.mean_task_seconds is not None
    assert stats.expected_wait_seconds == expected_waits(stats.waiting, 2, stats.mean_task_seconds)
    assert (stats.quota_used, stats.quota_limit, stats.calls_per_task, stats.tasks_today) == (20, 50, 6.0, 5)


def test_stats_of_an_empty_queue_forecast_nothing(devtasks: Command) -> None:
    code, printed, _ = devtasks("queue-stats", "--json")
    stats = json.loads(printed)
    assert code == 0
    assert stats["waiting"] == dict.fromkeys(TaskPriority, 0)
    assert stats["workers"] == 0
    assert (stats["mean_task_seconds"], stats["tasks_today"], stats["max_size"]) == (None, None, 1000)
    assert set(stats["expected_wait_seconds"].values()) == {None}
    code, printed, _ = devtasks("queue-stats")
    assert code == 0
    assert "0 of at most 1000 wait" in printed
    assert "no worker polls the queues" in printed
    assert "no task has ended yet" in printed


def test_wait_grows_with_all_that_is_served_before() -> None:
    waiting = {"critical": 1, "high": 0, "low": 4}
    assert expected_waits(waiting, 2, 60.0) == {"critical": 30.0, "high": 30.0, "low": 150.0}
    assert expected_waits(waiting, 0, 60.0) == {"critical": 60.0, "high": 60.0, "low": 300.0}
    assert set(expected_waits(waiting, 2, None).values()) == {None}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"workers": 1}, "critical  0        when a worker is free", id="free"),
        pytest.param({"expected_wait_seconds": dict.fromkeys(TaskPriority, 90.0)}, "in about 2 min", id="minutes"),
        pytest.param({"expected_wait_seconds": dict.fromkeys(TaskPriority, 9000.0)}, "in about 2.5 h", id="hours"),
        pytest.param(
            {"waiting": dict.fromkeys(TaskPriority, 2), "awaiting_quota": 3}, "11 of at most 11 wait", id="full"
        ),
        pytest.param({"quota_limit": 50, "quota_used": 20}, "20 of 50 used\n", id="no task yet"),
        pytest.param({"quota_limit": 50, "quota_used": 50, "tasks_today": 0}, "about 0 more tasks", id="used up"),
    ],
)
def test_stats_are_told_in_words(changes: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    values: dict[str, Any] = {
        "waiting": dict.fromkeys(TaskPriority, 0),
        "workers": 0,
        "running": 0,
        "awaiting_quota": 0,
        "needs_review": 0,
        "max_size": 11,
        "mean_task_seconds": 60.0,
        "expected_wait_seconds": dict.fromkeys(TaskPriority, 0.0),
        "quota_used": 0,
        "quota_limit": None,
        "calls_per_task": None,
        "tasks_today": None,
    }
    cli_queue.print_stats(QueueStats(**values | changes))
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("used", "limit", "calls", "tasks"),
    [
        (20, 50, 6.0, 5),
        (49, 50, 6.0, 0),
        (70, 50, 6.0, 0),
        (0, None, 6.0, None),
        (0, 50, None, None),
        (0, 50, 0.0, None),
    ],
)
def test_quota_holds_whole_tasks(used: int, limit: int | None, calls: float | None, tasks: int | None) -> None:
    assert tasks_within(used, limit, calls) == tasks


def test_stack_lifts_what_waits_too_long_and_survives_a_server_that_is_away(
    connected: PrefectStack, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.up.TEND_SECONDS", 0.05)
    config = OpenHandsConfig.model_validate({"DEVTASKS_LIFT_AFTER_HOURS": 1e-9})
    said: list[str] = []

    async def wait_for(text: str) -> None:
        while not any(text in each for each in said):
            await asyncio.sleep(0.05)

    async def run() -> TaskPriority:
        async with connected.client() as client:
            queue = TaskQueue(client)
            task = str((await queue.enqueue(make_task(repository, priority="low"))).flow_run.id)
            with Connection("http://127.0.0.1:9/api", None).settings():
                tending = asyncio.create_task(tend_queue(config, said.append, owns_pool=False))
            await asyncio.wait_for(wait_for("could not be tended"), 60)
            tending.cancel()
            tending = asyncio.create_task(tend_queue(config, said.append, owns_pool=False))
            await asyncio.wait_for(wait_for("lifted unit_test shop.py to normal"), 60)
            tending.cancel()
            (found,) = await queue.list(states=["Scheduled"])
            assert found.flow_run_id == str((await queue.find(task)).id)
            return TaskPriority(found.priority)

    assert asyncio.run(run()) is TaskPriority.NORMAL


def test_what_the_hook_has_kept_is_submitted_once_and_what_can_never_be_is_laid_aside(
    devtasks: Command, tmp_path: Path
) -> None:
    repository = make_repository(tmp_path)
    spool = Spool.of(repository)
    good = make_task(repository, priority="low")
    assert read_task(spool.put(good)) == good
    assert spool.put(good) == spool.put(good), "the same task is kept once"
    bad = spool.put(make_task(repository, target_file="gone.py"))
    (spool.folder / "half.json").write_text('{"category": "unit_')
    words = ("submit-spooled", "--repository", str(repository), "--json")
    code, printed, _ = devtasks(*words)
    by_title = {each["title"]: each for each in json.loads(printed)}
    assert code == 1
    assert by_title["unit_test shop.py"]["flow_run_id"]
    assert "gone.py" in by_title["unit_test gone.py"]["refused"]
    assert "a file that holds a task as JSON" in by_title["half.json"]["refused"]
    assert {each.name for each in (spool.folder / "refused").iterdir()} == {bad.name, "half.json"}
    spool.put(good)
    assert devtasks(*words)[:2] == (0, json.dumps([by_title["unit_test shop.py"]], indent=2) + "\n")
    assert devtasks(*words)[:2] == (0, "[]\n")


def test_a_full_queue_keeps_what_it_does_not_take(
    devtasks: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVTASKS_QUEUE_MAX_SIZE", "1")
    repository = make_repository(tmp_path)
    spool = Spool.of(repository)
    for _ in range(2):
        spool.put(make_task(repository))
    code, _, said = devtasks("submit-spooled", "--repository", str(repository))
    assert (code, "the queue is full" in said, len(list(spool.files()))) == (1, True, 1)
