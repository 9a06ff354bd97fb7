"""A batch's tasks on the server: by which keys they are found, where they stand, what came of them.

Nothing of this lies in a file. What a batch is asked to do are its flow run's parameters; which flow run is whose is
written down in the batch's labels as the run's idempotency key, before the run is created. A process that is killed in
between leaves the key, by which the next one creates the run: nothing is lost, and nothing is there twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled, Cancelling

from devtasks.batch.order import BatchOrder
from devtasks.batch.standing import Standing
from devtasks.batch.summary import BatchSummary, BatchTask, MergedBranch
from devtasks.report import TaskReport
from devtasks.task import DevTask, TaskStatus
from flows.admission import Admission
from flows.reports import read_reports

SINCE = "devtasks.batch.since"
"""The label with the time since when a batch goes on: its first look, or its last being resumed."""

STOPPED_BY = "devtasks.batch.stopped-by"
"""The label with the limit that stopped a batch, empty where none has since it was resumed."""

_ENTRY = "devtasks.entry."
_REASON = 300


class Origin(StrEnum):
    """How a task of a batch came to its flow run, or why it has none."""

    OWN = "own"
    THERE = "there"
    REFUSED = "refused"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True)
class Claim:
    """A task's flow run by its idempotency key; where it was refused, `key` says why."""

    origin: Origin
    key: str = ""

    @property
    def label(self) -> str:
        """The claim as the label that keeps it."""
        return f"{self.origin} {self.key}"

    @classmethod
    def of(cls, label: object) -> "Claim":
        """Return the claim that a label keeps."""
        origin, _, key = str(label).partition(" ")
        return cls(Origin(origin), key)

    @classmethod
    def refused(cls, reason: str) -> "Claim":
        """Return the claim of a task that cannot be submitted."""
        return cls(Origin.REFUSED, " ".join(reason.split())[:_REASON])


@dataclass
class BatchTasks:
    """A batch's tasks, the claims on their flow runs, and those flow runs, by the tasks' names."""

    batch: FlowRun
    order: BatchOrder
    claims: dict[str, Claim] = field(default_factory=dict[str, Claim])
    flow_runs: dict[str, FlowRun] = field(default_factory=dict[str, FlowRun])

    @classmethod
    async def read(cls, admission: Admission, batch: FlowRun) -> "BatchTasks":
        """Return a batch's tasks as they stand; raise InvalidInput where its parameters make no batch."""
        claims = {
            name.removeprefix(_ENTRY): claim
            for name, label in (batch.labels or {}).items()
            if name.startswith(_ENTRY) and (claim := Claim.of(label)).origin is not Origin.FORGOTTEN
        }
        tasks = cls(batch, BatchOrder.of(batch.parameters or {}), claims)
        keys = {name: claim.key for name, claim in claims.items() if claim.origin is not Origin.REFUSED}
        found = await admission.by_keys(list(set(keys.values())))
        tasks.flow_runs = {name: found[key] for name, key in keys.items() if key in found}
        return tasks

    @property
    def own(self) -> Mapping[str, FlowRun]:
        """The flow runs that the batch has submitted itself."""
        return {name: each for name, each in self.flow_runs.items() if self.claims[name].origin is Origin.OWN}

    @property
    def since(self) -> datetime | None:
        """When the batch began, or was last resumed."""
        label = (self.batch.labels or {}).get(SINCE)
        return datetime.fromisoformat(str(label)) if label else None

    @property
    def stopped_by(self) -> str:
        """The limit that has stopped the batch, in words; empty where none has."""
        return str((self.batch.labels or {}).get(STOPPED_BY) or "")

    def standing(self, task: DevTask) -> Standing:
        """Return where one task stands."""
        claim = self.claims.get(task.task_id)
        if claim and claim.origin is Origin.REFUSED:
            return Standing.REFUSED
        flow_run = self.flow_runs.get(task.task_id)
        return standing_of(flow_run) if flow_run else Standing.NOT_SUBMITTED

    def unsubmitted(self) -> Sequence[DevTask]:
        """Return the tasks that have no flow run yet, those that are claimed already first."""
        without = [task for task in self.order.tasks if self.standing(task) is Standing.NOT_SUBMITTED]
        return sorted(without, key=lambda task: task.task_id not in self.claims)


