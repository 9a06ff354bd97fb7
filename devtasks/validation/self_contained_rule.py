"""The rule that new tests need nothing but the code and leave nothing behind."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devtasks.validation.conventions import MAX_SOURCE_BYTES, defined_tests
from devtasks.validation.docstrings import parse
from devtasks.validation.reports import read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext

_INSTEAD = "give it what it needs by arguments, doubles and tmp_path, and let it clean up"
_CLOCKS = frozenset({"now", "today", "utcnow", "time", "time_ns"})
_OF_CLOCKS = frozenset({"datetime", "time"})
"""Modules that have them."""

_TRAVELLING = frozenset({"freezegun", "time_machine"})
"""Modules that stop the clocks for a test."""


@dataclass(frozen=True)
class SelfContained:
    """No new test sleeps, asks another host, names this machine's folders, asks for a date or leaves anything behind.

    Value 1 or 0. What it does is seen while it runs (watch_tests.py), folders and dates in its code; up to a second
    of sleep is left to it.
    """

    name: str = "self_contained"
    weight: float = 0

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Look at what was seen of the changed files' run, and read the tests for paths of the workspace."""
        run = await context.changed_tests.run()
        findings = [
            Finding(
                self.name,
                ValidationLevel.ERROR,
                f"{case.nodeid} {words}: {_INSTEAD}",
                case.place,
                test=case.nodeid,
            )
            for case in run.cases
            if context.is_new(case.nodeid)
            for words in case.relies
        ]
        findings += [
            Finding(self.name, ValidationLevel.ERROR, f"{nodeid} {words}", place, test=nodeid)
            for path in context.changed_tests.paths
            for nodeid, place, words in _read(context.workspace, path)
            if context.is_new(nodeid)
        ]
        return RuleOutcome(0 if findings else 1, tuple(findings))


def _read(workspace: Path, path: str) -> Iterator[tuple[str, str, str]]:
    """Yield the id and place of each test of a file whose code needs this machine or this day, and how."""
    tree = parse(read_bounded(workspace / path, MAX_SOURCE_BYTES) or b"")
    if tree is None:
        return
    folder, clocks = str(workspace.resolve()), _clocks(tree)
    for name, test in defined_tests(tree):
        nodeid, place = f"{path}::{name}", f"{path}:{test.lineno}"
        nodes = list(ast.walk(test))
        if any(isinstance(node, ast.Constant) and folder in str(node.value) for node in nodes):
            words = "names a folder of this machine: use paths relative to the test's own file, or tmp_path"
            yield nodeid, place, words
        if any(isinstance(node, ast.Compare) and _asks_date(node, clocks) for node in nodes):
            yield nodeid, place, "passes at certain times only: give the code the time that it is to take for now"


def _clocks(tree: ast.Module) -> frozenset[str]:
    """Return the names by which a file has the modules and classes of the clocks; none where it stops them."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            of = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            if not _TRAVELLING.isdisjoint(of):
                return frozenset()
            if not _OF_CLOCKS.isdisjoint(of):
                names.update(alias.asname or alias.name for alias in node.names)
    return frozenset(names)


def _asks_date(comparison: ast.Compare, clocks: frozenset[str]) -> bool:
    """Whether nothing but a clock's time is compared with what is written in the code."""
    sides = [comparison.left, *comparison.comparators]
    asking = [any(_asks_clock(node, clocks) for node in ast.walk(side)) for side in sides]
    names = {node.id for node in ast.walk(comparison) if isinstance(node, ast.Name)}
    return any(asking) and not all(asking) and names <= clocks


def _asks_clock(node: ast.AST, clocks: frozenset[str]) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr=name)):
            return name in _CLOCKS
        case ast.Call(func=ast.Name(id=name)):
            return name in clocks and name in _CLOCKS
        case _:
            return False
