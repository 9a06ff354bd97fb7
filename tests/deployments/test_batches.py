"""Batches over a real Prefect server; no worker runs, so the looks are taken, and the tasks end, by hand."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from builders import make_attempt, make_call
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import Pause
from prefect.logging import disable_run_logger
from prefect.states import Cancelling, Completed, Failed, Pending, Running
from prefect_stack import PrefectStack
from queues import empty_queue, make_task

from deployments.batches import Batches
from deployments.setup import POOL
from deployments.stack import Connection
from devtasks.batch.order import BatchLimits, BatchOrder
from devtasks.batch.rendering import FILES
from devtasks.errors import InvalidInput
from devtasks.ledger import Ledger
from devtasks.recovery import FailureKind
from devtasks.report import TaskReport
from devtasks.run_folder import RunFolder
from flows.admission import Admission
from flows.batch import Look
from flows.batch_artifacts import PROGRESS, SUMMARY
from flows.batch_tasks import BatchTasks
from flows.giving_back import AWAITING_TASKS
from tasks.deliver_result import REPORT_KEY

ACCEPTED = Completed(name="Accepted")
REJECTED = Failed(name="Rejected")


@dataclass
class Table:
    """A server with the batch's deployment, a ledger, a folder: what looks are taken with."""

    client: PrefectClient
    ledger: Ledger
    root: Path
    repository: Path
    max_size: int = 100

    @property
    def batches(self) -> Batches:
        return Batches(self.client)

    def order(self, *names: str, **changes: Any) -> BatchOrder:
        tasks = tuple(make_task(self.repository, task_id=name) for name in names)
        return BatchOrder.parse(**{"name": f"night {uuid4()}", "tasks": tasks} | changes)

    async def look(self, batch: FlowRun) -> State[Any] | None:
        """Take one look as a worker's process would; None where the batch goes on later."""
        for state in (Pending(), Running()):
            await self.client.set_flow_run_state(batch.id, state, force=True)
        look = Look(
            Admission(self.client, self.max_size), self.ledger, RunFolder.claim(self.root, str(batch.id)), batch.id
        )
        try:
            with disable_run_logger():
                end = await look.take()
        except Pause:
            return None
        await self.client.set_flow_run_state(batch.id, end, force=True)
        return end

    async def tasks(self, batch: FlowRun) -> BatchTasks:
        return await BatchTasks.read(Admission(self.client), await self.client.read_flow_run(batch.id))

    async def standings(self, batch: FlowRun) -> dict[str, str]:
        tasks = await self.tasks(batch)
        return {task.task_id: str(tasks.standing(task)) for task in tasks.order.tasks}

    async def end(self, batch: FlowRun, name: str, state: State[Any], failure: str | None = None) -> None:
        """Have a task end as its worker would, with its report."""
        flow_run = (await self.tasks(batch)).flow_runs[name]
        attempt = make_attempt(
            flow_run_id=str(flow_run.id), failure=failure, outcome="rejected" if failure else "accepted", cost_usd=0.5
        )
        report = TaskReport(
            task_id=str(flow_run.id),
            flow_run_id=str(flow_run.id),
            title=flow_run.name,
            state=state.name or "",
            outcome=(state.name or "").lower(),
            reason="so it is",
            repository=str(self.repository),
            attempts=(attempt,),
        )
        await self.client.create_artifact(
            ArtifactCreate(key=REPORT_KEY, type="json", data=report.model_dump_json(), flow_run_id=flow_run.id)
        )
        await self.ledger.record_calls([make_call(flow_run_id=str(flow_run.id), cost_usd=0.5)])
        for each in (Pending(), Running(), state):
            await self.client.set_flow_run_state(flow_run.id, each, force=True)


WRITING = ("update_flow_run_labels", "create_flow_run_from_deployment", "create_artifact", "set_flow_run_state")


class Killed(BaseException):
    """A process ends here."""


@dataclass
class Dying:
    """A client whose process is killed after it has written so many times."""

    client: PrefectClient
    writes: int

    def __getattr__(self, name: str) -> Any:
        do = getattr(self.client, name)
        if name not in WRITING:
            return do

        async def write(*arguments: Any, **options: Any) -> Any:
            answer = await do(*arguments, **options)
            self.writes -= 1
            if self.writes == 0:
                raise Killed
            return answer

        return write


@pytest.fixture(scope="session")
def batch_server(server: PrefectStack) -> PrefectStack:
    async def deploy() -> None:
        async with server.client() as client:
            flow_id = await client.create_flow_from_name("batch")
            await client.create_deployment(
                flow_id, "batch", entrypoint="flows:none", work_pool_name=POOL, work_queue_name="critical"
            )

    asyncio.run(deploy())
    return server


