"""What a batch shows in the UI while it goes on, each artifact in one place, and at its end."""

import json
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun

from devtasks.batch.rendering import Format, render
from devtasks.batch.standing import Standing, Tally
from devtasks.batch.summary import BatchSummary
from flows.batch_tasks import BatchTasks

PROGRESS, TASKS, SUMMARY = "batch-progress", "batch-tasks", "batch-summary"


async def show_progress(client: PrefectClient, tasks: BatchTasks, tally: Tally) -> None:
    """Show how far a batch has come: a bar with the numbers, and a table of its tasks."""
    done = 100 * tally.ended / tally.total
    await _put(client, _artifact(tasks.batch, PROGRESS, "progress", done, describe(tally)))
    rows = [
        {
            "task": task.task_id,
            "title": task.title,
            "stands": str(tasks.standing(task)),
            "flow run": str(tasks.flow_runs[task.task_id].id) if task.task_id in tasks.flow_runs else "",
        }
        for task in tasks.order.tasks
    ]
    await _put(client, _artifact(tasks.batch, TASKS, "table", json.dumps(rows), "Where each task stands"))


async def show_summary(client: PrefectClient, batch: FlowRun, summary: BatchSummary) -> None:
    """Show what came of a batch."""
    text = render(summary, Format.MARKDOWN)
    await _put(client, _artifact(batch, SUMMARY, "markdown", text, f"Summary{summary.mark}"))


def describe(tally: Tally) -> str:
    """Return a batch's numbers in one line."""
    counts = ", ".join(f"{number} {standing}" for standing in Standing if (number := tally.counts[standing]))
    left = tally.eta_seconds
    eta = "time left not known yet" if left is None else f"about {_duration(left)} left"
    mark = " (simulated)" if tally.simulated else ""
    money = f"{tally.llm_calls} calls, ${tally.cost_usd:.4f}{mark}"
    return (
        f"{tally.ended} of {tally.total} tasks ended: {counts}; {money}; {eta if tally.ended < tally.total else 'done'}"
    )


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


async def _put(client: PrefectClient, artifact: ArtifactCreate) -> None:
    """Write an artifact of a batch in place of the one it has, also where another process made that."""
    the_same = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[artifact.flow_run_id] if artifact.flow_run_id else []),
        key=ArtifactFilterKey(any_=[artifact.key or ""]),
    )
    if found := await client.read_artifacts(artifact_filter=the_same):
        update = ArtifactUpdate(data=artifact.data, description=artifact.description)
        await client.update_artifact(found[0].id, update)
    else:
        await client.create_artifact(artifact)


def _artifact(batch: FlowRun, key: str, kind: str, data: Any, description: str) -> ArtifactCreate:
    return ArtifactCreate(key=key, type=kind, data=data, description=description, flow_run_id=batch.id)
