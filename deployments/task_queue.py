"""The queue of tasks over Prefect's API: admission in front of it, and what people do with what waits in it.

Prefect's database is the queue. A task is a flow run of the deployment that its priority names, so whatever this
module decides, it decides from flow runs, and any number of processes may do so at the same time: that the same task is
not created twice is enforced by the server's unique idempotency keys, and that no worker starts a task while it is
moved by the same claim (Pending) that keeps two workers apart.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterIdempotencyKey,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
    FlowRunFilterWorkQueueName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelled, Pending, Scheduled

from deployments.client import FLOW, cancel, find_flow_run, read_report
from devtasks import workspace
from devtasks.errors import InvalidInput, QueueFull
from devtasks.report import TaskReport
from devtasks.task import DevTask, TaskLimits, TaskPriority, TaskStatus
from flows.review import Review

MAX_SIZE = 1_000
"""Tasks that may wait, unless the queue is given another bound."""

MOVED = "Moved"
"""The state in which a flow run ends whose task goes on waiting as another one."""

MOVING = "its task is being moved to another priority"
MOVE_SECONDS = 60.0
"""A move takes a few requests; one that has not ended after so long was broken off."""

_CONFLICT = 409
_PAGE = 200
_SAME = 100
"""How often one task can be submitted anew after it failed."""

SUBMISSION = "devtasks.submission"
"""The label that tells a submission its own flow run from one that was there."""

_OUR_FLOW = FlowFilter(name=FlowFilterName(any_=[FLOW]))

_UNALIKE = ("batch", "max_batch_cost_usd", "metadata")
"""Parameters that do not make a task another one."""


@dataclass(frozen=True)
class Enqueued:
    """A task's flow run; `created` is False where the task was there already."""

    flow_run: FlowRun
    created: bool


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


def task_parameters(task: DevTask) -> dict[str, Any]:
    """Return a task as the parameters of its flow."""
    fields = task.model_dump(mode="json", exclude={"task_id", "priority", "limits"})
    limits = task.limits.model_dump(mode="json")
    filled = {name: "" if value is None else value for name, value in fields.items()}
    return filled | {f"max_{name}": value for name, value in limits.items()}


def task_of(flow_run: FlowRun) -> tuple[DevTask, dict[str, Any]]:
    """Return the task that a flow run is for, and the parameters of its flow that a task does not have.

    Raises InvalidInput where the parameters make no task.
    """
    parameters = dict(flow_run.parameters or {})
    limits = {name: parameters.pop(f"max_{name}") for name in TaskLimits.model_fields if f"max_{name}" in parameters}
    fields = {name: parameters.pop(name) for name in DevTask.model_fields if name in parameters}
    given = {name: value for name, value in fields.items() if value not in ("", None)}
    task = DevTask.parse(task_id=str(flow_run.id), priority=priority_of(flow_run), limits=limits, **given)
    return task, parameters


