"""What people do with the tasks that Prefect's database holds: look up, list, move, cancel, try again, count.

Whatever this module decides, it decides from flow runs, and any number of processes may do so at the same time: that no
worker starts a task while it is moved is enforced by the same claim (Pending) that keeps two workers apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Pending, Scheduled

from deployments.client import cancel, find_flow_run
from devtasks.errors import InvalidInput
from devtasks.report import TaskReport
from devtasks.task import TaskPriority, TaskStatus
from flows.admission import MOVED, PAGE, Admission, Enqueued, failed, move_key, priority_of, run_filter, task_of
from flows.reports import read_report
from flows.review import Review

MOVING = "its task is being moved to another priority"
MOVE_SECONDS = 60.0
"""A move takes a few requests; one that has not ended after so long was broken off."""


@dataclass(frozen=True)
class QueuedTask:
    """A task as a list shows it; times in UTC, None for what has not happened.

    `state` is its name in the UI and `state_type` Prefect's word for its kind, since `state_since`; a task that waits
    is due at `due_at`.
    """

    flow_run_id: str
    title: str
    priority: str
    state: str
    state_type: str
    state_since: datetime | None
    due_at: datetime | None
    submitted_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None


class TaskQueue(Admission):
    """The tasks of the server that `client` speaks to: admitted, looked up, moved, cancelled, tried again, counted."""

    async def get(self, task: str) -> TaskReport:
        """Return where a task stands by its flow run's id or name; raise InvalidInput where there is none."""
        return await read_report(self.client, await self.find(task))

    async def find(self, task: str) -> FlowRun:
        """Return a task's flow run, which is another one once the task was moved; raise InvalidInput for no task."""
        return await self.follow(await find_flow_run(self.client, task))

    async def list(
        self,
        *,
        states: Sequence[str] = (),
        types: Sequence[StateType] = (),
        priority: TaskPriority | None = None,
        limit: int = 100,
    ) -> Sequence[QueuedTask]:
        """Return the newest tasks, in these states (names as in the UI, types) and of this priority where given."""
        found: list[FlowRun] = []
        while len(found) < limit:
            page = await self._read(
                run_filter(names=states, types=types, queue=priority),
                limit=min(limit - len(found), PAGE),
                offset=len(found),
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            )
            found += page
            if len(page) < PAGE:
                break
        return [listed(flow_run) for flow_run in found]

    async def cancel(self, task: str) -> FlowRun:
        """Cancel a task that has not ended; raise InvalidInput for any other."""
        flow_run = await self.find(task)
        await cancel(self.client, flow_run)
        return await self.client.read_flow_run(flow_run.id)

    async def retry(self, task: str) -> Enqueued:
        """Submit a task anew that ended without an accepted result, at the commit that its base ref names now.

        As with `enqueue`, one that waits, runs, or was accepted since is the answer. Raises InvalidInput for a task
        that has not ended, or was accepted, and what `enqueue` raises.
        """
        flow_run = await self.find(task)
        if not failed(flow_run):
            state = flow_run.state.name if flow_run.state else "Pending"
            raise InvalidInput("task", flow_run.name, f"a task that ended without a result; this one is {state}")
        again, others = task_of(flow_run)
        return await self.enqueue(again, name=flow_run.name, **others)

    async def move(self, task: str, priority: TaskPriority) -> FlowRun:
        """Have a waiting task wait in another priority's queue, at the place that its submission gives it there.

        Prefect cannot move a flow run, so another one is made, and this one ends as Moved; its id leads to the new
        one. Raises InvalidInput for a task that has begun or ended.
        """
        flow_run = await self.find(task)
        if priority_of(flow_run) == priority:
            return flow_run
        allowed = "a task that waits and has not begun"
        state = flow_run.state
        if not _waits(flow_run) or flow_run.run_count:
            raise InvalidInput("task", flow_run.name, f"{allowed}; this one is {state.name if state else 'Pending'}")
        claim = await self.client.set_flow_run_state(flow_run.id, Pending(message=MOVING))
        if claim.status is not SetStateStatus.ACCEPT:
            raise InvalidInput("task", flow_run.name, f"{allowed}; a worker has just taken this one")
        scheduled = Scheduled(scheduled_time=flow_run.expected_start_time)
        moved = await self._create(
            priority, flow_run.parameters or {}, flow_run.name, move_key(flow_run), state=scheduled, tags=flow_run.tags
        )
        await self._end_move(flow_run, moved.flow_run)
        return moved.flow_run

    async def finish_moves(self) -> Sequence[FlowRun]:
        """Bring moves to an end that were broken off a minute ago or more, and return the flow runs that it was."""
        pending = await self._read(run_filter(types=[StateType.PENDING]))
        before = datetime.now(UTC) - timedelta(seconds=MOVE_SECONDS)
        broken = [each for each in pending if is_moving(each) and each.state and each.state.timestamp < before]
        for flow_run in broken:
            if moved := await self._by_key(move_key(flow_run)):
                await self._end_move(flow_run, moved)
            else:
                await self.client.set_flow_run_state(flow_run.id, Scheduled(), force=True)
        return broken

    async def lift(self, age: timedelta) -> Sequence[FlowRun]:
        """Move LOW tasks that have waited so long to NORMAL, before the younger ones there; return those."""
        low = await self._read(
            run_filter(types=[StateType.SCHEDULED], queue=TaskPriority.LOW), sort=FlowRunSort.EXPECTED_START_TIME_ASC
        )
        before = datetime.now(UTC) - age
        lifted: list[FlowRun] = []
        for flow_run in low:
            due = flow_run.expected_start_time
            if due and due < before and not flow_run.run_count:
                try:
                    lifted.append(await self.move(str(flow_run.id), TaskPriority.NORMAL))
                except InvalidInput:
                    # A worker took it meanwhile, which is as good.
                    continue
        return lifted

    async def answer(self, task: str, answer: Review) -> FlowRun:
        """Have a task that waits for a person go on as the answer says; raise InvalidInput for any other task."""
        flow_run = await self.find(task)
        if not (flow_run.state and flow_run.state.is_paused()):
            state = flow_run.state.name if flow_run.state else "Pending"
            raise InvalidInput("task", flow_run.name, f"a task that waits for a person; this one is {state}")
        result = await self.client.resume_flow_run(flow_run.id, run_input=answer.model_dump(mode="json"))
        if result.status is not SetStateStatus.ACCEPT:
            raise InvalidInput(
                "answer", answer.decision, f"what the server takes: {getattr(result.details, 'reason', None)}"
            )
        return await self.client.read_flow_run(flow_run.id)

    async def ready(self, priority: TaskPriority) -> int:
        """Return how many tasks wait in a queue for nothing but a worker."""
        return await self._count(run_filter(types=[StateType.SCHEDULED], queue=priority)) - await self._count(
            run_filter(names=[TaskStatus.AWAITING_QUOTA], queue=priority)
        )

    async def running(self) -> int:
        """Return how many tasks are under way."""
        return await self._count(run_filter(types=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]))

    async def awaiting_quota(self) -> int:
        """Return how many tasks wait for quota."""
        return await self._count(run_filter(names=[TaskStatus.AWAITING_QUOTA]))

    async def needs_review(self) -> int:
        """Return how many tasks wait for a person."""
        return await self._count(run_filter(types=[StateType.PAUSED]))

    async def mean_seconds(self, last: int = 50) -> float | None:
        """Return how long the last tasks that completed or failed ran on average, None where none has."""
        ended = await self._read(
            run_filter(types=[StateType.COMPLETED, StateType.FAILED]), limit=last, sort=FlowRunSort.END_TIME_DESC
        )
        seconds = [each.total_run_time.total_seconds() for each in ended]
        return sum(seconds) / len(seconds) if seconds else None

    async def _end_move(self, flow_run: FlowRun, moved: FlowRun) -> None:
        message = f"waits as {moved.id} in the queue {priority_of(moved)}"
        await self.client.set_flow_run_state(flow_run.id, Cancelled(name=MOVED, message=message), force=True)


def is_moving(flow_run: FlowRun) -> bool:
    """Whether a flow run is held by a move, and not by a worker."""
    return flow_run.state is not None and flow_run.state.is_pending() and flow_run.state.message == MOVING


def _waits(flow_run: FlowRun) -> bool:
    return flow_run.state is None or flow_run.state.is_scheduled()


def listed(flow_run: FlowRun) -> QueuedTask:
    """Return a flow run as a list shows it."""
    state = flow_run.state
    return QueuedTask(
        flow_run_id=str(flow_run.id),
        title=flow_run.name,
        priority=priority_of(flow_run),
        state=(state and state.name) or "Pending",
        state_type=state.type.value if state else StateType.PENDING.value,
        state_since=state.timestamp if state else flow_run.created,
        due_at=flow_run.expected_start_time,
        submitted_at=flow_run.created,
        started_at=flow_run.start_time,
        ended_at=flow_run.end_time,
    )
