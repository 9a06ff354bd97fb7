"""The steps that hand a result to people: the patch or branch, and the report as artifacts."""

import asyncio
from dataclasses import dataclass
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import Artifact, acreate_markdown_artifact, acreate_table_artifact

from devtasks import workspace as git
from devtasks.report import TaskReport, attempt_rows, delivered_message, diff_markdown, verdict_markdown
from devtasks.task import Delivery
from devtasks.validation.result import ValidationResult
from devtasks.workspace import Identity, Patch, Workspace
from tasks.options import RETRIED
from tasks.run import Run

REPORT_KEY = "report"
"""The key of the artifact that holds the whole report as JSON."""

COLUMNS = ("attempt", "model", "outcome", "score", "calls", "tokens", "cost", "seconds")


@dataclass(frozen=True)
class Delivered:
    """Where an accepted result went; `branch` and `commit` unless only a patch was asked for."""

    patch_path: str
    branch: str | None = None
    commit: str | None = None
    pull_request: str | None = None


@task(name="deliver-result", **RETRIED)
async def deliver_result(run: Run, workspace: Workspace, patch: Patch, verdict: ValidationResult) -> Delivered:
    """Write the patch file, and unless only that is asked for commit it on a new branch; no checkout is touched."""
    path = git.deliver_patch(patch, run.folder.path / "result.patch")
    if run.task.delivery is Delivery.PATCH:
        get_run_logger().info("delivered: %s", path)
        return Delivered(str(path))
    made = await asyncio.to_thread(
        git.deliver_branch,
        workspace,
        patch,
        branch=f"devtasks/{run.task.category}-{run.task.task_id[:8]}",
        message=commit_message(run, verdict),
        author=Identity(run.settings.author_name, run.settings.author_email),
    )
    get_run_logger().info("delivered: branch %s, commit %s", made.branch, made.commit[:12])
    return Delivered(str(path), made.branch, made.commit)


@task(name="publish-report", **RETRIED)
async def publish_report(run: Run, report: TaskReport, diff: str) -> None:
    """Put the verdict, the diff without secrets, the metrics and the whole report on the run as artifacts."""
    await acreate_markdown_artifact(verdict_markdown(report), key="verdict", description=f"Verdict{report.mark}")
    await acreate_markdown_artifact(
        run.redactor.text(diff_markdown(diff, simulated=report.simulated)),
        key="diff",
        description=f"Diff{report.mark}",
    )
    rows: list[dict[str, Any]] = [dict(zip(COLUMNS, row, strict=True)) for row in attempt_rows(report.attempts)]
    await acreate_table_artifact(rows, key="metrics", description=f"Metrics by attempt{report.mark}")
    artifact = Artifact(type="json", key=REPORT_KEY, description="For machines", data=report.model_dump(mode="json"))
    await artifact.acreate()


def commit_message(run: Run, verdict: ValidationResult) -> str:
    """Return the message of a delivered commit."""
    return delivered_message(
        task=run.task,
        flow_run_id=run.flow_run_id,
        model=run.gateway.calls[-1].model_served if run.gateway.calls else None,
        score=verdict.score,
        passed=verdict.passed,
        simulated=run.simulated,
    )
