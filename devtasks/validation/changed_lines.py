"""Which statements of a file a change wrote, and which of them ran."""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher

from devtasks.validation.conventions import MAX_SOURCE_BYTES
from devtasks.validation.docstrings import FunctionNode, parse
from devtasks.validation.reports import read_bounded
from devtasks.validation.rule import ValidationContext
from devtasks.validation.target_coverage import TargetCoverage, ranges
from devtasks.validation.words import listed

_NO_CODE = (ast.Global, ast.Nonlocal)


@dataclass(frozen=True)
class ChangedLines:
    """The changed statements of one file, by the line each begins on, and those of them that ran."""

    path: str
    lines: frozenset[int]
    ran: frozenset[int]

    @property
    def fraction(self) -> float:
        """The part that ran; 1 where there is none that could."""
        return len(self.ran) / len(self.lines) if self.lines else 1.0

    @property
    def missed(self) -> str:
        """The lines that did not run, as a person reads them."""
        return listed(ranges(sorted(self.lines - self.ran)))


def changed_lines(context: ValidationContext, runs: Iterable[Mapping[str, TargetCoverage]]) -> tuple[ChangedLines, ...]:
    """Return the changed statements of every written source, and what any of these runs executed of them."""
    runs = tuple(runs)
    found: list[ChangedLines] = []
    for path in context.sources:
        source = read_bounded(context.workspace / path, MAX_SOURCE_BYTES) or b""
        lines = changed_statements(context.before(path) or b"", source)
        coverages = [run[path] for run in runs if path in run]
        known = lines.intersection(*(each.lines for each in coverages))
        ran = frozenset(line for each in coverages for line in each.executed_lines)
        found.append(ChangedLines(path, known, known & ran))
    return tuple(found)


def changed_statements(before: bytes, after: bytes) -> frozenset[int]:
    """Return the first lines of the statements that were not there before, without those that mere importing runs.

    So only what lies inside functions counts; all of it where nothing changed in one. A file that does not parse has
    none.
    """
    tree = parse(after)
    if tree is None:
        return frozenset()
    starts = _starts(tree)
    changed = {starts[line] for line in _new_lines(before, after) if line in starts}
    inside = {
        line
        for node in ast.walk(tree)
        if isinstance(node, FunctionNode)
        for line in range(max(node.body[0].lineno, node.lineno + 1), (node.end_lineno or node.lineno) + 1)
    }
    return frozenset(changed & inside or changed)


def _new_lines(before: bytes, after: bytes) -> list[int]:
    old, new = before.splitlines(), after.splitlines()
    opcodes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    lines = (line for tag, _, _, start, end in opcodes if tag != "equal" for line in range(start, end))
    return [line + 1 for line in lines if new[line].strip() and not new[line].lstrip().startswith(b"#")]


def _starts(tree: ast.Module) -> dict[int, int]:
    """Return the first line of the statement each line belongs to; a block's own lines are those before its body."""
    starts: dict[int, int] = {}
    for node in ast.walk(tree):
        match node:
            case ast.match_case(pattern=pattern):
                first, last = pattern.lineno, pattern.end_lineno
            case ast.stmt() | ast.ExceptHandler() if not _runs_nothing(node):
                first, last = node.lineno, node.end_lineno
            case _:
                continue
        body: list[ast.AST] = getattr(node, "body", None) or getattr(node, "cases", [])
        end = max(first, _first_line(body[0]) - 1) if body else last or first
        starts.update(dict.fromkeys(range(first, end + 1), first))
    return starts


def _first_line(node: ast.AST) -> int:
    return node.pattern.lineno if isinstance(node, ast.match_case) else getattr(node, "lineno", 1)


def _runs_nothing(node: ast.AST) -> bool:
    """Whether Python makes no code of a statement: docstrings, `...` and declarations."""
    return isinstance(node, _NO_CODE) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