class TaskQueue:
    """The tasks of the server that `client` speaks to: submitted, looked up, moved, cancelled, tried again, counted.

    `max_size` is how many may wait; tasks that come in past this class (the UI, `prefect deployment run`) count, and
    are not refused. Submitters at the same moment may overshoot it by one task each.
    """

    def __init__(self, client: PrefectClient, max_size: int = MAX_SIZE) -> None:
        if max_size < 1:
            raise InvalidInput("max_size", max_size, "a whole number from 1")
        self.client = client
        self.max_size = max_size

    async def enqueue(
        self,
        task: DevTask,
        *,
        name: str | None = None,
        force: bool = False,
        idempotency_key: str | None = None,
        **others: Any,
    ) -> Enqueued:
        """Create a task's flow run in its priority's queue, or return the one that there is.

        The same task on the same base commit is the one that waits, runs, or was accepted; what failed or was cancelled
        is submitted anew. With `idempotency_key` the first task that was submitted with that key is returned whatever
        became of it, and with `force` a new one is made. `others` are parameters of the flow that a task does not have,
        such as credentials. Raises InvalidInput where the repository or the server refuses the task, QueueFull.
        """
        commit = await asyncio.to_thread(workspace.check_repository, task)
        parameters = task_parameters(task) | others
        key = await self._free_key(parameters | {"base_ref": commit}, force=force, idempotency_key=idempotency_key)
        if isinstance(key, FlowRun):
            return Enqueued(key, created=False)
        if (waiting := await self.waiting()) >= self.max_size:
            raise QueueFull(waiting, self.max_size)
        # A key that another process took meanwhile is answered with that process's flow run.
        return await self._create(task.priority, parameters, name or task.title, key)

    async def get(self, task: str) -> TaskReport:
        """Return where a task stands by its flow run's id or name; raise InvalidInput where there is none."""
        return await read_report(self.client, await self.find(task))

    async def find(self, task: str) -> FlowRun:
        """Return a task's flow run, which is another one once the task was moved; raise InvalidInput for no task."""
        return await self._follow(await find_flow_run(self.client, task))

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
                _filter(names=states, types=types, queue=priority),
                limit=min(limit - len(found), _PAGE),
                offset=len(found),
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            )
            found += page
            if len(page) < _PAGE:
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
        if not _failed(flow_run):
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
            priority, flow_run.parameters or {}, flow_run.name, _move_key(flow_run), state=scheduled
        )
        await self._end_move(flow_run, moved.flow_run)
        return moved.flow_run

    async def finish_moves(self) -> Sequence[FlowRun]:
        """Bring moves to an end that were broken off a minute ago or more, and return the flow runs that it was."""
        pending = await self._read(_filter(types=[StateType.PENDING]))
        before = datetime.now(UTC) - timedelta(seconds=MOVE_SECONDS)
        broken = [each for each in pending if is_moving(each) and each.state and each.state.timestamp < before]
        for flow_run in broken:
            if moved := await self._by_key(_move_key(flow_run)):
                await self._end_move(flow_run, moved)
            else:
                await self.client.set_flow_run_state(flow_run.id, Scheduled(), force=True)
        return broken

    async def lift(self, age: timedelta) -> Sequence[FlowRun]:
        """Move LOW tasks that have waited so long to NORMAL, before the younger ones there; return those."""
        low = await self._read(
            _filter(types=[StateType.SCHEDULED], queue=TaskPriority.LOW), sort=FlowRunSort.EXPECTED_START_TIME_ASC
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

    async def waiting(self, priority: TaskPriority | None = None) -> int:
        """Return how many tasks wait, those that wait for quota among them."""
        return await self._count(_filter(types=[StateType.SCHEDULED], queue=priority))

    async def ready(self, priority: TaskPriority) -> int:
        """Return how many tasks wait in a queue for nothing but a worker."""
        return await self._count(_filter(types=[StateType.SCHEDULED], queue=priority)) - await self._count(
            _filter(names=[TaskStatus.AWAITING_QUOTA], queue=priority)
        )

    async def running(self) -> int:
        """Return how many tasks are under way."""
        return await self._count(_filter(types=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]))

    async def awaiting_quota(self) -> int:
        """Return how many tasks wait for quota."""
        return await self._count(_filter(names=[TaskStatus.AWAITING_QUOTA]))

    async def needs_review(self) -> int:
        """Return how many tasks wait for a person."""
        return await self._count(_filter(types=[StateType.PAUSED]))

    async def mean_seconds(self, last: int = 50) -> float | None:
        """Return how long the last tasks that completed or failed ran on average, None where none has."""
        ended = await self._read(
            _filter(types=[StateType.COMPLETED, StateType.FAILED]), limit=last, sort=FlowRunSort.END_TIME_DESC
        )
        seconds = [each.total_run_time.total_seconds() for each in ended]
        return sum(seconds) / len(seconds) if seconds else None

    async def _free_key(
        self, parameters: Mapping[str, Any], *, force: bool, idempotency_key: str | None
    ) -> str | FlowRun | None:
        """Return the key to create a task's flow run by, or the flow run that the task has."""
        if idempotency_key is not None:
            key = f"devtasks-given:{idempotency_key}"
            found = await self._by_key(key)
            return await self._follow(found) if found else key
        if force:
            return None
        keys = [f"devtasks:{fingerprint(parameters)}:{number}" for number in range(_SAME)]
        known = {each.idempotency_key: each for each in await self._read(_filter(keys=keys))}
        for key in reversed(keys):
            if key in known:
                flow_run = await self._follow(known[key])
                if not _failed(flow_run):
                    return flow_run
                break
        free = next((key for key in keys if key not in known), None)
        if free is None:
            raise InvalidInput("task", parameters.get("description"), f"a task that did not fail {_SAME} times before")
        return free

    async def _create(
        self,
        priority: TaskPriority,
        parameters: Mapping[str, Any],
        name: str,
        key: str | None,
        state: State | None = None,
    ) -> Enqueued:
        path = f"{FLOW}/{priority}"
        try:
            deployment = await self.client.read_deployment_by_name(path)
        except ObjectNotFound:
            raise InvalidInput("deployment", path, "a deployment of this server (run `devtasks setup` first)") from None
        submission = str(uuid4())
        try:
            flow_run = await self.client.create_flow_run_from_deployment(
                deployment.id,
                parameters=dict(parameters),
                name=name,
                idempotency_key=key,
                labels={SUBMISSION: submission},
                state=state,
            )
        except PrefectHTTPStatusError as error:
            if error.response.status_code != _CONFLICT:
                raise
            detail = str(error.response.json().get("detail"))
            raise InvalidInput("parameters", dict(parameters), detail) from None
        return Enqueued(flow_run, created=(flow_run.labels or {}).get(SUBMISSION) == submission)

    async def _end_move(self, flow_run: FlowRun, moved: FlowRun) -> None:
        message = f"waits as {moved.id} in the queue {priority_of(moved)}"
        await self.client.set_flow_run_state(flow_run.id, Cancelled(name=MOVED, message=message), force=True)

    async def _follow(self, flow_run: FlowRun) -> FlowRun:
        while flow_run.state and flow_run.state.name == MOVED and (moved := await self._by_key(_move_key(flow_run))):
            flow_run = moved
        return flow_run

    async def _by_key(self, key: str) -> FlowRun | None:
        found = await self._read(_filter(keys=[key]), limit=1)
        return found[0] if found else None

    async def _read(
        self,
        flow_run_filter: FlowRunFilter,
        *,
        limit: int = _PAGE,
        offset: int = 0,
        sort: FlowRunSort = FlowRunSort.EXPECTED_START_TIME_ASC,
    ) -> Sequence[FlowRun]:
        return await self.client.read_flow_runs(
            flow_filter=_OUR_FLOW, flow_run_filter=flow_run_filter, limit=limit, offset=offset, sort=sort
        )

    async def _count(self, flow_run_filter: FlowRunFilter) -> int:
        return await self.client.count_flow_runs(flow_filter=_OUR_FLOW, flow_run_filter=flow_run_filter)