@pytest.fixture
def play(
    batch_server: PrefectStack, repository: Path, tmp_path: Path
) -> Callable[[Callable[[Table], Awaitable[None]]], None]:
    def run(body: Callable[[Table], Awaitable[None]]) -> None:
        async def main() -> None:
            async with (
                empty_queue(batch_server) as (client, _),
                Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger,
            ):
                await body(Table(client, ledger, tmp_path / "runs", repository))

        with Connection(batch_server.url, batch_server.auth).settings():
            asyncio.run(main())

    return run


type Play = Callable[[Callable[[Table], Awaitable[None]]], None]


def test_batch_submits_a_few_at_a_time_and_ends_when_all_have(play: Play) -> None:
    async def body(table: Table) -> None:
        batch = await table.batches.submit(table.order("a", "b", "c", limits=BatchLimits(in_flight=2)))
        assert await table.look(batch) is None
        assert await table.standings(batch) == {"a": "waiting", "b": "waiting", "c": "not submitted"}
        found = await table.client.read_flow_run(batch.id)
        assert found.state
        assert (found.state.type, found.state.name) == (StateType.SCHEDULED, AWAITING_TASKS)

        await table.end(batch, "a", ACCEPTED)
        assert await table.look(batch) is None
        assert await table.standings(batch) == {"a": "accepted", "b": "waiting", "c": "waiting"}
        progress = await table.batches.progress(batch)
        assert "1 of 3 tasks ended: 2 waiting, 1 accepted; 1 calls, $0.5000; about" in progress

        await table.end(batch, "b", REJECTED, "stuck")
        await table.end(batch, "c", ACCEPTED)
        end = await table.look(batch)
        assert end
        assert (end.type, end.name, end.message) == (StateType.COMPLETED, "Finished", "2 accepted, 1 rejected")
        folder = table.root / str(batch.id)
        assert {name for name in FILES.values() if (folder / name).is_file()} == set(FILES.values())
        written = json.loads((folder / "batch.json").read_text())
        assert (written["counts"], written["cost_usd"]) == ({"accepted": 2, "rejected": 1}, 1.5)
        assert {each.key for each in await table.client.read_artifacts()} >= {PROGRESS, SUMMARY}

    play(body)


def test_look_that_was_killed_at_any_step_loses_and_doubles_nothing(play: Play) -> None:
    async def body(table: Table) -> None:
        for writes in count(1):
            batch = await table.batches.submit(table.order("a", "b"))
            dying = Dying(table.client, writes)
            try:
                await replace(table, client=cast("PrefectClient", dying)).look(batch)
            except Killed:
                assert await table.look(batch) is None
                assert await table.standings(batch) == {"a": "waiting", "b": "waiting"}
            else:
                assert writes > len(WRITING)
                return
            ours = {each.id for each in await table.client.read_flow_runs() if each.name == "unit_test shop.py"}
            assert len(ours) == 2 * writes
            assert {each.id for each in (await table.tasks(batch)).own.values()} <= ours

    play(body)


def test_task_that_was_there_is_its_answer_and_costs_the_batch_nothing(play: Play) -> None:
    async def body(table: Table) -> None:
        first = await table.batches.submit(table.order("a", "b"))
        assert await table.look(first) is None
        await table.end(first, "a", ACCEPTED)
        again = (await table.tasks(first)).order.model_copy(update={"name": "again"})
        second = await table.batches.submit(again)
        assert await table.look(second) is None
        assert await table.standings(second) == {"a": "accepted", "b": "waiting"}
        assert (await table.tasks(second)).own == {}
        summary = await table.batches.summary(second)
        assert [(task.was_there, task.cost_usd) for task in summary.tasks] == [(True, 0.5), (True, 0.0)]
        assert summary.cost_usd == 0
        # Cancelled, the second leaves to the first what is the first's.
        await table.batches.cancel(await table.client.read_flow_run(second.id))
        assert await table.standings(first) == {"a": "accepted", "b": "waiting"}

    play(body)


def test_entry_that_cannot_be_submitted_is_refused_and_the_others_go_on(play: Play) -> None:
    async def body(table: Table) -> None:
        order = table.order("a", "b")
        gone = order.tasks[0].model_copy(update={"target_file": "gone.py"})
        batch = await table.batches.submit(order.model_copy(update={"tasks": (gone, order.tasks[1])}))
        assert await table.look(batch) is None
        await table.end(batch, "b", ACCEPTED)
        end = await table.look(batch)
        assert end
        assert end.message == "1 accepted, 1 refused"
        summary = await table.batches.summary(await table.client.read_flow_run(batch.id))
        assert "target_file: 'gone.py' is not allowed" in summary.tasks[0].reason
        assert not summary.all_accepted

    play(body)


