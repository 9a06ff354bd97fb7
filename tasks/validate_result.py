"""The step that judges what the agent left behind."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from prefect import get_run_logger, task

from devtasks import workspace as git
from devtasks.allowed_paths import AllowedPaths
from devtasks.evidence import DIFF
from devtasks.task import DevTask
from devtasks.validation.result import Finding, ValidationLevel, ValidationResult
from devtasks.validation.rule import ValidationContext
from devtasks.validation.validator import ResultValidator
from devtasks.workspace import Patch
from tasks.options import RETRIED
from tasks.prepare_workspace import Prepared
from tasks.run import Run

_RULE = "allowed_paths"
_LISTED = 10


@task(name="validate-result", task_run_name="validate-result #{attempt}", **RETRIED)
async def validate_result(run: Run, prepared: Prepared, attempt: int) -> tuple[Patch, ValidationResult]:
    """Return the workspace's change and the verdict on it, whatever the agent said of its work."""
    logger = get_run_logger()
    patch = await keep_change(run, prepared, attempt)
    if run.gateway.refusal and not (patch.changes or patch.reverted):
        refusal = run.gateway.refusal
        finding = Finding("model", ValidationLevel.ERROR, f"the model's call was refused: {refusal.message}")
        return patch, ValidationResult(passed=False, score=0.0, findings=(finding,))
    # What is judged is what would be delivered: files that git ignores, such as a planted conftest.py, are gone.
    await asyncio.to_thread(git.reset, prepared.workspace, patch.tree)
    context = ValidationContext(
        task=run.task,
        workspace=prepared.workspace.path,
        changes=patch.changes,
        baseline=prepared.baseline,
        runner=run.runtime,
        scratch=run.folder.scratch(f"validation-{attempt}"),
        python=prepared.environment.python,
        before=partial(git.read_bytes, prepared.workspace),
    )
    verdict = await ResultValidator().validate(context)
    if verdict.cut:
        patch = await asyncio.to_thread(git.diff, prepared.workspace, AllowedPaths.of(run.task).allows)
    if patch.reverted:
        verdict = replace(verdict, findings=(*_reverted(run.task, patch), *verdict.findings))
    if patch.left_out:
        verdict = _incomplete(verdict, patch)
    verdict = replace(verdict, findings=tuple(_without_secrets(run, each) for each in verdict.findings))
    for finding in verdict.findings:
        log = logger.info if finding.level is ValidationLevel.INFO else logger.warning
        log(
            "finding: %s %s%s: %s",
            finding.level,
            finding.rule,
            f" {finding.place}" if finding.place else "",
            finding.message,
        )
    logger.info("verdict: %s, score %.2f", "passed" if verdict.passed else "not passed", verdict.score)
    return patch, verdict


async def keep_change(run: Run, prepared: Prepared, attempt: int) -> Patch:
    """Return the workspace's change as far as the task allows it, written into the attempt's evidence."""
    patch = await asyncio.to_thread(git.diff, prepared.workspace, AllowedPaths.of(run.task).allows)
    git.deliver_patch(patch, run.folder.attempt(attempt) / DIFF)
    return patch


def _without_secrets(run: Run, finding: Finding) -> Finding:
    """Return a finding, which may quote what the agent wrote or printed, as it may be logged and kept."""
    message, evidence = run.redactor.text(finding.message), run.redactor.value(finding.evidence)
    return replace(finding, message=message, evidence=evidence)


def _reverted(task: DevTask, patch: Patch) -> Iterator[Finding]:
    """Name the changes that the task does not allow; the rest is judged without them."""
    allowed = AllowedPaths.of(task)
    for change in patch.reverted[:_LISTED]:
        message = f"{change.path} was {change.status}, which the task does not allow: put back (allowed: {allowed})"
        yield Finding(_RULE, ValidationLevel.WARNING, message, change.path)
    if (more := len(patch.reverted) - _LISTED) > 0:
        yield Finding(_RULE, ValidationLevel.WARNING, f"and {more} more changes that are not allowed were put back")


def _incomplete(verdict: ValidationResult, patch: Patch) -> ValidationResult:
    """Return the verdict on a change of which git cannot take every file: it does not pass."""
    message = f"these cannot be delivered (embedded repository, or a name git refuses): {', '.join(patch.left_out)}"
    finding = Finding("deliverable", ValidationLevel.ERROR, message)
    return ValidationResult(passed=False, score=verdict.score, findings=(finding, *verdict.findings))
