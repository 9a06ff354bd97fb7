"""What a batch shows in the UI while it goes on, each artifact in one place, and at its end."""

import json
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun
from pydantic import TypeAdapter

from devtasks.batch.rendering import Format, render
from devtasks.batch.standing import Standing, Tally
from devtasks.batch.summary import BatchSummary, MergedBranch
from flows.batch_tasks import BatchTasks

PROGRESS, TASKS, SUMMARY, BRANCHES = "batch-progress", "batch-tasks", "batch-summary", "batch-branches"

_BRANCHES = TypeAdapter(tuple[MergedBranch, ...])


async def show_progress(client: PrefectClient, tasks: BatchTasks, tally: Tally) -> None:
    """Show how far a batch has come: a bar with the numbers, and a table of its tasks."""
    done = 100 * tally.ended / tally.total
    await _put(client, tasks.batch, PROGRESS, "progress", done, description=describe(tally))
    rows = [
        {
            "task": task.task_id,
            "title": task.title,
            "stands": str(tasks.standing(task)),
            "flow run": str(tasks.flow_runs[task.task_id].id) if task.task_id in tasks.flow_runs else "",
        }
        for task in tasks.order.tasks
    ]
    await _put(client, tasks.batch, TASKS, "table", json.dumps(rows), description="Where each task stands")


async def show_summary(client: PrefectClient, batch: FlowRun, summary: BatchSummary) -> None:
    """Show what came of a batch."""
    text = render(summary, Format.MARKDOWN)
    await _put(client, batch, SUMMARY, "markdown", text, description=f"Summary{summary.mark}")
    branches = _BRANCHES.dump_json(summary.branches).decode()
    await _put(client, batch, BRANCHES, "json", branches, description="For machines: the merged branches")


async def read_branches(client: PrefectClient, batch: FlowRun) -> tuple[MergedBranch, ...]:
    """Return the branches that a batch has made."""
    found = await client.read_artifacts(artifact_filter=_of(batch, BRANCHES))
    return _BRANCHES.validate_json(str(found[0].data)) if found else ()


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


async def _put(client: PrefectClient, batch: FlowRun, key: str, kind: str, data: Any, *, description: str) -> None:
    """Write an artifact of a batch in place of the one it has, also where another process made that."""
    if found := await client.read_artifacts(artifact_filter=_of(batch, key)):
        await client.update_artifact(found[0].id, ArtifactUpdate(data=data, description=description))
        return
    made = ArtifactCreate(key=key, type=kind, data=data, description=description, flow_run_id=batch.id)
    await client.create_artifact(made)


def _of(batch: FlowRun, key: str) -> ArtifactFilter:
    return ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[batch.id]), key=ArtifactFilterKey(any_=[key]))
