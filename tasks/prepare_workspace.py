"""The step that makes the run's own copy of the repository and measures it untouched."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from prefect import get_run_logger, task

from devtasks import workspace
from devtasks.config import OpenHandsConfig
from devtasks.environments import ProjectEnvironment, project_environment
from devtasks.execution.docker import DockerRuntime
from devtasks.execution.local import HOME
from devtasks.prompt import task_prompt
from devtasks.validation.baseline import Baseline, measure_baseline
from devtasks.workspace import Workspace
from tasks.options import RETRIED
from tasks.run import Run


@dataclass(frozen=True)
class Prepared:
    """A workspace at the base commit, where its tests run, what they do before any change, and the prompt it gives."""

    workspace: Workspace
    environment: ProjectEnvironment
    baseline: Baseline
    prompt: str


async def _environment(run: Run, made: Workspace, cache: Path) -> ProjectEnvironment:
    logger = get_run_logger()
    builder = run.runtime.builder(cache) if isinstance(run.runtime, DockerRuntime) else None
    environment = await project_environment(run.task, made, cache, run.folder.work / HOME, logger.info, builder=builder)
    if environment.folder:
        logger.info("the project's environment: %s, from %s", environment.folder, environment.described_by)
    return environment


@task(name="prepare-workspace", **RETRIED)
async def prepare_workspace(run: Run) -> Prepared:
    """Clone the repository into the run's folder at the base commit, and measure what its suite covers so far."""
    logger = get_run_logger()
    config = OpenHandsConfig.from_env()
    made = await asyncio.to_thread(workspace.prepare, run.task, run.folder.work, config.repositories_folder)
    logger.info("workspace: %s at %s, isolation %s", run.task.repository, made.base_commit[:12], run.runtime.isolation)
    environment = await _environment(run, made, config.environments_folder)
    show_environment(run, environment)
    baseline = await measure_baseline(
        run.task, made.path, run.runtime, run.folder.scratch("baseline"), environment.python
    )
    covered = f", {run.task.target_file} covered {baseline.coverage.percent}" if baseline.coverage else ""
    logger.info("baseline: suite %s, %d tests passed%s", baseline.suite, len(baseline.passed), covered)
    if baseline.import_error:
        logger.warning("the target cannot be imported here: %s", baseline.import_error)
    files = await asyncio.to_thread(workspace.list_files, made)
    prompt = task_prompt(run.task, made.path, files, lambda name: workspace.read_file(made, name))
    return Prepared(made, environment, baseline, prompt)


def show_environment(run: Run, environment: ProjectEnvironment) -> None:
    """Let the run's sandbox read the project's environment; before anything runs in there."""
    if environment.folder:
        run.runtime.show(environment.folder)
