"""Which changes could decide how tests end, whatever the code does: files that take part in every test run."""

import ast
import sys
from collections.abc import Iterator
from pathlib import PurePosixPath

from pathspec import GitIgnoreSpec

from devtasks.validation.conventions import MAX_SOURCE_BYTES, TEST_FOLDERS, is_test_code
from devtasks.validation.docstrings import FunctionNode, parse
from devtasks.validation.pytest_options import pytest_settings
from devtasks.validation.reports import read_bounded
from devtasks.validation.rule import ValidationContext
from devtasks.validation.suite_runner import import_names
from devtasks.workspace import Change, ChangeStatus

RUN_BY_ITSELF = frozenset({"conftest.py", "sitecustomize.py", "usercustomize.py"})
"""Files that pytest, or Python as it starts, runs without being asked to."""

PYTEST_FILES = frozenset({"pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml"})
"""Files that configure pytest by their mere existence."""

TEST_TOOLS = frozenset({"pytest", "_pytest", "pluggy", "coverage"})
"""What decides how a run of tests ends; product code has no use for it."""

NEEDED = sys.stdlib_module_names | TEST_TOOLS | {"iniconfig", "packaging", "pygments"}
"""What a run of tests imports before any code of the project."""

_READ_BY_PYTEST = frozenset({"pytest_plugins", "collect_ignore", "collect_ignore_glob"})
"""Variables that decide what pytest loads and collects."""

_IMPORT_ROOTS = frozenset({"", "src"})


def named(context: ValidationContext, path: str) -> bool:
    """Whether a pattern of the task's own allows this file by its very name; `*` and a folder name none."""
    name = PurePosixPath(path).name
    patterns = [each for each in context.task.allowed_paths if PurePosixPath(each).name == name]
    return GitIgnoreSpec.from_lines(patterns).match_file(path)


def tampering(context: ValidationContext, change: Change) -> str | None:
    """Return how a change takes part in running tests; None where it does not, or the task names its file."""
    configured = _configures(context, change)
    if named(context, change.path) and not (configured and context.task.acceptance_tests):
        return None
    return next(_reasons(context, change), None) or configured


def _reasons(context: ValidationContext, change: Change) -> Iterator[str]:
    path = PurePosixPath(change.path)
    if path.name in RUN_BY_ITSELF or path.suffix == ".pth":
        yield "is run by pytest or Python itself"
    if path.name == "entry_points.txt":
        yield "can make pytest load a plugin"
    if change.status is ChangeStatus.DELETED or path.suffix != ".py":
        return
    if change.status is ChangeStatus.ADDED and (name := _shadowed(context, change.path)):
        yield f"takes the place of the module `{name}` that running tests needs"
    hooks = new_hooks(context, change)
    if hooks:
        yield f"defines `{hooks[0]}`, as a plugin of pytest does"
    tree = parse(read_bounded(context.workspace / change.path, MAX_SOURCE_BYTES) or b"")
    new = {*hooks, *(set(_tools(tree)) - set(_tools(parse(context.before(change.path) or b""))))}
    if new and not is_test_code(change.path):
        yield f"is no test and imports `{min(new)}`"


def new_hooks(context: ValidationContext, change: Change) -> list[str]:
    """Return the names in a changed file that pytest reads to decide how tests run and end, and that were not there."""
    if change.status is ChangeStatus.DELETED or not change.path.endswith(".py"):
        return []
    now = parse(read_bounded(context.workspace / change.path, MAX_SOURCE_BYTES) or b"")
    return sorted(set(_hooks(now)) - set(_hooks(parse(context.before(change.path) or b""))))


def _hooks(tree: ast.Module | None) -> Iterator[str]:
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, FunctionNode):
            if node.name.startswith("pytest_") or any("hookimpl" in ast.dump(each) for each in node.decorator_list):
                yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in _READ_BY_PYTEST:
            yield node.id


def _tools(tree: ast.Module | None) -> Iterator[str]:
    """Yield the tools of testing that a module imports."""
    for node in ast.walk(tree) if tree else ():
        modules: list[str | None] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module]
        yield from (top for name in modules if (top := (name or "").partition(".")[0]) in TEST_TOOLS)


def _shadowed(context: ValidationContext, path: str) -> str | None:
    """Return the module of the standard library or the test tools that a file on the import path hides."""
    root, *names = import_names(context.workspace, path)
    folder = PurePosixPath(root).relative_to(context.workspace.as_posix())
    on_path = folder.as_posix().removeprefix(".") in _IMPORT_ROOTS or not TEST_FOLDERS.isdisjoint(folder.parts)
    if not (on_path and names):
        return None
    top = names[0].partition(".")[0]
    return top if top in NEEDED - TEST_FOLDERS else None


def _configures(context: ValidationContext, change: Change) -> str | None:
    """Say so where the settings of pytest differ from before."""
    name = PurePosixPath(change.path).name
    if name in PYTEST_FILES:
        return "configures pytest"
    before = pytest_settings(name, context.before(change.path) or b"")
    after = pytest_settings(name, read_bounded(context.workspace / change.path, MAX_SOURCE_BYTES) or b"")
    return None if before == after else "changes the settings of pytest"
