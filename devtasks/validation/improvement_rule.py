"""The rule that a refactoring leaves the code better by something that can be measured."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from devtasks.validation.conventions import MAX_SOURCE_BYTES, is_test_file
from devtasks.validation.docstrings import FunctionNode, parse
from devtasks.validation.linter import Linter
from devtasks.validation.reports import read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext

DUPLICATE_LINES = 4
"""Lines in a row that stand elsewhere as well count as duplicates from this many on."""


@dataclass(frozen=True)
class Improves:
    """At least one measure of the changed Python is better than before; value: the part of the changed ones that is.

    The measures: the highest and the summed complexity above one path, what ruff finds, duplicate lines, statements,
    the longest function, and what is not annotated. None better is a WARNING: what was asked may be what none shows.
    """

    name: str = "improvement"
    weight: float = 1

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Measure the changed files as they were and as they are."""
        linter = Linter(context.workspace)
        paths = [
            change.path for change in context.changes if change.path.endswith(".py") and not is_test_file(change.path)
        ]
        before = await _measures(linter, {path: context.before(path) or b"" for path in paths})
        now = {path: read_bounded(context.workspace / path, MAX_SOURCE_BYTES) or b"" for path in paths}
        after = await _measures(linter, now)
        better = {name for name, value in after.items() if value < before[name]}
        worse = {name for name, value in after.items() if value > before[name]}
        said = ", ".join(f"{name} {before[name]} to {after[name]}" for name in after if name in better | worse)
        if not better:
            message = f"nothing that is measured got better{f' ({said})' if said else ''}"
            return RuleOutcome(0, (Finding(self.name, ValidationLevel.WARNING, message),))
        value = len(better) / len(better | worse)
        return RuleOutcome(value, (Finding(self.name, ValidationLevel.INFO, f"measured: {said}"),))


async def _measures(linter: Linter, sources: dict[str, bytes]) -> dict[str, int]:
    """Return the measures of some files together; less is better."""
    complexities: list[int] = []
    problems = 0
    for path, source in sources.items():
        complexities += (await linter.complexity(path, source) or {}).values()
        problems += len(await linter.problems(path, source) or ())
    trees = [tree for source in sources.values() if (tree := parse(source))]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, FunctionNode)]
    return {
        "highest complexity": max(complexities, default=0),
        "complexity in all": sum(each - 1 for each in complexities),
        "findings of ruff": problems,
        "duplicate lines": _duplicates(sources),
        "statements": sum(isinstance(node, ast.stmt) for tree in trees for node in ast.walk(tree)),
        "lines of the longest function": max(map(_length, functions), default=0),
        "parameters and results without a type": sum(sum(_bare(node)) for node in functions),
    }


def _duplicates(sources: dict[str, bytes]) -> int:
    """Count the lines that lie in a run of at least four which stands somewhere else in these files as well."""
    lines = [
        [line.strip() for line in source.decode(errors="replace").splitlines() if line.strip(" \t)]}")]
        for source in sources.values()
    ]
    places: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for file, text in enumerate(lines):
        for start in range(len(text) - DUPLICATE_LINES + 1):
            places.setdefault(tuple(text[start : start + DUPLICATE_LINES]), []).append((file, start))
    covered = {
        (file, start + offset)
        for found in places.values()
        if len(found) > 1
        for file, start in found
        for offset in range(DUPLICATE_LINES)
    }
    return len(covered)


def _length(node: FunctionNode) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _bare(node: FunctionNode) -> Iterator[bool]:
    given = node.args
    yield node.returns is None
    for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs):
        yield argument.annotation is None and argument.arg not in {"self", "cls"}
