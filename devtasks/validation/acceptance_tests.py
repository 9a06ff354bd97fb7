"""The tests that a task names: they are as they were, each ran, and each passes."""

import ast
from collections.abc import Iterator
from pathlib import PurePosixPath

from devtasks.validation.assertions import read_proofs
from devtasks.validation.conventions import (
    MAX_SOURCE_BYTES,
    TEST_FOLDERS,
    defined_tests,
    is_test_file,
    read_tests,
)
from devtasks.validation.docstrings import parse
from devtasks.validation.junit import Case, CaseOutcome
from devtasks.validation.pytest_options import kept_options
from devtasks.validation.reports import read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import ValidationContext
from devtasks.validation.shown import Shown
from devtasks.validation.suite_comparison import failures
from devtasks.validation.suite_runner import SuiteRun
from devtasks.validation.words import listed
from devtasks.workspace import Change, ChangeStatus

SELECTING = ("-k", "-m", "--deselect", "--ignore", "--ignore-glob")
"""Options of a project's own that leave tests out."""

PLATFORM = frozenset({"sys", "os", "platform"})
"""Modules a condition may ask whether to skip a test: they are not of the change."""


async def shown_by_tests(context: ValidationContext, rule: str) -> Shown:
    """Run the task's acceptance tests alone."""
    paths = acceptance_paths(context)
    if edited := tuple(_edited(context, paths, rule)):
        return Shown(0, edited, {})
    run, ran = await context.suite.measured_run(paths, context.sources)
    if run.problem:
        message = f"the run of the acceptance tests {listed(paths)} {run.problem}"
        return Shown(0, (Finding(rule, ValidationLevel.ERROR, message, evidence=run.evidence or None),), ran)
    passed = sum(case.outcome is CaseOutcome.PASSED for case in run.cases)
    findings = (*failures(run.bad, rule, ""), *_left_out(context, paths, run, rule))
    if not passed and not run.bad:
        message = f"no acceptance test of {listed(paths)} passed: none ran to its end"
        findings += (Finding(rule, ValidationLevel.ERROR, message, evidence=run.evidence or None),)
    return Shown(passed / max(1, passed + len(run.bad)), findings, ran)


def acceptance_paths(context: ValidationContext) -> tuple[str, ...]:
    """Return the paths of the task's acceptance tests in the form that changes have."""
    return tuple(PurePosixPath(path).as_posix() for path in context.task.acceptance_tests)


def _edited(context: ValidationContext, paths: tuple[str, ...], rule: str) -> Iterator[Finding]:
    """Say what the change did to the tests, to what they lean on, or to what their names lead to."""
    for change in context.changes:
        if change.path in paths:
            problem = f"is an acceptance test and was {change.status}: put it back as it was"
        elif _leaned_on(change):
            problem = f"belongs to the tests and was {change.status}: put it back as it was"
        elif hidden := _hides(change, paths):
            problem = f"has the module name of the acceptance test {hidden}: name it otherwise"
        else:
            continue
        yield Finding(rule, ValidationLevel.ERROR, f"{change.path} {problem}", change.path)


def _leaned_on(change: Change) -> bool:
    """Whether it was there beside the tests, as a helper or as data, and is no test file itself."""
    known = change.status is not ChangeStatus.ADDED
    return known and not is_test_file(change.path) and not TEST_FOLDERS.isdisjoint(PurePosixPath(change.path).parts)


def _hides(change: Change, paths: tuple[str, ...]) -> str | None:
    if change.status is ChangeStatus.DELETED or not change.path.endswith((".py", ".so", ".pyd")):
        return None
    parts = PurePosixPath(change.path).parts
    names = {*parts[:-1], parts[-1].partition(".")[0]}
    return next((path for path in paths if PurePosixPath(path).stem in names), None)


def _left_out(context: ValidationContext, paths: tuple[str, ...], run: SuiteRun, rule: str) -> Iterator[Finding]:
    """Name the tests that were skipped or never ran; what the files or the project said before is a warning."""
    skipped = {case.nodeid.partition("[")[0]: case for case in run.cases if case.outcome is CaseOutcome.SKIPPED}
    excused = {nodeid.partition("[")[0] for nodeid in context.baseline.skipped}
    excused |= {name for path in paths for name in _skipping_itself(context, path)}
    for nodeid, case in skipped.items():
        level = ValidationLevel.WARNING if nodeid in excused else ValidationLevel.ERROR
        yield Finding(rule, level, f"the acceptance test {nodeid} is skipped: {_reason(case)}", case.place)
    ran = {case.nodeid.partition("[")[0] for case in run.cases}
    never = [name for path in paths for name in _expected(context, path) if name not in ran]
    if never and not run.bad:
        selected = any(option.startswith(SELECTING) for option in kept_options(context.workspace))
        level = ValidationLevel.WARNING if selected else ValidationLevel.ERROR
        yield Finding(rule, level, f"acceptance tests that never ran: {listed(never)}")


def _reason(case: Case) -> str:
    return case.message or "no reason given"


def _expected(context: ValidationContext, path: str) -> Iterator[str]:
    """Yield the ids of the tests that pytest collects from a file by its own conventions."""
    for test in read_tests(context.workspace, path) or ():
        *classes, name = test.name.split("::")
        if name.startswith("test_") and all(each.startswith("Test") for each in classes):
            yield f"{path}::{test.name}"


def _skipping_itself(context: ValidationContext, path: str) -> Iterator[str]:
    """Yield the tests that their file skips or expects to fail, always or by a condition on the platform."""
    source = read_bounded(context.workspace / path, MAX_SOURCE_BYTES) or b""
    tree = parse(source)
    if tree is None:
        return
    yield from (f"{path}::{proof.name}" for proof in read_proofs(source) if proof.skipped)
    for name, node in defined_tests(tree):
        if any(_asks_platform(decorator) for decorator in node.decorator_list):
            yield f"{path}::{name}"


def _asks_platform(decorator: ast.expr) -> bool:
    """Whether this is `skipif` or `skipIf` with a condition on the platform alone."""
    if not (isinstance(decorator, ast.Call) and "skipif" in ast.unparse(decorator.func).lower()):
        return False
    given = (*decorator.args, *(each.value for each in decorator.keywords))
    names = {node.id for each in given for node in ast.walk(each) if isinstance(node, ast.Name)}
    return names <= PLATFORM
