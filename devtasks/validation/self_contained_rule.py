"""The rule that new tests need nothing but the code and leave nothing behind."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from devtasks.validation.conventions import MAX_SOURCE_BYTES, defined_tests
from devtasks.validation.docstrings import parse
from devtasks.validation.reports import read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext

_INSTEAD = "give it what it needs by arguments, doubles and tmp_path, and let it clean up"


@dataclass(frozen=True)
class _Asked:
    """What differs from run to run by itself: the functions that tell it, of these modules, and what tames them."""

    functions: frozenset[str]
    modules: frozenset[str]
    taming: frozenset[str]
    words: str


_PLAIN = frozenset({"abs", "bool", "float", "int", "len", "list", "max", "min", "repr", "round", "str", "sum", "tuple"})
"""Functions that add nothing to what they are given."""

_WORLD = (
    _Asked(
        frozenset({"now", "today", "utcnow", "time", "time_ns"}),
        frozenset({"datetime", "time"}),
        frozenset({"freezegun", "time_machine"}),
        "passes at certain times only: give the code the time that it is to take for now",
    ),
    _Asked(
        frozenset(
            {
                *("random", "uniform", "randint", "randrange", "randbytes", "getrandbits", "choice", "gauss"),
                *("randbelow", "token_bytes", "token_hex", "urandom", "uuid1", "uuid4"),
            }
        ),
        frozenset({"random", "secrets", "os", "uuid"}),
        frozenset({"seed"}),
        "passes by chance: write down the values that it is to pass with",
    ),
)


@dataclass(frozen=True)
class SelfContained:
    """No new test sleeps, asks other hosts, names this machine's folders, asks a date or luck, or leaves things behind.

    Value 1 or 0. What it does is seen while it runs (watch_tests.py), folders, dates and luck in its code; up to a
    second of sleep is left to it.
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
    folder = str(workspace.resolve())
    tests = list(defined_tests(tree))
    inside = {id(node) for _, test in tests for node in ast.walk(test)}
    around = [node for node in ast.walk(tree) if id(node) not in inside]
    asked = [
        (each, names)
        for each in _WORLD
        if (names := _names(tree, each)) and not any(_tames(node, each) for node in around)
    ]
    for name, test in tests:
        nodeid, place = f"{path}::{name}", f"{path}:{test.lineno}"
        nodes = list(ast.walk(test))
        if any(isinstance(node, ast.Constant) and folder in str(node.value) for node in nodes):
            words = "names a folder of this machine: use paths relative to the test's own file, or tmp_path"
            yield nodeid, place, words
        comparisons = [node for node in nodes if isinstance(node, ast.Compare)]
        for each, names in asked:
            # What another test tames is no help where that one does not run.
            tamed = any(_tames(node, each) for node in nodes)
            if not tamed and any(_asks_only(comparison, each, names) for comparison in comparisons):
                yield nodeid, place, each.words


def _names(tree: ast.Module, asked: _Asked) -> Mapping[str, str]:
    """Return a file's names for these modules and what is imported of them, and what each is there; none if tamed."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            of = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            if not asked.taming.isdisjoint(of):
                return {}
            if not asked.modules.isdisjoint(of):
                names |= {alias.asname or alias.name: alias.name for alias in node.names}
    return names


def _tames(node: ast.AST, asked: _Asked) -> bool:
    return isinstance(node, ast.Call) and bool(node.args) and _called(node, {}) in asked.taming


def _asks_only(comparison: ast.Compare, asked: _Asked, names: Mapping[str, str]) -> bool:
    """Whether nothing but what these functions tell is compared with what is written in the code."""
    sides = [comparison.left, *comparison.comparators]
    asking = [any(_called(node, names) in asked.functions for node in ast.walk(side)) for side in sides]
    nodes = list(ast.walk(comparison))
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    if any(isinstance(node, ast.Call) and node.args and _called(node, names) == "Random" for node in nodes):
        return False  # a generator with a seed of its own
    return any(asking) and not all(asking) and used <= names.keys() | _PLAIN


def _called(node: ast.AST, names: Mapping[str, str]) -> str | None:
    """Return the own name of the function that a node calls, None for any other node."""
    match node:
        case ast.Call(func=ast.Attribute(attr=name)):
            return name
        case ast.Call(func=ast.Name(id=name)):
            return names.get(name, name)
        case _:
            return None