def test_full_queue_is_waited_for(play: Play) -> None:
    async def body(table: Table) -> None:
        table.max_size = 1
        batch = await table.batches.submit(table.order("a", "b"))
        assert await table.look(batch) is None
        assert await table.look(batch) is None
        assert await table.standings(batch) == {"a": "waiting", "b": "not submitted"}
        await table.end(batch, "a", ACCEPTED)
        assert await table.look(batch) is None
        assert await table.standings(batch) == {"a": "accepted", "b": "waiting"}

    play(body)


def test_limit_stops_the_batch_and_resumed_with_another_it_goes_on(play: Play) -> None:
    async def body(table: Table) -> None:
        limits = BatchLimits(cost_usd=0.5, in_flight=2)
        batch = await table.batches.submit(table.order("a", "b", "c", limits=limits))
        assert await table.look(batch) is None
        submitted = (await table.tasks(batch)).flow_runs["a"].parameters
        assert (submitted["max_batch_cost_usd"], str(batch.id) in submitted["batch"]) == (0.5, True)
        await table.end(batch, "a", ACCEPTED)
        end = await table.look(batch)
        assert end
        assert (end.type, end.name) == (StateType.COMPLETED, "Stopped")
        assert end.message == "max_cost_usd 0.5 is met: $0.5000 spent; 1 not submitted, 1 accepted, 1 cancelled"

        resumed = await table.batches.resume(await table.client.read_flow_run(batch.id), cost_usd=5)
        assert await table.look(resumed) is None
        assert await table.standings(batch) == {"a": "accepted", "b": "waiting", "c": "waiting"}
        await table.end(batch, "b", ACCEPTED)
        await table.end(batch, "c", ACCEPTED)
        end = await table.look(batch)
        assert end
        assert (end.name, end.message) == ("Finished", "3 accepted")
        with pytest.raises(InvalidInput, match="this one is Finished"):
            await table.batches.resume(await table.client.read_flow_run(batch.id))

    play(body)


def test_cancelled_batch_leaves_nothing_waiting_and_can_be_resumed(play: Play) -> None:
    async def body(table: Table) -> None:
        batch = await table.batches.submit(table.order("a", "b"))
        assert await table.look(batch) is None
        await table.end(batch, "a", ACCEPTED)
        ended = await table.batches.cancel(await table.client.read_flow_run(batch.id))
        assert ended.state_type is StateType.CANCELLED
        assert await table.standings(batch) == {"a": "accepted", "b": "cancelled"}
        with pytest.raises(InvalidInput, match="a batch that has not ended"):
            await table.batches.cancel(ended)
        await table.batches.resume(ended)
        assert await table.look(batch) is None
        assert await table.standings(batch) == {"a": "accepted", "b": "waiting"}

    play(body)


def test_retry_makes_a_batch_of_what_was_not_accepted(play: Play) -> None:
    async def body(table: Table) -> None:
        batch = await table.batches.submit(table.order("a", "b", "c"))
        assert await table.look(batch) is None
        with pytest.raises(InvalidInput, match="a batch that has ended; this one is AwaitingTasks"):
            await table.batches.retry(await table.client.read_flow_run(batch.id))
        await table.end(batch, "a", ACCEPTED)
        await table.end(batch, "b", REJECTED, "stuck")
        await table.end(batch, "c", REJECTED, "day_limit")
        assert await table.look(batch)
        ended = await table.client.read_flow_run(batch.id)
        again = await table.batches.retry(ended)
        assert set(await table.standings(again)) == {"b", "c"}
        stuck = await table.batches.retry(ended, [FailureKind.STUCK])
        assert set(await table.standings(stuck)) == {"b"}
        assert await table.look(stuck) is None
        assert await table.standings(stuck) == {"b": "waiting"}
        with pytest.raises(InvalidInput, match="not accepted for payment"):
            await table.batches.retry(ended, [FailureKind.PAYMENT])
        listed = {each.batch_id: each for each in await table.batches.list(10)}
        assert (listed[str(batch.id)].state, listed[str(batch.id)].tasks) == ("Finished", 3)
        assert listed[str(batch.id)].progress.startswith("3 of 3 tasks ended: 1 accepted, 2 rejected")

    play(body)


def test_what_was_cancelled_in_the_ui_between_two_looks_comes_to_its_end(play: Play) -> None:
    async def body(table: Table) -> None:
        batch = await table.batches.submit(table.order("a", "b"))
        assert await table.look(batch) is None
        # As where a process of it has been: the server itself ends what never had one.
        await table.client.update_flow_run(batch.id, infrastructure_pid="host:1")
        await table.client.set_flow_run_state(batch.id, Cancelling(), force=True)
        assert await table.batches.finish_cancelling() == []
        (touched,) = await table.batches.finish_cancelling(timedelta())
        assert touched.id == batch.id
        assert await table.standings(batch) == {"a": "cancelled", "b": "cancelled"}
        assert await table.batches.finish_cancelling(timedelta()) == []

    play(body)
