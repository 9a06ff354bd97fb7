"""The queue over a real Prefect server; no worker runs, so what a worker would do is done by hand."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.states import Completed, Failed, Pending, Running, Scheduled
from prefect_stack import PrefectStack
from queues import commit, empty_queue, make_repository, make_task

from deployments import task_queue
from deployments.task_queue import MOVING, TaskQueue, is_moving
from devtasks.errors import InvalidInput, QueueFull
from devtasks.task import Delivery, TaskCategory, TaskLimits, TaskPriority
from flows.admission import MOVED, fingerprint, priority_of, task_of, task_parameters
from flows.development_task import development_task

ACCEPTED = Completed(name="Accepted")
REJECTED = Failed(name="Rejected")

type Body = Callable[[PrefectClient, TaskQueue], Awaitable[None]]


def play(server: PrefectStack, body: Body, max_size: int = 100) -> None:
    async def run() -> None:
        async with empty_queue(server, max_size) as (client, queue):
            await body(client, queue)

    asyncio.run(run())


async def end(client: PrefectClient, flow_run: FlowRun, state: State) -> None:
    for each in (Pending(), Running(), state):
        await client.set_flow_run_state(flow_run.id, each, force=True)


def test_task_waits_in_its_priority_with_what_was_asked(server: PrefectStack, repository: Path) -> None:
    task = make_task(repository, priority="high", limits={"attempts": 2})

    async def body(client: PrefectClient, queue: TaskQueue) -> None:
        entered = await queue.enqueue(task, credentials="team")
        found = await client.read_flow_run(entered.flow_run.id)
        assert entered.created
        assert found.name == "unit_test shop.py"
        assert priority_of(found) is TaskPriority.HIGH
        assert found.state
        assert found.state.is_scheduled()
        expected = {"description": task.description, "max_attempts": 2, "credentials": "team", "target_file": "shop.py"}
        assert expected.items() <= found.parameters.items()

    play(server, body)


def test_parameters_are_all_of_the_flows(repository: Path) -> None:
    task = make_task(repository, limits={"batch_cost_usd": 1}, batch="night")
    names = set(inspect.signature(development_task.fn).parameters)
    parameters = task_parameters(task)
    assert names - set(parameters) == {"credentials", "runtime_block", "github", "use_docker"}
    assert set(parameters) <= names
    assert (parameters["category"], parameters["batch"], parameters["model"]) == (TaskCategory.UNIT_TEST, "night", "")
    limits = TaskLimits(batch_cost_usd=1).model_dump()
    assert {name: parameters[f"max_{name}"] for name in limits} == limits


@pytest.mark.parametrize("state", [None, Pending(), Running(), Scheduled(name="AwaitingQuota"), ACCEPTED], ids=str)
def test_same_task_is_answered_with_the_one_there_is(
    server: PrefectStack, repository: Path, state: State | None
) -> None:
    task = make_task(repository)

    async def body(client: PrefectClient, queue: TaskQueue) -> None:
        first = await queue.enqueue(task)
        if state:
            await client.set_flow_run_state(first.flow_run.id, state, force=True)
        again = await queue.enqueue(task.model_copy(update={"priority": TaskPriority.CRITICAL, "batch": "night"}))
        assert not again.created
        assert again.flow_run.id == first.flow_run.id
        assert await client.count_flow_runs() == 1

    play(server, body)


@pytest.mark.parametrize(
    "change",
    [
        {"description": "Another."},
        {"delivery": Delivery.BRANCH},
        {"model": "acme/coder:free"},
        {"limits": TaskLimits(attempts=1)},
    ],
)
def test_task_that_asks_for_something_else_is_another(
    server: PrefectStack, repository: Path, change: dict[str, Any]
) -> None:
    task = make_task(repository)

    async def body(_: PrefectClient, queue: TaskQueue) -> None:
        first = await queue.enqueue(task)
        other = await queue.enqueue(task.model_copy(update=change))
        assert other.created
        assert other.flow_run.id != first.flow_run.id

    play(server, body)


def test_same_task_on_another_commit_is_another(server: PrefectStack, tmp_path: Path) -> None:
    task = make_task(make_repository(tmp_path))

    async def body(_: PrefectClient, queue: TaskQueue) -> None:
        first = await queue.enqueue(task)
        assert not (await queue.enqueue(task)).created
        commit(tmp_path)
        second = await queue.enqueue(task)
        assert second.created
        assert second.flow_run.id != first.flow_run.id

    play(server, body)


def test_failed_task_is_submitted_anew_each_time_it_fails(server: PrefectStack, repository: Path) -> None:
    task = make_task(repository)

    async def body(client: PrefectClient, queue: TaskQueue) -> None:
        seen = set[Any]()
        for _ in range(3):
            entered = await queue.enqueue(task)
            assert entered.created
            assert not (await queue.enqueue(task)).created
            seen.add(entered.flow_run.id)
            await end(client, entered.flow_run, REJECTED)
        assert len(seen) == 3

    play(server, body)


def test_forced_task_is_created_beside_the_one_there_is(server: PrefectStack, repository: Path) -> None:
    task = make_task(repository)

    async def body(_: PrefectClient, queue: TaskQueue) -> None:
        first = await queue.enqueue(task)
        second = await queue.enqueue(task, force=True)
        assert second.created
        assert second.flow_run.id != first.flow_run.id

    play(server, body)


def test_idempotency_key_is_answered_with_its_first_task(server: PrefectStack, repository: Path) -> None:
    async def body(client: PrefectClient, queue: TaskQueue) -> None:
        first = await queue.enqueue(make_task(repository), idempotency_key="pull-request-7")
        await end(client, first.flow_run, REJECTED)
        again = await queue.enqueue(make_task(repository), idempotency_key="pull-request-7")
        assert again.flow_run.id == first.flow_run.id
        assert not again.created
        assert (await queue.enqueue(make_task(repository), idempotency_key="pull-request-8")).created

    play(server, body)


def test_of_many_submitters_at_once_one_creates_the_task(server: PrefectStack, repository: Path) -> None:
    task = make_task(repository)

    async def body(client: PrefectClient, queue: TaskQueue) -> None:
        entered = await asyncio.gather(*(queue.enqueue(task) for _ in range(8)))
        assert [each.created for each in entered].count(True) == 1
        assert len({each.flow_run.id for each in entered}) == 1
        assert await client.count_flow_runs() == 1

    play(server, body)


def test_full_queue_refuses_and_takes_again_when_there_is_room(server: PrefectStack, repository: Path) -> None:
    async def body(client: PrefectClient, queue: TaskQueue) -> None:
        tasks = [make_task(repository) for _ in range(3)]
        first = await queue.enqueue(tasks[0])
        await queue.enqueue(tasks[1])
        with pytest.raises(QueueFull, match="2 tasks wait, and 2 may"):
            await queue.enqueue(tasks[2])
        assert await queue.waiting() == 2
        assert not (await queue.enqueue(tasks[1])).created
        await client.set_flow_run_state(first.flow_run.id, Running(), force=True)
        assert (await queue.enqueue(tasks[2])).created

    play(server, body, max_size=2)


def test_bad_bound_bad_repository_and_bad_priority_are_refused(server: PrefectStack, repository: Path) -> None:
    async def body(client: PrefectClient, queue: TaskQueue) -> None:
        with pytest.raises(InvalidInput, match="max_size: 0"):
            TaskQueue(client, 0)
        with pytest.raises(InvalidInput, match="target_file"):
            await queue.enqueue(make_task(repository, target_file="missing.py"))
        with pytest.raises(InvalidInput, match="the id or the name of a flow run"):
            await queue.cancel(str(uuid4()))
        assert await client.count_flow_runs() == 0

    play(server, body)


def test_waiting_task_moves_with_its_place_and_its_id_leads_on(server: PrefectStack, repository: Path) -> None:
    task = make_task(repository, priority="low")

    async def body(client: PrefectClient, queue: TaskQueue) -> None:
        old = (await queue.enqueue(task)).flow_run
        moved = await queue.move(str(old.id), TaskPriority.HIGH)
        assert priority_of(moved) is TaskPriority.HIGH
        assert (moved.parameters, moved.name) == (old.parameters, old.name)
        assert moved.expected_start_time == old.expected_start_time
        left = await client.read_flow_run(old.id)
        assert left.state
        assert (left.state.name, str(moved.id) in str(left.state.message)) == (MOVED, True)
        assert (await queue.find(str(old.id))).id == moved.id
        assert (await queue.get(str(old.id))).flow_run_id == str(moved.id)
        further = await queue.move(str(old.id), TaskPriority.CRITICAL)
        assert (await queue.find(str(old.id))).id == further.id
        again = await queue.enqueue(task)
        assert (again.created, again.flow_run.id) == (False, further.id)
        assert await queue.waiting() == 1

    play(server, body)


def test_move_to_where_it_waits_changes_nothing(server: PrefectStack, repository: Path) -> None:
    async def body(client: PrefectClient, queue: TaskQueue) -> None:
        old = (await queue.enqueue(make_task(repository))).flow_run
        assert (await queue.move(str(old.id), TaskPriority.NORMAL)).id == old.id
        assert await client.count_flow_runs() == 1

    play(server, body)


@pytest.mark.parametrize("state", [Pending(), Running(), ACCEPTED, REJECTED], ids=str)
def test_task_that_began_does_not_move(server: PrefectStack, repository: Path, state: State) -> None:
    async def body(client: PrefectClient, queue: TaskQueue) -> None:
        flow_run = (await queue.enqueue(make_task(repository))).flow_run
        await client.set_flow_run_state(flow_run.id, state, force=True)
        with pytest.raises(InvalidInput, match="a task that waits and has not begun"):
            await queue.move(str(flow_run.id), TaskPriority.HIGH)
        assert await client.count_flow_runs() == 1

    play(server, body)


def test_deferred_task_does_not_move_since_it_has_begun(server: PrefectStack, repository: Path) -> None:
    async def body(client: PrefectClient, queue: TaskQueue) -> None:
        flow_run = (await queue.enqueue(make_task(repository))).flow_run
        await end(client, flow_run, Scheduled(name="AwaitingQuota"))
        with pytest.raises(InvalidInput, match="this one is AwaitingQuota"):
            await queue.move(str(flow_run.id), TaskPriority.HIGH)

    play(server, body)


def test_of_a_worker_and_a_move_one_gets_the_task(
    server: PrefectStack, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(client: PrefectClient, queue: TaskQueue) -> None:
        flow_run = (await queue.enqueue(make_task(repository))).flow_run
        await client.set_flow_run_state(flow_run.id, Pending(message=MOVING))
        worker = await client.set_flow_run_state(flow_run.id, Pending())
        assert worker.status is SetStateStatus.ABORT

        other = (await queue.enqueue(make_task(repository))).flow_run
        stale = await queue.find(str(other.id))
        await client.set_flow_run_state(other.id, Pending())

        async def find(_: str) -> FlowRun:
            return stale

        monkeypatch.setattr(queue, "find", find)
        with pytest.raises(InvalidInput, match="a worker has just taken this one"):
            await queue.move(str(other.id), TaskPriority.HIGH)
        assert await client.count_flow_runs() == 2

    play(server, body)


@pytest.mark.parametrize("created", [False, True], ids=["before", "after"])
def test_move_that_was_broken_off_is_finished(
    server: PrefectStack, repository: Path, monkeypatch: pytest.MonkeyPatch, created: bool
) -> None:
    async def body(client: PrefectClient, queue: TaskQueue) -> None:
        flow_run = (await queue.enqueue(make_task(repository))).flow_run

        async def die(*_: Any, **__: Any) -> None:
            raise ConnectionError

        with monkeypatch.context() as patch:
            patch.setattr(queue, "_end_move" if created else "_create", die)
            with pytest.raises(ConnectionError):
                await queue.move(str(flow_run.id), TaskPriority.HIGH)
        assert is_moving(await client.read_flow_run(flow_run.id))
        assert await queue.finish_moves() == []

        monkeypatch.setattr(task_queue, "MOVE_SECONDS", 0.0)
        assert [each.id for each in await queue.finish_moves()] == [flow_run.id]
        found = await queue.find(str(flow_run.id))
        assert found.state
        assert found.state.is_scheduled()
        assert priority_of(found) is (TaskPriority.HIGH if created else TaskPriority.NORMAL)
        assert await queue.waiting() == 1
        assert await queue.finish_moves() == []

    play(server, body)


def test_low_task_is_lifted_once_it_has_waited_long_enough(server: PrefectStack, repository: Path) -> None:
    async def body(_: PrefectClient, queue: TaskQueue) -> None:
        low = (await queue.enqueue(make_task(repository, priority="low"))).flow_run
        younger = (await queue.enqueue(make_task(repository))).flow_run
        assert await queue.lift(timedelta(hours=1)) == []
        lifted = await queue.lift(timedelta(0))
        assert [each.id for each in lifted] == [(await queue.find(str(low.id))).id]
        assert priority_of(lifted[0]) is TaskPriority.NORMAL
        assert lifted[0].expected_start_time
        assert younger.expected_start_time
        assert lifted[0].expected_start_time < younger.expected_start_time

    play(server, body)


def test_cancelled_task_has_ended(server: PrefectStack, repository: Path) -> None:
    async def body(_: PrefectClient, queue: TaskQueue) -> None:
        flow_run = (await queue.enqueue(make_task(repository))).flow_run
        await queue.cancel(str(flow_run.id))
        assert (await queue.get(str(flow_run.id))).outcome == "cancelled"
        with pytest.raises(InvalidInput, match="a task that has not ended; this one is Cancelled"):
            await queue.cancel(str(flow_run.id))

    play(server, body)


def test_retry_submits_a_failed_task_once_each_time_it_fails(server: PrefectStack, repository: Path) -> None:
    task = make_task(repository, priority="low", limits={"cost_usd": None, "attempts": 2}, delivery="branch")

    async def body(client: PrefectClient, queue: TaskQueue) -> None:
        first = (await queue.enqueue(task, credentials="team")).flow_run
        await end(client, first, REJECTED)
        second = await queue.retry(str(first.id))
        assert second.created
        assert priority_of(second.flow_run) is TaskPriority.LOW
        assert (second.flow_run.parameters, second.flow_run.name) == (first.parameters, first.name)
        for same in (await queue.retry(str(first.id)), await queue.enqueue(task, credentials="team")):
            assert (same.created, same.flow_run.id) == (False, second.flow_run.id)
        await end(client, second.flow_run, REJECTED)
        third = await queue.retry(str(first.id))
        assert third.created
        assert third.flow_run.id not in {first.id, second.flow_run.id}
        await end(client, third.flow_run, ACCEPTED)
        assert (await queue.retry(str(first.id))).flow_run.id == third.flow_run.id

    play(server, body)


def test_task_is_read_back_from_its_flow_run(server: PrefectStack, repository: Path) -> None:
    task = make_task(repository, model="acme/coder:free", batch="night", limits={"cost_usd": None})

    async def body(_: PrefectClient, queue: TaskQueue) -> None:
        flow_run = (await queue.enqueue(task, use_docker=True)).flow_run
        found, others = task_of(flow_run)
        assert found == task.model_copy(update={"task_id": str(flow_run.id)})
        assert others == {"use_docker": True}

    play(server, body)


@pytest.mark.parametrize("state", [Running(), ACCEPTED], ids=str)
def test_task_that_runs_or_was_accepted_is_not_retried(server: PrefectStack, repository: Path, state: State) -> None:
    async def body(client: PrefectClient, queue: TaskQueue) -> None:
        flow_run = (await queue.enqueue(make_task(repository))).flow_run
        await client.set_flow_run_state(flow_run.id, state, force=True)
        with pytest.raises(InvalidInput, match=f"a task that ended without a result; this one is {state.name}"):
            await queue.retry(str(flow_run.id))

    play(server, body)


def test_list_has_the_newest_first_and_can_be_narrowed(server: PrefectStack, repository: Path) -> None:
    async def body(client: PrefectClient, queue: TaskQueue) -> None:
        started = datetime.now(UTC) - timedelta(seconds=5)
        runs = [
            (await queue.enqueue(make_task(repository, priority=priority))).flow_run
            for priority in ("low", "high", "low")
        ]
        await end(client, runs[1], REJECTED)
        listed = await queue.list()
        assert [each.flow_run_id for each in listed] == [str(each.id) for each in reversed(runs)]
        assert [each.flow_run_id for each in await queue.list(priority=TaskPriority.LOW, limit=1)] == [str(runs[2].id)]
        (rejected,) = await queue.list(states=["Rejected"])
        assert (rejected.title, rejected.priority, rejected.state) == ("unit_test shop.py", "high", "Rejected")
        assert rejected.submitted_at
        assert rejected.submitted_at > started
        assert rejected.ended_at

    play(server, body)


def test_fingerprint_is_of_the_work_alone() -> None:
    asked = {"description": "Test it.", "repository": "/r", "metadata": {"who": "me"}}
    assert fingerprint(asked) == fingerprint({"repository": "/r", "description": "Test it.", "batch": "night"})
    assert fingerprint(asked) != fingerprint(asked | {"description": "Test that."})


def test_task_that_gave_its_slot_back_is_cancelled_though_no_worker_has_it(
    server: PrefectStack, repository: Path
) -> None:
    async def body(client: PrefectClient, queue: TaskQueue) -> None:
        entered = (await queue.enqueue(make_task(repository))).flow_run
        await client.update_flow_run(entered.id, infrastructure_pid="host:1")
        await end(client, entered, Scheduled(name="AwaitingQuota"))
        await queue.cancel(str(entered.id))
        found = await client.read_flow_run(entered.id)
        assert found.state
        assert found.state.is_cancelled()

    play(server, body)
