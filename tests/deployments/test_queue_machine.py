"""Any course of what people, workers and servers do leaves each task in one place, known by its id."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import Pause
from prefect.states import Cancelled, Completed, Failed, Pending, Running, Scheduled
from prefect_stack import PrefectStack
from queues import make_task

from deployments.stack import Connection
from deployments.task_queue import TaskQueue
from devtasks.errors import InvalidInput, QueueFull
from devtasks.task import DevTask, TaskPriority, TaskStatus
from flows.admission import MOVED, priority_of
from flows.giving_back import give_back
from flows.review import Decision, Review, ask
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
        self.asked: Counter[UUID] = Counter()
        self.delivered: Counter[int] = Counter()

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

    @precondition(lambda self: self.at_work)
    @rule(accepted=st.booleans())
    def worker_ends(self, accepted: bool) -> None:
        flow_run_id = self.at_work.pop(0)
        if accepted:
            self.delivered[self.number(self.do(self.client.read_flow_run(flow_run_id)))] += 1
        assert self.set_state(flow_run_id, Completed(name="Accepted") if accepted else Failed(name="Rejected"))

    @precondition(lambda self: self.at_work)
    @rule()
    def worker_dies(self) -> None:
        assert self.do(take_up(self.client, self.do(self.client.read_flow_run(self.at_work.pop(0)))))

    @precondition(lambda self: self.at_work)
    @rule(name=st.sampled_from([TaskStatus.AWAITING_QUOTA, TaskStatus.AWAITING_RETRY]))
    def worker_gives_back(self, name: TaskStatus) -> None:
        with pytest.raises(Pause):
            self.do(give_back(self.at_work.pop(0), Scheduled(name=name, message="a model does not answer")))

    @precondition(lambda self: self.at_work)
    @rule()
    def worker_asks_a_person(self) -> None:
        flow_run_id = self.at_work.pop(0)
        self.asked[flow_run_id] += 1
        question = ("what now?", "no result passed", timedelta(hours=1))
        with pytest.raises(Pause):
            self.do(ask(str(flow_run_id), self.asked[flow_run_id], *question))

    @rule(task=submitted, decision=st.sampled_from(Decision))
    def person_answers(self, task: str, decision: Decision) -> None:
        if task:
            before = self.find(task)
            try:
                after = self.do(self.queue.answer(task, Review.model_validate({"decision": decision})))
            except InvalidInput:
                assert not (before.state and before.state.is_paused())
            else:
                assert after.state
                assert after.state.is_scheduled()

    @rule(task=submitted)
    def person_retries_in_the_ui_what_waits_for_an_answer(self, task: str) -> None:
        """The UI's button forces a run back into the queue; it asks the same question again."""
        before = self.find(task) if task else None
        if before and before.state and before.state.is_paused():
            self.do(self.client.set_flow_run_state(before.id, Scheduled(message="retried"), force=True))
            self.asked[before.id] -= 1

    @rule(task=submitted)
    def process_that_was_cut_off_comes_back(self, task: str) -> None:
        """What has ended waits no more, whatever a process of it still wants."""
        before = self.find(task) if task else None
        if before and ended(before):
            with pytest.raises(Pause):
                self.do(give_back(before.id, Scheduled(name=TaskStatus.AWAITING_RETRY, message="late")))
            assert ended(self.find(task))

    @invariant()
    def every_task_is_in_one_place(self) -> None:
        for number in range(TASKS):
            alive = [each for each in self.of_task(number) if not ended(each)]
            assert len(alive) <= 1

    @invariant()
    def nothing_is_delivered_twice(self) -> None:
        assert all(number == 1 for number in self.delivered.values())

    @invariant()
    def what_waits_for_more_than_a_worker_has_a_reason(self) -> None:
        for flow_run in self.everything():
            if flow_run.run_count and flow_run.state and (flow_run.state.is_scheduled() or flow_run.state.is_paused()):
                assert flow_run.state.message or flow_run.state.name == "Resuming"

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


class RestartedMachine(Machine):
    """The same over a server that is killed once, after some step, and started again."""

    restarts = 0

    @initialize(after=st.integers(2, 12))
    def choose(self, after: int) -> None:
        self.left = after

    @invariant()
    def the_server_is_killed_once(self) -> None:
        self.left -= 1
        if self.left == 0:
            RestartedMachine.restarts += 1
            self.server.restart()


def ended(flow_run: FlowRun) -> bool:
    return flow_run.state is not None and flow_run.state.is_final()


def alive_or_accepted(flow_run: FlowRun) -> bool:
    return not ended(flow_run) or (flow_run.state is not None and flow_run.state.name == "Accepted")


@pytest.fixture
def connected(server: PrefectStack, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    monkeypatch.setattr("deployments.task_queue.MOVE_SECONDS", 0.0)
    monkeypatch.setattr(Machine, "server", server, raising=False)
    monkeypatch.setattr(Machine, "repository", repository, raising=False)
    with Connection(server.url, server.auth).settings():
        yield


def run(machine: type[Machine], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            # What it takes to find a shorter course of requests to a server is longer than reading the one it found.
            phases=[Phase.generate],
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.usefixtures("connected")
def test_any_course_leaves_every_task_in_one_place() -> None:
    run(Machine, 12, 25)


@pytest.mark.usefixtures("connected")
def test_so_does_any_course_in_which_the_server_is_killed() -> None:
    run(RestartedMachine, 4, 25)
    assert RestartedMachine.restarts
