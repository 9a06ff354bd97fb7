"""Taking single tests out of files of tests, so that one bad test does not sink the good ones beside it."""

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

from devtasks.validation.conventions import MAX_SOURCE_BYTES, defined_tests
from devtasks.validation.docstrings import FunctionNode
from devtasks.validation.possible_bug import POSSIBLE_BUG
from devtasks.validation.reports import read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import ValidationContext

CUT = "cut"
"""The rule that the findings on what was cut name."""

THRESHOLD = "quality_threshold"
"""The rule that a score below the task's threshold names."""

MAX_CUTS = 3
"""Rounds of cutting and judging again; each costs a whole validation."""


def bad_tests(context: ValidationContext, findings: Iterable[Finding]) -> Mapping[str, Finding]:
    """Return the new tests that are at fault, with what is held against each; empty where more than those is.

    Their ids are without parameters. What was cut already is not named again.
    """
    against = [each for each in findings if each.level is not ValidationLevel.INFO and each.rule != CUT]
    bad: dict[str, Finding] = {}
    for finding in against:
        if finding.test and finding.rule != POSSIBLE_BUG and context.is_new(finding.test):
            bad.setdefault(finding.test.partition("[")[0], finding)
        elif finding.level is ValidationLevel.ERROR and finding.rule != THRESHOLD:
            return {}
    return bad


class Cutting:
    """Rewrites files of tests of a workspace; on leaving `with` they are as they were, unless they are to be kept.

    `findings` say what was cut and why, and what the tests that were cut may have found.
    """

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._originals: dict[Path, bytes] = {}
        self._rounds = 0
        self.findings: tuple[Finding, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for path, content in self._originals.items():
            path.write_bytes(content)

    @property
    def tests(self) -> tuple[str, ...]:
        """What was cut."""
        return tuple(each.test for each in self.findings if each.rule == CUT and each.test)

    def keep(self) -> None:
        """Leave the files as they are now."""
        self._originals.clear()

    def cut(self, context: ValidationContext, findings: Iterable[Finding]) -> bool:
        """Take out the tests that are at fault by these findings.

        False, and nothing is changed, where there are none, one cannot be taken out, or it was done often enough.
        """
        findings = tuple(findings)
        bad = bad_tests(context, findings)
        names: dict[str, list[str]] = {}
        for test in bad:
            path, _, name = test.partition("::")
            names.setdefault(path, []).append(name)
        sources = {path: read_bounded(self._workspace / path, MAX_SOURCE_BYTES) or b"" for path in names}
        left = {path: without_tests(source, names[path]) for path, source in sources.items()}
        if not bad or self._rounds == MAX_CUTS or None in left.values():
            return False
        for path, content in left.items():
            self._originals.setdefault(self._workspace / path, sources[path])
            (self._workspace / path).write_bytes(content or b"")
        found = (each for each in findings if each.rule == POSSIBLE_BUG)
        self.findings += (*(_cut(test, finding) for test, finding in bad.items()), *found)
        self._rounds += 1
        return True


def _cut(test: str, reason: Finding) -> Finding:
    message = f"left out of the result: {reason.message}"
    return Finding(CUT, ValidationLevel.WARNING, message, reason.place, reason.evidence, test)


def without_tests(source: bytes, names: Collection[str]) -> bytes | None:
    """Return a file's source without these tests, such as `TestLogin::test_refused`; a class left empty goes too.

    None where a name is not found in it, or what is left would hold no test or not compile.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    tests = dict(defined_tests(tree))
    if not names or not set(names) < tests.keys():
        return None
    unwanted = [tests[name] for name in names]
    nodes = [*unwanted, *_emptied(tree, unwanted)]
    lines = source.split(b"\n")
    gone = {line for node in nodes for line in range(_first_line(node), (node.end_lineno or node.lineno) + 1)}
    left = b"\n".join(line for number, line in enumerate(lines, 1) if number not in gone).rstrip() + b"\n"
    try:
        kept = dict(defined_tests(ast.parse(left)))
    except (SyntaxError, ValueError):
        return None
    return left if kept.keys() == tests.keys() - set(names) else None


def _emptied(scope: ast.Module | ast.ClassDef, unwanted: list[FunctionNode]) -> Iterator[ast.ClassDef]:
    """Yield the classes that hold nothing but unwanted tests."""
    for node in scope.body:
        if isinstance(node, ast.ClassDef):
            if all(each in unwanted or _is_docstring(each) for each in node.body):
                yield node
            else:
                yield from _emptied(node, unwanted)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _first_line(node: FunctionNode | ast.ClassDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
