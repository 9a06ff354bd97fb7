"""The flow of a batch: one look at its tasks, what follows from it, and the worker slot back until the next look."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid5

from prefect import Flow, flow, get_run_logger
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from devtasks.batch.order import IN_FLIGHT, BatchOrder
from devtasks.batch.rendering import FILES, document, render
from devtasks.batch.standing import LONGEST_LOOK, OPEN, Standing, Stop, Tally, admitted, count, next_look, stop_of
from devtasks.batch.summary import BatchSummary
from devtasks.config import OpenHandsConfig
from devtasks.errors import DevtasksError, InvalidInput, ServiceUnreachable
from devtasks.ledger import Ledger
from devtasks.run_folder import RunFolder
from devtasks.task import DevTask
from flows.admission import Admission
from flows.batch_artifacts import describe, show_progress, show_summary
from flows.batch_branch import check_drafts, merge_branches
from flows.batch_tasks import (
    SINCE,
    STOPPED_BY,
    BatchTasks,
    Claim,
    Origin,
    cancel_all,
    cancel_waiting,
    summarise,
    write_claims,
)
from flows.giving_back import await_tasks
from tasks.run import claimed_folder

FLOW = "batch"
DEPLOYMENT = "batch/batch"

FINISHED, STOPPED = "Finished", "Stopped"
"""The states of a batch whose tasks have all ended, and of one that a limit kept from submitting them all."""

_CLAIMS = 50
"""How many tasks one look submits at most, each of which asks git and the server."""


def run_name() -> str:
    """Return the name a person recognises in the UI: the batch's own."""
    return str(flow_run.parameters["name"])


