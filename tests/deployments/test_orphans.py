"""Runs that are under way in nobody's hands are queued again, and no others."""

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Pending, Running
from prefect_stack import PrefectStack
from queues import empty_queue, make_task

from deployments.orphans import begun_elsewhere, requeue_lost
from devtasks.run_folder import RunFolder


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.orphans.SETTLED_SECONDS", 0.0)


def dead() -> int:
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def states_after(
    server: PrefectStack, repository: Path, before: list[tuple[State[Any], int | None]], **how: bool
) -> list[str | None]:
    """Bring a task into each of these states, with a process of this number noted; return the states after the look."""

    async def act() -> list[str | None]:
        async with empty_queue(server) as (client, queue):
            runs = [(await queue.enqueue(make_task(repository))).flow_run for _ in before]
            for flow_run, (state, pid) in zip(runs, before, strict=True):
                await client.set_flow_run_state(flow_run.id, Pending())
                await client.set_flow_run_state(flow_run.id, state)
                if pid:
                    await client.update_flow_run(flow_run.id, infrastructure_pid=str(pid))
            found = {each.id for each in await requeue_lost(client, **how)}
            after = [await client.read_flow_run(each.id) for each in runs]
            assert found == {each.id for each in after if each.state_name == "AwaitingRetry"}
            return [each.state_name for each in after]

    return asyncio.run(act())


def test_on_one_machine_what_has_no_process_any_more_is_queued_again(server: PrefectStack, repository: Path) -> None:
    before: list[tuple[State[Any], int | None]] = [
        (Running(), dead()),
        (Running(), os.getpid()),
        (Pending(), None),
        (Pending(), os.getpid()),
    ]
    after = states_after(server, repository, before, owns_pool=True)
    assert after == ["AwaitingRetry", "Running", "AwaitingRetry", "Pending"]


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, "AwaitingRetry"), (600.0, "Pending")])
def test_on_many_machines_what_was_taken_long_ago_and_never_started_is_queued_again(
    server: PrefectStack, repository: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, expected: str
) -> None:
    monkeypatch.setattr("deployments.orphans.PENDING_SECONDS", seconds)
    after = states_after(server, repository, [(Pending(), None), (Running(), dead())], owns_pool=False)
    assert after == [expected, "Running"]


def test_what_went_on_meanwhile_is_left_alone(
    server: PrefectStack, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act() -> str | None:
        async with empty_queue(server) as (client, queue):
            flow_run = (await queue.enqueue(make_task(repository))).flow_run
            await client.set_flow_run_state(flow_run.id, Pending())
            looked = PrefectClient.read_flow_runs

            async def and_then_it_starts(self: PrefectClient, **how: Any) -> list[FlowRun]:
                found = await looked(self, **how)
                await client.set_flow_run_state(flow_run.id, Running())
                return found

            monkeypatch.setattr(PrefectClient, "read_flow_runs", and_then_it_starts)
            assert not await requeue_lost(client, owns_pool=True)
            return (await client.read_flow_run(flow_run.id)).state_name

    assert asyncio.run(act()) == "Running"


@pytest.mark.parametrize(
    ("kind", "after", "elsewhere"),
    [
        pytest.param(StateType.RUNNING, timedelta(seconds=-1), False, id="this machine's own"),
        pytest.param(StateType.RUNNING, timedelta(seconds=90), False, id="the clocks differ"),
        pytest.param(StateType.RUNNING, timedelta(minutes=4), True, id="taken up by another machine"),
        pytest.param(StateType.CRASHED, timedelta(minutes=4), False, id="nobody's"),
        pytest.param(StateType.SCHEDULED, timedelta(hours=4), False, id="waiting"),
    ],
)
def test_a_run_that_another_machine_has_taken_up_since_is_left_to_it(
    kind: StateType, after: timedelta, elsewhere: bool, tmp_path: Path
) -> None:
    folder = RunFolder.claim(tmp_path, str(uuid4()))
    state = State(type=kind, timestamp=datetime.now(UTC) + after)
    assert begun_elsewhere(state, folder) is elsewhere


def test_a_run_without_a_state_is_nobody_s(tmp_path: Path) -> None:
    assert not begun_elsewhere(None, RunFolder.claim(tmp_path, str(uuid4())))
