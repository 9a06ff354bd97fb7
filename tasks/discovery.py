"""Finding a batch's tasks in a project; what no report says of its coverage is measured as a task would measure it."""

import ast
import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from devtasks.batch.coverage_files import read_coverage
from devtasks.batch.discovery import Found, changed, complex_functions, modules, uncovered, undocumented
from devtasks.batch.selection import Rule
from devtasks.errors import InvalidInput
from devtasks.task import DevTask, TaskCategory
from devtasks.validation.conventions import MAX_SOURCE_BYTES
from devtasks.validation.docstrings import parse
from devtasks.validation.reports import read_bounded
from devtasks.validation.suite_runner import SuiteRunner
from devtasks.workspace import check_repository
from tasks.project import open_project


@dataclass(frozen=True)
class Options:
    """What the rules are asked with: a covered part from 0 to 1 and a report of it, a ref, a number of paths."""

    threshold: float = 0.8
    coverage: Path | None = None
    since: str = "HEAD~1"
    complexity: int = 10


async def discover_tasks(
    rule: Rule,
    root: Path,
    options: Options,
    *,
    docker: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[DevTask, ...]:
    """Return the tasks that a rule finds in a checkout (an absolute path), in the order in which they matter.

    Raises InvalidInput for a folder that is no repository or an option that is not allowed, and what measuring raises.
    """
    if not 0 < options.threshold <= 1:
        raise InvalidInput("--threshold", options.threshold, "a number above 0, up to 1")
    if options.complexity < 1:
        raise InvalidInput("--complexity", options.complexity, "a whole number from 1")
    whole = DevTask.parse(
        task_id="discover", category=TaskCategory.ANALYSIS, description="find tasks", repository=str(root)
    )
    await asyncio.to_thread(check_repository, whole)
    found = await _found(rule, root, whole, options, docker=docker, say=say)
    return tuple(
        DevTask.parse(
            task_id=str(number),
            category=each.category,
            description=each.description,
            repository=str(root),
            target_file=each.path,
        )
        for number, each in enumerate(found, 1)
    )


async def _found(
    rule: Rule, root: Path, whole: DevTask, options: Options, *, docker: bool, say: Callable[[str], None]
) -> tuple[Found, ...]:
    match rule:
        case Rule.CHANGED:
            return await asyncio.to_thread(changed, root, options.since)
        case Rule.UNDOCUMENTED:
            return await asyncio.to_thread(undocumented, root)
        case Rule.COMPLEX:
            return await complex_functions(root, options.complexity)
        case Rule.UNCOVERED:
            known = await asyncio.to_thread(modules, root)
            if options.coverage:
                parts = await asyncio.to_thread(read_coverage, options.coverage, root)
            else:
                parts = await _measured(whole, known, docker=docker, say=say)
            return uncovered(
                {path: parts.get(path, 0.0) for path in known if _has_code(root / path)}, options.threshold
            )


async def _measured(
    task: DevTask, known: tuple[str, ...], *, docker: bool, say: Callable[[str], None]
) -> Mapping[str, float]:
    """Return how much of each file the project's suite runs at the commit, in its own environment and sandbox."""
    async with open_project(task, docker=docker, say=say) as project:
        say(f"measuring what the tests cover at {project.made.base_commit[:12]}, isolation {project.runtime.isolation}")
        scratch = project.folder.scratch("coverage")
        suite = SuiteRunner.of(task, project.made.path, project.runtime, scratch, project.python)
        run, covered = await suite.measured_run((), known, keep_going=True)
        if run.timed_out:
            raise InvalidInput("--discover", str(Rule.UNCOVERED), f"a suite that ends within {suite.seconds:g} s")
    return {path: each.fraction for path, each in covered.items()}


def _has_code(path: Path) -> bool:
    """Whether there is anything in a file that could be covered."""
    tree = parse(read_bounded(path, MAX_SOURCE_BYTES) or b"")
    return tree is not None and any(
        not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in tree.body
    )
