"""The rule that new tests need nothing but the code and leave nothing behind."""

import ast
from dataclasses import dataclass
from pathlib import Path

from devtasks.validation.conventions import MAX_SOURCE_BYTES, defined_tests
from devtasks.validation.docstrings import parse
from devtasks.validation.reports import read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext

_INSTEAD = "give it what it needs by arguments, doubles and tmp_path, and let it clean up"


@dataclass(frozen=True)
class SelfContained:
    """No new test sleeps over a second, asks another host, names this machine's folders or leaves anything behind.

    Value 1 or 0. What it does is seen while it runs (watch_tests.py), the folders in its code.
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
            Finding(
                self.name,
                ValidationLevel.ERROR,
                f"{nodeid} names a folder of this machine: use paths relative to the test's own file, or tmp_path",
                place,
                test=nodeid,
            )
            for path in context.changed_tests.paths
            for nodeid, place in _naming(context.workspace, path)
            if context.is_new(nodeid)
        ]
        return RuleOutcome(0 if findings else 1, tuple(findings))


def _naming(workspace: Path, path: str) -> list[tuple[str, str]]:
    """Return the id and place of each test of a file whose code names the workspace by its absolute path."""
    tree = parse(read_bounded(workspace / path, MAX_SOURCE_BYTES) or b"")
    folder = str(workspace.resolve())
    return [
        (f"{path}::{name}", f"{path}:{node.lineno}")
        for name, node in (defined_tests(tree) if tree else ())
        if any(isinstance(each, ast.Constant) and folder in str(each.value) for each in ast.walk(node))
    ]
