"""The step that writes down one attempt, whatever its end."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from prefect import task

from devtasks.errors import DevtasksError
from devtasks.evidence import DIFF, keep_attempt
from devtasks.execution.runtime import AgentResult
from devtasks.metrics_collector import ExecutionMetrics
from devtasks.recovery import FailureKind
from devtasks.validation.result import ValidationResult
from tasks.options import RETRIED
from tasks.prepare_workspace import Prepared
from tasks.run import Run, is_cancelled
from tasks.run_openhands import Assignment
from tasks.validate_result import keep_change


@dataclass(frozen=True)
class AttemptEnd:
    """How an attempt ended; `agent` and `verdict` are None where it did not get that far."""

    assignment: Assignment
    started_at: datetime
    seconds: float
    agent: AgentResult | None
    verdict: ValidationResult | None
    failure: FailureKind | None


@task(name="record-metrics", task_run_name="record-metrics #{end.assignment.attempt}", **RETRIED)
async def record_metrics(run: Run, end: AttemptEnd) -> ExecutionMetrics:
    """Write the attempt into the run's folder, and with its calls into the ledger."""
    return await write_metrics(run, end)


async def write_broken_off(run: Run, prepared: Prepared, end: AttemptEnd, error: BaseException) -> None:
    """Write down an attempt that `error` broke off, and its change so far, unless another process goes on with it."""
    failed, attempt = isinstance(error, Exception), end.assignment.attempt
    if not failed and await is_cancelled(run.flow_run_id):
        failed, end = True, replace(end, failure=FailureKind.CANCELLED)
    # While it was judged its change was kept already, and the suite has written into the workspace since.
    if failed and (end.agent is None or not (run.folder.attempt(attempt) / DIFF).exists()):
        with suppress(DevtasksError):
            await keep_change(run, prepared, attempt)
    with suppress(DevtasksError):  # the ledger may have gone with the rest; what ended the attempt is what counts
        await write_metrics(run, end)


async def write_metrics(run: Run, end: AttemptEnd) -> ExecutionMetrics:
    """Write the attempt and its calls down, outside any Prefect task: also when the run is being ended."""
    assignment, agent, verdict, failure = end.assignment, end.agent, end.verdict, end.failure
    calls = run.gateway.calls_of(assignment.attempt)
    served = [call.model_served for call in calls if call.model_served]
    metrics = ExecutionMetrics(
        task_id=run.task.task_id,
        flow_run_id=run.flow_run_id,
        attempt=assignment.attempt,
        category=run.task.category,
        target_file=run.task.target_file,
        model_requested=next(iter(run.gateway.lineup), assignment.lineup[0].model_id),
        model_served=served[-1] if served else None,
        simulated=run.simulated or any(call.simulated for call in calls),
        isolation=run.runtime.isolation,
        outcome="accepted" if failure is None else "rejected" if failure is FailureKind.REJECTED else "failed",
        failure=failure,
        score=verdict.score if verdict else 0.0,
        findings=verdict.findings if verdict else (),
        llm_calls=len(calls),
        rotations=run.gateway.rotations,
        iterations=agent.iterations if agent else 0,
        prompt_tokens=sum(call.prompt_tokens for call in calls),
        completion_tokens=sum(call.completion_tokens for call in calls),
        cost_usd=sum(call.cost_usd for call in calls),
        started_at=end.started_at,
        seconds=end.seconds,
    )
    await asyncio.to_thread(keep_attempt, run.folder, metrics, agent.final_message if agent else "")
    await run.ledger.record_calls(calls)
    await run.ledger.record_attempt(metrics)
    return metrics
