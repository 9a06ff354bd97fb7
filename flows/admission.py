"""Admission of tasks to the queue that Prefect's database is: bound, duplicates, idempotency keys.

A task is a flow run of the deployment that its priority names, so whatever is decided here is decided from flow runs,
and any number of processes may do so at the same time: that the same task is not created twice is enforced by the
server's unique idempotency keys.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from devtasks import workspace
from devtasks.errors import InvalidInput, QueueFull
from devtasks.task import DevTask, TaskLimits, TaskPriority, TaskStatus

FLOW = "development-task"

MAX_SIZE = 1_000
"""Tasks that may wait, unless the queue is given another bound."""

MOVED = "Moved"
"""The state in which a flow run ends whose task goes on waiting as another one."""

PAGE = 200
"""As many flow runs as the server hands out at once."""

SUBMISSION = "devtasks.submission"
"""The label that tells a submission its own flow run from one that was there."""

_CONFLICT = 409
_SAME = 100
"""How often one task can be submitted anew after it failed."""

_OUR_FLOW = FlowFilter(name=FlowFilterName(any_=[FLOW]))

_UNALIKE = ("batch", "max_batch_cost_usd", "metadata")
"""Parameters that do not make a task another one."""


@dataclass(frozen=True)
class Enqueued:
    """A task's flow run; `created` is False where the task was there already."""

    flow_run: FlowRun
    created: bool


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


class Admission:
    """What lets tasks into the queue of the server that `client` speaks to.

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
        claim = await self.claim(task, force=force, idempotency_key=idempotency_key, **others)
        if isinstance(claim, FlowRun):
            return Enqueued(claim, created=False)
        if not await self.room():
            raise QueueFull(await self.waiting(), self.max_size)
        # A key that another process took meanwhile is answered with that process's flow run.
        return await self.create(task, claim, name=name, **others)

    async def claim(
        self, task: DevTask, *, force: bool = False, idempotency_key: str | None = None, **others: Any
    ) -> str | FlowRun | None:
        """Return the key to create a task's flow run by, or the flow run that answers it; as `enqueue`, which creates.

        Raises InvalidInput where the repository refuses the task.
        """
        commit = await asyncio.to_thread(workspace.check_repository, task)
        parameters = task_parameters(task) | others
        return await self._free_key(parameters | {"base_ref": commit}, force=force, idempotency_key=idempotency_key)

    async def create(
        self, task: DevTask, key: str | None, *, name: str | None = None, tags: Sequence[str] = (), **others: Any
    ) -> Enqueued:
        """Create a task's flow run by its key, or return the one that has the key."""
        return await self._create(task.priority, task_parameters(task) | others, name or task.title, key, tags=tags)

    async def by_keys(self, keys: Sequence[str]) -> Mapping[str, FlowRun]:
        """Return the flow runs of these keys, for a task that was moved the one that it is now."""
        found: dict[str, FlowRun] = {}
        for start in range(0, len(keys), PAGE):
            page = await self._read(run_filter(keys=keys[start : start + PAGE]))
            found |= {each.idempotency_key or "": await self.follow(each) for each in page}
        return found

    async def room(self) -> int:
        """Return how many more tasks may wait."""
        return max(self.max_size - await self.waiting(), 0)

    async def waiting(self, priority: TaskPriority | None = None) -> int:
        """Return how many tasks wait, those that wait for quota among them."""
        return await self._count(run_filter(types=[StateType.SCHEDULED], queue=priority))

    async def _free_key(
        self, parameters: Mapping[str, Any], *, force: bool, idempotency_key: str | None
    ) -> str | FlowRun | None:
        """Return the key to create a task's flow run by, or the flow run that the task has."""
        if idempotency_key is not None:
            key = f"devtasks-given:{idempotency_key}"
            found = await self._by_key(key)
            return await self.follow(found) if found else key
        if force:
            return None
        keys = [f"devtasks:{fingerprint(parameters)}:{number}" for number in range(_SAME)]
        known = {each.idempotency_key: each for each in await self._read(run_filter(keys=keys))}
        for key in reversed(keys):
            if key in known:
                flow_run = await self.follow(known[key])
                if not failed(flow_run):
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
        *,
        state: State | None = None,
        tags: Sequence[str] = (),
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
                tags=tags,
            )
        except PrefectHTTPStatusError as error:
            if error.response.status_code != _CONFLICT:
                raise
            detail = str(error.response.json().get("detail"))
            raise InvalidInput("parameters", dict(parameters), detail) from None
        return Enqueued(flow_run, created=(flow_run.labels or {}).get(SUBMISSION) == submission)

    async def follow(self, flow_run: FlowRun) -> FlowRun:
        """Return the flow run that a task is now, another one where it was moved."""
        while flow_run.state and flow_run.state.name == MOVED and (moved := await self._by_key(move_key(flow_run))):
            flow_run = moved
        return flow_run

    async def _by_key(self, key: str) -> FlowRun | None:
        found = await self._read(run_filter(keys=[key]), limit=1)
        return found[0] if found else None

    async def _read(
        self,
        flow_run_filter: FlowRunFilter,
        *,
        limit: int = PAGE,
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


def run_filter(
    *,
    types: Sequence[StateType] = (),
    names: Sequence[str] = (),
    queue: TaskPriority | None = None,
    keys: Sequence[str] = (),
) -> FlowRunFilter:
    """Return the filter for flow runs in these states, in this priority's queue, with these idempotency keys."""
    state = FlowRunFilterState(
        type=FlowRunFilterStateType(any_=list(types)) if types else None,
        name=FlowRunFilterStateName(any_=list(names)) if names else None,
    )
    return FlowRunFilter(
        state=state if types or names else None,
        work_queue_name=FlowRunFilterWorkQueueName(any_=[queue]) if queue else None,
        idempotency_key=FlowRunFilterIdempotencyKey(any_=list(keys)) if keys else None,
    )


def failed(flow_run: FlowRun) -> bool:
    """Whether a flow run ended, and no result of it was accepted."""
    state = flow_run.state
    return state is not None and state.is_final() and state.name not in (TaskStatus.ACCEPTED, TaskStatus.APPROVED)


def move_key(flow_run: FlowRun) -> str:
    """Return the idempotency key of the flow run that a flow run's task is moved to."""
    return f"devtasks-move:{flow_run.id}"
