"""What the GitHub Action does: tests for the modules that a pull request changes, with a stack that goes with the job.

The stack is a server, a worker and an OpenRouter Credentials block made from the environment, as `devtasks up` has
them. Every accepted result is left as a patch; nothing is pushed.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployments.console import say, show_progress, until_signal
from deployments.execution_engine import ExecutionEngine
from devtasks.config import OpenHandsConfig
from devtasks.errors import DevtasksError, InvalidInput
from devtasks.github import MAX_BODY
from devtasks.report import DELIVERED, TaskReport, pull_request_text, verdict_markdown
from devtasks.task import DevTask, TaskCategory
from devtasks.untested import changed_files, modules
from devtasks.workspace.git import Git

COMMENT, REPORTS = "comment.md", "reports.json"
INTERRUPTED = 130


@dataclass(frozen=True)
class Options:
    """What the action is told: where, what, how much; `summary` and `output` are files that GitHub reads."""

    repository: Path
    base: str
    folder: Path
    summary: Path
    output: Path
    max_tasks: int
    max_cost_usd: float


def main() -> int:
    """Run the action; 0 once every task has ended, however it did: the summary says how."""
    options = _read_options()
    tasks, left_out = find_tasks(options)
    reports = until_signal(_run(tasks)) if tasks else []
    if reports is None:
        return INTERRUPTED
    write(options, reports, left_out)
    return 0


def _read_options() -> Options:
    parser = argparse.ArgumentParser(prog="github-action", description="Generate tests for what a pull request changes")
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--base", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--summary", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--max-tasks", type=int, required=True)
    parser.add_argument("--max-cost-usd", type=float, required=True)
    options = Options(**vars(parser.parse_args()))
    if options.max_tasks < 1:
        raise InvalidInput("max-tasks", options.max_tasks, "a whole number from 1")
    return options


def find_tasks(options: Options) -> tuple[list[DevTask], list[str]]:
    """Return a task for each changed module, as many as may be, and the modules for which there is none."""
    repository = options.repository.resolve()
    git = Git.at(repository)
    commit = git.line("rev-parse", "HEAD")
    changed = modules(changed_files(repository, commit, options.base), lambda path: git.run("show", f"{commit}:{path}"))
    tasks = [
        DevTask.parse(
            task_id="new",
            category=TaskCategory.UNIT_TEST,
            description=f"Write unit tests for {path}.",
            repository=str(repository),
            target_file=path,
            base_ref=commit,
            limits={"cost_usd": options.max_cost_usd},
        )
        for path in changed[: options.max_tasks]
    ]
    return tasks, list(changed[options.max_tasks :])


async def _run(tasks: Sequence[DevTask]) -> list[TaskReport]:
    async with ExecutionEngine(OpenHandsConfig.from_env(), 1, say=say) as engine:
        entered = [await engine.submit_task(task) for task in tasks]
        return [await show_progress(engine.queue.client, each.flow_run, quiet=False) for each in entered]


def write(options: Options, reports: Sequence[TaskReport], left_out: Sequence[str]) -> None:
    """Write the summary, the comment, the patches, all reports as JSON, and the action's outputs."""
    options.folder.mkdir(parents=True, exist_ok=True)
    delivered = [report for report in reports if report.outcome in DELIVERED]
    for number, report in enumerate(delivered, 1):
        if report.diff_path:
            name = report.title.rsplit(" ", 1)[-1].replace("/", "-")
            shutil.copyfile(report.diff_path, options.folder / f"{number}-{name}.patch")
    head = f"devtasks wrote tests for {len(delivered)} of {len(reports) + len(left_out)} changed modules.\n"
    head += "".join(f"\n- `{path}` was left out: one pull request has no more tasks" for path in left_out)
    texts = [pull_request_text(report)[1] for report in reports]
    comment = "\n\n---\n\n".join([head, *texts])
    (options.folder / COMMENT).write_text(comment[:MAX_BODY])
    documents = ",\n".join(report.model_dump_json(indent=2) for report in reports)
    (options.folder / REPORTS).write_text(f"[{documents}]\n")
    with options.summary.open("a") as summary:
        summary.write("\n\n".join([head, *map(verdict_markdown, reports)]) + "\n")
    with options.output.open("a") as output:
        output.write(f"folder={options.folder}\naccepted={len(delivered)}\ntasks={len(reports)}\n")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DevtasksError as error:
        sys.stderr.write(f"devtasks: {error}\n")
        sys.exit(error.exit_code)