async def write_claims(client: PrefectClient, batch: FlowRun, claims: Mapping[str, Claim]) -> None:
    """Keep claims in the batch's labels, in place of earlier ones on the same tasks."""
    if claims:
        labels: dict[str, Any] = {f"{_ENTRY}{name}": claim.label for name, claim in claims.items()}
        await client.update_flow_run_labels(batch.id, labels)


async def cancel_waiting(client: PrefectClient, tasks: BatchTasks, reason: str) -> None:
    """Cancel those of the batch's own tasks that no worker has at the moment."""
    for flow_run in tasks.own.values():
        if flow_run.state and flow_run.state.is_scheduled():
            await client.set_flow_run_state(flow_run.id, Cancelled(message=reason))


async def cancel_all(client: PrefectClient, tasks: BatchTasks, reason: str) -> None:
    """Cancel all of the batch's own tasks that have not ended, those that run too."""
    await cancel_waiting(client, tasks, reason)
    for flow_run in tasks.own.values():
        now = await client.read_flow_run(flow_run.id)
        if not (now.state and now.state.is_final()):
            await client.set_flow_run_state(flow_run.id, Cancelling(message=reason))


def standing_of(flow_run: FlowRun) -> Standing:
    """Return where a task stands by its flow run's state."""
    state = flow_run.state
    if state is None:
        return Standing.WAITING
    return _BY_NAME.get(state.name or "") or _BY_TYPE[state.type]


_BY_NAME: Mapping[str, Standing] = {
    TaskStatus.ACCEPTED: Standing.ACCEPTED,
    TaskStatus.APPROVED: Standing.APPROVED,
    TaskStatus.REJECTED: Standing.REJECTED,
}

_BY_TYPE: Mapping[StateType, Standing] = {
    StateType.SCHEDULED: Standing.WAITING,
    StateType.PENDING: Standing.RUNNING,
    StateType.RUNNING: Standing.RUNNING,
    StateType.CANCELLING: Standing.RUNNING,
    StateType.PAUSED: Standing.NEEDS_REVIEW,
    StateType.COMPLETED: Standing.UNVERIFIED,
    StateType.FAILED: Standing.FAILED,
    StateType.CANCELLED: Standing.CANCELLED,
    StateType.CRASHED: Standing.CRASHED,
}


async def summarise(
    client: PrefectClient, tasks: BatchTasks, *, state: str, reason: str, branches: Sequence[MergedBranch] = ()
) -> BatchSummary:
    """Return what came of a batch, or has so far."""
    names = list(tasks.flow_runs)
    reports = dict(zip(names, await read_reports(client, [tasks.flow_runs[name] for name in names]), strict=True))
    return BatchSummary(
        batch_id=str(tasks.batch.id),
        name=tasks.order.name,
        state=state,
        reason=reason,
        tasks=tuple(_summed_up(tasks, task, reports.get(task.task_id)) for task in tasks.order.tasks),
        started_at=tasks.batch.start_time,
        ended_at=tasks.batch.end_time,
        branches=tuple(branches),
    )


def _summed_up(tasks: BatchTasks, task: DevTask, report: TaskReport | None) -> BatchTask:
    claim = tasks.claims.get(task.task_id)
    known = BatchTask(
        task_id=task.task_id,
        title=task.title,
        category=task.category,
        target_file=task.target_file,
        repository=task.repository,
        standing=tasks.standing(task),
        reason=claim.key if claim and claim.origin is Origin.REFUSED else "",
    )
    if report is None:
        return known
    last = report.attempts[-1] if report.attempts else None
    return known.model_copy(
        update={
            "reason": report.reason,
            "flow_run_id": report.flow_run_id,
            "was_there": claim is not None and claim.origin is Origin.THERE,
            "failure": last.failure if last else None,
            "attempts": len(report.attempts),
            "llm_calls": sum(each.llm_calls for each in report.attempts),
            "tokens": sum(each.prompt_tokens + each.completion_tokens for each in report.attempts),
            "cost_usd": sum(each.cost_usd for each in report.attempts),
            "seconds": sum(each.seconds for each in report.attempts),
            "score": last.score if last else None,
            "model": last.model_served if last else None,
            "simulated": report.simulated,
            "diff_path": report.diff_path,
            "branch": report.branch,
        }
    )
