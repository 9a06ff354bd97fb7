"""What people do with batches through Prefect's API: submit, list, look at, cancel, resume, try again."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Scheduled

from blocks import GitHubCredentials, load_block
from deployments.client import POLL_SECONDS, cancel
from devtasks.batch.order import BatchLimits, BatchOrder
from devtasks.batch.standing import Standing
from devtasks.batch.summary import BatchSummary
from devtasks.errors import InvalidInput
from devtasks.recovery import FailureKind
from flows.admission import PAGE, Admission
from flows.batch import FLOW, STOPPED, submit_batch
from flows.batch_artifacts import PROGRESS, read_branches
from flows.batch_tasks import SINCE, STOPPED_BY, BatchTasks, Claim, Origin, cancel_all, summarise, write_claims

_BATCHES = FlowFilter(name=FlowFilterName(any_=[FLOW]))
CANCELLING_SECONDS = timedelta(seconds=60)
"""A process that is there to be cancelled has ended well before."""

_LOOKED_BACK = timedelta(hours=1)
_DONE = frozenset({Standing.ACCEPTED, Standing.APPROVED})


@dataclass(frozen=True)
class ListedBatch:
    """A batch as a list shows it; `progress` is what it last said of itself."""

    batch_id: str
    name: str
    state: str
    tasks: int
    submitted_at: datetime | None
    progress: str


class Batches:
    """The batches of the server that `client` speaks to."""

    def __init__(self, client: PrefectClient) -> None:
        self.client = client
        self._admission = Admission(client)

    async def submit(self, order: BatchOrder) -> FlowRun:
        """Create a batch's flow run.

        Raises InvalidInput where the batch is too large, its deployment is missing, or the block for its pull requests.
        """
        if order.pull_request:
            await load_block(GitHubCredentials, "github", order.github)
        return await submit_batch(self.client, order)

    async def list(self, limit: int) -> Sequence[ListedBatch]:
        """Return the newest batches."""
        found = await self.client.read_flow_runs(
            flow_filter=_BATCHES, limit=min(limit, PAGE), sort=FlowRunSort.EXPECTED_START_TIME_DESC
        )
        progress = await self._progress(found)
        return [
            ListedBatch(
                batch_id=str(each.id),
                name=each.name,
                state=_state(each),
                tasks=len((each.parameters or {}).get("tasks") or ()),
                submitted_at=each.created,
                progress=progress.get(each.id, ""),
            )
            for each in found
        ]

    async def find(self, name: str) -> FlowRun:
        """Return the batch of this id, or the newest of this name; raise InvalidInput where there is none."""
        try:
            flow_run = await self.client.read_flow_run(UUID(name))
            if (await self.client.read_flow(flow_run.flow_id)).name == FLOW:
                return flow_run
        except ObjectNotFound:
            pass
        except ValueError:
            named = FlowRunFilter(name=FlowRunFilterName(any_=[name]))
            sort = FlowRunSort.EXPECTED_START_TIME_DESC
            found = await self.client.read_flow_runs(flow_filter=_BATCHES, flow_run_filter=named, sort=sort, limit=1)
            if found:
                return found[0]
        raise InvalidInput("batch", name, "the id or the name of a batch of this server")

    async def summary(self, batch: FlowRun) -> BatchSummary:
        """Return what has come of a batch so far."""
        batch = await self.client.read_flow_run(batch.id)
        tasks = await BatchTasks.read(self._admission, batch)
        reason = tasks.stopped_by or _why(batch)
        branches = await read_branches(self.client, batch)
        return await summarise(self.client, tasks, state=_state(batch), reason=reason, branches=branches)

    async def wait(self, batch: FlowRun) -> FlowRun:
        """Return a batch when it has ended."""
        while not _ended(batch):
            await asyncio.sleep(POLL_SECONDS)
            batch = await self.client.read_flow_run(batch.id)
        return batch

    async def progress(self, batch: FlowRun) -> str:
        """Return what a batch last said of itself, empty before its first look."""
        return (await self._progress([batch])).get(batch.id, "")

    async def cancel(self, batch: FlowRun) -> FlowRun:
        """Cancel a batch, then its own tasks that have not ended; raise InvalidInput for a batch that has ended."""
        await cancel(self.client, batch, "batch")
        ended = await self.wait(batch)
        await cancel_all(self.client, await BatchTasks.read(self._admission, ended), "its batch was cancelled")
        return ended

    async def finish_cancelling(self, after: timedelta = CANCELLING_SECONDS) -> Sequence[FlowRun]:
        """Bring to its end what was cancelled past `cancel`, in the UI, while the batch had no process to do so.

        Batches count that are Cancelling for so long, or ended within the last hour; those that had tasks left are
        returned.
        """
        now = datetime.now(UTC)
        touched: list[FlowRun] = []
        for batch in await self._in_state(StateType.CANCELLING):
            if batch.state and batch.state.timestamp <= now - after:
                await self.client.set_flow_run_state(batch.id, Cancelled(), force=True)
        for batch in await self._in_state(StateType.CANCELLED):
            if batch.end_time and batch.end_time > now - _LOOKED_BACK:
                tasks = await BatchTasks.read(self._admission, batch)
                if any(not (each.state and each.state.is_final()) for each in tasks.own.values()):
                    await cancel_all(self.client, tasks, "its batch was cancelled")
                    touched.append(batch)
        return touched

    async def _in_state(self, state: StateType) -> Sequence[FlowRun]:
        of_state = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[state])))
        return await self.client.read_flow_runs(
            flow_filter=_BATCHES, flow_run_filter=of_state, sort=FlowRunSort.END_TIME_DESC, limit=PAGE
        )

    async def resume(self, batch: FlowRun, **limits: float | None) -> FlowRun:
        """Have a batch go on that was cancelled, stopped, failed or crashed, with other limits where given.

        What is done is not done again; those of its tasks that were cancelled are submitted anew. Raises InvalidInput
        for a batch that has not ended, or that has come to its end.
        """
        tasks = await BatchTasks.read(self._admission, batch)
        if not _ended(batch) or (batch.state and batch.state.is_completed() and batch.state.name != STOPPED):
            allowed = "a batch that was cancelled, stopped, failed or crashed; `devtasks batch retry` makes a new one"
            raise InvalidInput("batch", batch.name, f"{allowed}; this one is {_state(batch)}")
        given = {name: value for name, value in limits.items() if value is not None}
        changed = BatchLimits.parse(**tasks.order.limits.model_dump() | given)
        order = tasks.order.model_copy(update={"limits": changed})
        cancelled = {name: Claim(Origin.FORGOTTEN) for name in _names(tasks, {Standing.CANCELLED, Standing.REFUSED})}
        await write_claims(self.client, batch, cancelled)
        await self.client.update_flow_run_labels(batch.id, {SINCE: datetime.now(UTC).isoformat(), STOPPED_BY: ""})
        await self.client.update_flow_run(batch.id, parameters=order.parameters())
        await self.client.set_flow_run_state(batch.id, Scheduled(message="resumed"), force=True)
        return await self.client.read_flow_run(batch.id)

    async def retry(self, batch: FlowRun, kinds: Collection[FailureKind] = ()) -> FlowRun:
        """Submit a new batch of the tasks that were not accepted, or of those alone whose last failure is one of these.

        Raises InvalidInput for a batch that has not ended, and where there is no such task.
        """
        if not _ended(batch):
            raise InvalidInput("batch", batch.name, f"a batch that has ended; this one is {_state(batch)}")
        order = BatchOrder.of(batch.parameters or {})
        summary = await self.summary(batch)
        again = {
            each.task_id
            for each in summary.tasks
            if each.standing not in _DONE and (not kinds or each.failure in kinds)
        }
        if not again:
            of_kinds = f" for {', '.join(kinds)}" if kinds else ""
            raise InvalidInput("batch", batch.name, f"a batch with tasks that were not accepted{of_kinds}")
        chosen = tuple(task for task in order.tasks if task.task_id in again)
        return await self.submit(order.model_copy(update={"tasks": chosen}))

    async def _progress(self, batches: Sequence[FlowRun]) -> dict[UUID, str]:
        if not batches:
            return {}
        shown = await self.client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[each.id for each in batches]),
                key=ArtifactFilterKey(any_=[PROGRESS]),
            )
        )
        return {each.flow_run_id: each.description or "" for each in shown if each.flow_run_id}


def _names(tasks: BatchTasks, standings: Collection[Standing]) -> list[str]:
    return [task.task_id for task in tasks.order.tasks if tasks.standing(task) in standings]


def _ended(batch: FlowRun) -> bool:
    return batch.state is not None and batch.state.is_final()


def _state(batch: FlowRun) -> str:
    return (batch.state and batch.state.name) or "Pending"


def _why(batch: FlowRun) -> str:
    """Return why a batch did not come to its end; what the message of one that did says is counted anyway."""
    state = batch.state
    return (state.message or "") if state and state.is_final() and not state.is_completed() else ""