def fingerprint(parameters: Mapping[str, Any]) -> str:
    """Return what two sets of a flow's parameters have in common when they ask for the same work."""
    alike = {name: value for name, value in parameters.items() if name not in _UNALIKE}
    return hashlib.sha256(json.dumps(alike, sort_keys=True, default=str).encode()).hexdigest()[:32]


def priority_of(flow_run: FlowRun) -> TaskPriority:
    """Return the priority of the queue that a flow run waits in; normal for one in a queue of another name."""
    name = flow_run.work_queue_name
    return TaskPriority(name) if name in set(TaskPriority) else TaskPriority.NORMAL


def is_moving(flow_run: FlowRun) -> bool:
    """Whether a flow run is held by a move, and not by a worker."""
    return flow_run.state is not None and flow_run.state.is_pending() and flow_run.state.message == MOVING


def _filter(
    *,
    types: Sequence[StateType] = (),
    names: Sequence[str] = (),
    queue: TaskPriority | None = None,
    keys: Sequence[str] = (),
) -> FlowRunFilter:
    state = FlowRunFilterState(
        type=FlowRunFilterStateType(any_=list(types)) if types else None,
        name=FlowRunFilterStateName(any_=list(names)) if names else None,
    )
    return FlowRunFilter(
        state=state if types or names else None,
        work_queue_name=FlowRunFilterWorkQueueName(any_=[queue]) if queue else None,
        idempotency_key=FlowRunFilterIdempotencyKey(any_=list(keys)) if keys else None,
    )


def _waits(flow_run: FlowRun) -> bool:
    return flow_run.state is None or flow_run.state.is_scheduled()


def _failed(flow_run: FlowRun) -> bool:
    """Whether a flow run ended, and no result of it was accepted."""
    state = flow_run.state
    return state is not None and state.is_final() and state.name not in (TaskStatus.ACCEPTED, TaskStatus.APPROVED)


def _move_key(flow_run: FlowRun) -> str:
    return f"devtasks-move:{flow_run.id}"


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
