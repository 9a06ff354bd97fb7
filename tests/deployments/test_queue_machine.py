"""Any course of submitting, moving, cancelling, working and dying leaves each task in one place, known by its id."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.states import Cancelled, Completed, Failed, Pending, Running, Scheduled
from prefect_stack import PrefectStack
from queues import make_task

from deployments.task_queue import TaskQueue
from devtasks.errors import InvalidInput, QueueFull
from devtasks.task import DevTask, TaskPriority
from flows.admission import MOVED, priority_of
from flows.taking_up import take_up

TASKS = 3
MAX_SIZE = 2
WORKERS = 2

priorities = st.sampled_from(list(TaskPriority))
numbers = st.integers(0, TASKS - 1)


class Died(Exception):
    """The process that moved a task is gone."""


class Machine(RuleBasedStateMachine):
    """A queue with two workers that take what comes first, and what is known of its tasks."""

    server: PrefectStack
    repository: Path
    submitted = Bundle("submitted")

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.client: PrefectClient = self.do(self.server.client().__aenter__())
        for flow_run in self.do(self.client.read_flow_runs()):
            self.do(self.client.delete_flow_run(flow_run.id))
        self.queue = TaskQueue(self.client, MAX_SIZE)
        self.tasks: list[DevTask] = [make_task(self.repository) for _ in range(TASKS)]
        self.of: dict[str, int] = {}
        """Each id that somebody was given, and the number of the task it is for."""
        self.at_work: list[UUID] = []

    def teardown(self) -> None:
        self.do(self.client.__aexit__(None, None, None))
        self.loop.close()

    def do[T](self, asked: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asked)

    def find(self, task: str) -> FlowRun:
        return self.do(self.queue.find(task))

    def set_state(self, flow_run_id: UUID, state: State) -> bool:
        return self.do(self.client.set_flow_run_state(flow_run_id, state)).status is SetStateStatus.ACCEPT

    @rule(target=submitted, number=numbers, priority=priorities)
    def submit(self, number: int, priority: TaskPriority) -> str:
        before = self.of_task(number)
        waiting = self.do(self.queue.waiting())
        task = self.tasks[number].model_copy(update={"priority": priority})
        try:
            entered = self.do(self.queue.enqueue(task))
        except QueueFull:
            assert waiting >= MAX_SIZE
            assert not any(alive_or_accepted(each) for each in before)
            # Some id is the answer to the rule; one that nobody was given leads nowhere.
            return ""
        there = [each.id for each in before if alive_or_accepted(each)]
        assert entered.created is not bool(there)
        assert entered.created or entered.flow_run.id in there
        self.of[str(entered.flow_run.id)] = number
        return str(entered.flow_run.id)

    @rule(task=submitted, priority=priorities)
    def move(self, task: str, priority: TaskPriority) -> None:
        if task:
            before = self.find(task)
            try:
                moved = self.do(self.queue.move(task, priority))
            except InvalidInput:
                assert before.run_count or not (before.state and before.state.is_scheduled())
            else:
                assert priority_of(moved) is priority
                self.of[str(moved.id)] = self.of[task]

    @rule(task=submitted, created=st.booleans())
    def move_and_die(self, task: str, created: bool) -> None:
        if not task:
            return
        before = self.find(task)
        if before.run_count or not (before.state and before.state.is_scheduled()):
            return

        async def die(*_: Any, **__: Any) -> None:
            raise Died

        other = TaskPriority.HIGH if priority_of(before) is TaskPriority.LOW else TaskPriority.LOW
        broken = TaskQueue(self.client, MAX_SIZE)
        setattr(broken, "_end_move" if created else "_create", die)
        with pytest.raises(Died):
            self.do(broken.move(task, other))
        self.do(self.queue.finish_moves())
        after = self.find(task)
        assert after.state
        assert after.state.is_scheduled()
        self.of[str(after.id)] = self.of[task]

    @rule()
    def lift(self) -> None:
        for flow_run in self.do(self.queue.lift(timedelta(0))):
            self.of[str(flow_run.id)] = self.number(flow_run)

    @rule(task=submitted)
    def cancel(self, task: str) -> None:
        if task:
            before = self.find(task)
            try:
                self.do(self.queue.cancel(task))
            except InvalidInput:
                assert ended(before)
            else:
                assert not ended(before)
                if before.id in self.at_work:
                    # The worker sees it, and ends what it started.
                    self.at_work.remove(before.id)
                    self.do(self.client.set_flow_run_state(before.id, Cancelled(), force=True))

    @rule(task=submitted)
    def retry(self, task: str) -> None:
        if task:
            try:
                entered = self.do(self.queue.retry(task))
            except InvalidInput:
                assert alive_or_accepted(self.find(task))
            except QueueFull:
                assert self.do(self.queue.waiting()) >= MAX_SIZE
            else:
                self.of[str(entered.flow_run.id)] = self.of[task]

    @rule()
    def worker_takes_the_first(self) -> None:
        if len(self.at_work) < WORKERS:
            order = list(TaskPriority)
            waiting = [each for each in self.everything() if each.state and each.state.is_scheduled()]
            waiting.sort(key=lambda each: (order.index(priority_of(each)), str(each.expected_start_time)))
            for flow_run in waiting[:1]:
                assert self.set_state(flow_run.id, Pending())
                assert not self.set_state(flow_run.id, Pending()), "two workers took one task"
                assert self.set_state(flow_run.id, Running())
                self.at_work.append(flow_run.id)

    @rule(state=st.sampled_from(["accepted", "rejected", "deferred", "died"]))
    def worker_ends(self, state: str) -> None:
        if not self.at_work:
            return
        flow_run = self.do(self.client.read_flow_run(self.at_work.pop(0)))
        if state == "died":
            assert self.do(take_up(self.client, flow_run))
        else:
            states = {
                "accepted": Completed(name="Accepted"),
                "rejected": Failed(name="Rejected"),
                "deferred": Scheduled(name="AwaitingQuota", message="no quota"),
            }
            assert self.set_state(flow_run.id, states[state])

    @invariant()
    def every_task_is_in_one_place(self) -> None:
        for number in range(TASKS):
            alive = [each for each in self.of_task(number) if not ended(each)]
            assert len(alive) <= 1

    @invariant()
    def every_id_leads_to_its_task(self) -> None:
        for task, number in self.of.items():
            flow_run = self.find(task)
            assert self.number(flow_run) == number
            assert flow_run.state
            assert flow_run.state.name != MOVED
            assert not flow_run.state.is_pending()

    @invariant()
    def what_runs_is_in_the_hands_of_a_worker(self) -> None:
        running = {each.id for each in self.everything() if each.state and each.state.is_running()}
        assert running == set(self.at_work)

    def everything(self) -> list[FlowRun]:
        return self.do(self.client.read_flow_runs())

    def number(self, flow_run: FlowRun) -> int:
        descriptions = [task.description for task in self.tasks]
        return descriptions.index(flow_run.parameters["description"])

    def of_task(self, number: int) -> list[FlowRun]:
        return [each for each in self.everything() if self.number(each) == number]


def ended(flow_run: FlowRun) -> bool:
    return flow_run.state is not None and flow_run.state.is_final()


def alive_or_accepted(flow_run: FlowRun) -> bool:
    return not ended(flow_run) or (flow_run.state is not None and flow_run.state.name == "Accepted")


def test_any_course_leaves_every_task_in_one_place(
    server: PrefectStack, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.task_queue.MOVE_SECONDS", 0.0)
    monkeypatch.setattr(Machine, "server", server, raising=False)
    monkeypatch.setattr(Machine, "repository", repository, raising=False)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=12,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