async def end_tasks(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Cancel the tasks of a batch that was cancelled."""
    async with get_client() as client:
        tasks = await BatchTasks.read(Admission(client), await client.read_flow_run(flow_run.id))
        await cancel_all(client, tasks, f"its batch is {state.name}")


@flow(name=FLOW, flow_run_name=run_name, on_cancellation=[end_tasks])
async def batch(  # noqa: PLR0917 - each parameter is a field of the form in the UI
    name: Annotated[str, Field(min_length=1, max_length=100)],
    tasks: Annotated[list[DevTask], Field(min_length=1)],
    max_tasks: Annotated[int, Field(ge=1)] | None = None,
    max_cost_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None,
    max_llm_calls: Annotated[int, Field(ge=1)] | None = None,
    max_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None,
    max_failures: Annotated[int, Field(ge=1)] | None = None,
    max_in_flight: Annotated[int, Field(ge=1, le=1_000)] = IN_FLIGHT,
    one_branch: str = "",
    pull_request: bool = False,
    github: str = "default",
    credentials: str = "default",
    runtime_block: str = "default",
    use_docker: bool = False,
) -> State[Any]:
    """Submit many tasks, a few at a time, and sum up what came of them.

    Each run of the flow is one look at the tasks; between two looks the batch is AwaitingTasks and holds no worker
    slot. Ends as Finished (every task has ended), Stopped (a limit was met before all were submitted) or Failed.

    Args:
        name: What the batch is called.
        tasks: The tasks, each with a task_id of its own in the batch.
        max_tasks: Tasks submitted; those that were there before do not count.
        max_cost_usd: US dollars spent by the batch's tasks together.
        max_llm_calls: Calls to models, by all tasks together.
        max_hours: Hours since the batch began, or was resumed.
        max_failures: Tasks that ended without a result.
        max_in_flight: Tasks that wait or run at the same time.
        one_branch: Name of a branch, new in each repository, that the accepted patches are put together on.
        pull_request: Push that branch to GitHub, and open a draft pull request.
        github: Name of a devtasks GitHub Credentials block, for the pull request.
        credentials: Name of an OpenRouter Credentials block.
        runtime_block: Name of an OpenHands Runtime block.
        use_docker: Work in a container, also where the runtime block says local.
    """
    flow_run_id = str(flow_run.id)
    try:
        return await _look(UUID(flow_run_id), OpenHandsConfig.from_env())
    except DevtasksError as error:
        get_run_logger().error("%s: %s", type(error).__name__, error)
        return Failed(message=str(error))


async def _look(batch_id: UUID, config: OpenHandsConfig) -> State[Any]:
    """Take one look, or another one later where the ledger cannot be reached."""
    async with claimed_folder(config, str(batch_id)) as folder, get_client() as client:
        admission = Admission(client, config.queue_max_size)
        try:
            async with Ledger.open(config.ledger_url) as ledger:
                return await Look(admission, ledger, folder, batch_id).take()
        except ServiceUnreachable as error:
            get_run_logger().warning("%s", error)
            await await_tasks(batch_id, str(error), LONGEST_LOOK)


@dataclass(frozen=True)
class Look:
    """One look at a batch, with what it needs of the server, the ledger and this machine."""

    admission: Admission
    ledger: Ledger
    folder: RunFolder
    batch_id: UUID

    @property
    def client(self) -> PrefectClient:
        """The client of the batch's server."""
        return self.admission.client

    async def take(self) -> State[Any]:
        """Submit what may be submitted, or cancel what waits where a limit is met; then show, and end or wait."""
        tasks, tally = await self.see()
        if tasks.order.pull_request and not tally.submitted:
            # Before anything is spent.
            await check_drafts(tasks.order)
        stop = self._stop(tasks, tally)
        if stop is None:
            await self._submit(tasks, tally)
        elif stop.cancels:
            await self.client.update_flow_run_labels(self.batch_id, {STOPPED_BY: stop.reason})
            await cancel_waiting(self.client, tasks, f"its batch was stopped: {stop.reason}")
        tasks, tally = await self.see()
        await show_progress(self.client, tasks, tally)
        get_run_logger().info("%s", describe(tally))
        if tally.number(OPEN) or (stop is None and tally.counts[Standing.NOT_SUBMITTED]):
            await await_tasks(self.batch_id, describe(tally), next_look(tally.seconds))
        return await self._finish(tasks, stop)

    def _stop(self, tasks: BatchTasks, tally: Tally) -> Stop | None:
        """Return what stopped the batch or stops it now; where nothing is left to be begun, no limit does."""
        if tasks.stopped_by:
            return Stop(tasks.stopped_by)
        left = tally.number((Standing.NOT_SUBMITTED, Standing.WAITING))
        return stop_of(tasks.order.limits, tally) if left else None

    async def see(self) -> tuple[BatchTasks, Tally]:
        """Return the batch's tasks as they stand now, and the batch in numbers."""
        found, now = await self.client.read_flow_run(self.batch_id), datetime.now(UTC)
        tasks = await BatchTasks.read(self.admission, found)
        since = tasks.since
        if since is None:
            since = now
            await self.client.update_flow_run_labels(found.id, {SINCE: now.isoformat()})
        own = tasks.own.values()
        usage = await self.ledger.usage([str(each.id) for each in own])
        tally = Tally(
            counts=count(tasks.standing(task) for task in tasks.order.tasks),
            submitted=len(own),
            ended_since=sum(each.end_time is not None and each.end_time >= since for each in own),
            seconds=(now - since).total_seconds(),
            llm_calls=usage.llm_calls,
            cost_usd=usage.cost_usd,
            simulated=usage.simulated,
        )
        return tasks, tally

    async def _submit(self, tasks: BatchTasks, tally: Tally) -> None:
        """Claim flow runs for the next tasks, write the claims down, and create what is not there yet."""
        order, room = tasks.order, admitted(tasks.order.limits, tally, await self.admission.room())
        others = {name: getattr(order, name) for name in ("credentials", "runtime_block", "use_docker")}
        claimed: list[tuple[DevTask, Claim]] = []
        for task in tasks.unsubmitted()[:_CLAIMS]:
            if sum(claim.origin is Origin.OWN for _, claim in claimed) >= room:
                break
            own = _of_batch(task, tasks)
            claimed.append((own, tasks.claims.get(task.task_id) or await self._claim(own, others)))
        await write_claims(self.client, tasks.batch, {task.task_id: claim for task, claim in claimed})
        for task, claim in claimed:
            if claim.origin is Origin.OWN:
                try:
                    await self.admission.create(task, claim.key, tags=[f"batch-{self.batch_id}"], **others)
                except InvalidInput as error:
                    refused = {task.task_id: Claim.refused(str(error))}
                    await write_claims(self.client, tasks.batch, refused)

    async def _claim(self, task: DevTask, others: dict[str, Any]) -> Claim:
        try:
            found = await self.admission.claim(task, **others)
        except InvalidInput as error:
            return Claim.refused(str(error))
        if isinstance(found, FlowRun):
            return Claim(Origin.THERE, found.idempotency_key or "")
        return Claim(Origin.OWN, found or "")

    async def _finish(self, tasks: BatchTasks, stop: Stop | None) -> State[Any]:
        """Sum up, in files, as an artifact, as an event, and in the state that ends the batch."""
        name, reason = (STOPPED, stop.reason) if stop else (FINISHED, "")
        summary = await summarise(self.client, tasks, state=name, reason=reason)
        branches = await merge_branches(tasks.order, summary, self.folder) if tasks.order.one_branch else ()
        summary = summary.model_copy(update={"ended_at": datetime.now(UTC), "branches": branches})
        await asyncio.to_thread(write_files, self.folder.path, summary)
        await show_summary(self.client, tasks.batch, summary)
        _announce(summary, tasks.since)
        counted = f"{summary.counted}{summary.mark}"
        return Completed(name=name, message=f"{reason}; {counted}" if reason else counted)


async def submit_batch(client: PrefectClient, order: BatchOrder, *, idempotency_key: str | None = None) -> FlowRun:
    """Create a batch's flow run and return it, or the one that has the key.

    Raises InvalidInput where the batch is too large for a flow run, or the server has no deployment of it.
    """
    try:
        deployment = await client.read_deployment_by_name(DEPLOYMENT)
    except ObjectNotFound:
        allowed = "a deployment of this server (run `devtasks setup` first)"
        raise InvalidInput("deployment", DEPLOYMENT, allowed) from None
    return await client.create_flow_run_from_deployment(
        deployment.id, parameters=order.parameters(), name=order.name, idempotency_key=idempotency_key
    )


def write_files(folder: Path, summary: BatchSummary) -> None:
    """Write a batch's summary into its folder, in every format, in place of an earlier one."""
    for form, name in FILES.items():
        (folder / name).write_text(render(summary, form), encoding="utf-8")


def _of_batch(task: DevTask, tasks: BatchTasks) -> DevTask:
    """Return a task with the batch's name, so that its limit of money holds in the gateway, not only between tasks."""
    if task.batch is not None:
        return task
    limits = task.limits.model_copy(update={"batch_cost_usd": tasks.order.limits.cost_usd})
    return task.model_copy(update={"batch": f"{tasks.order.name} {tasks.batch.id}", "limits": limits})


def _announce(summary: BatchSummary, since: datetime | None) -> None:
    """Emit the batch's end as an event, once however often it is emitted."""
    told = document(summary)
    counted = {name: told[name] for name in ("name", "state", "reason", "all_accepted", "simulated", "llm_calls")}
    emit_event(
        "devtasks.batch.finished",
        resource={"prefect.resource.id": f"devtasks.batch.{summary.batch_id}", "prefect.resource.name": summary.name},
        related=[{"prefect.resource.id": f"prefect.flow-run.{summary.batch_id}", "prefect.resource.role": "flow-run"}],
        payload={
            **counted,
            "cost_usd": summary.cost_usd,
            "tasks": len(summary.tasks),
            "counts": {str(standing): number for standing, number in summary.counts.items()},
        },
        id=uuid5(UUID(summary.batch_id), str(since)),
    )
