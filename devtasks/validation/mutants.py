"""Small deliberate mistakes in the code under test: tests that no such mistake makes fail would miss a real one.

The table `_MUTATIONS` says which nodes of the syntax tree are changed how. Everything else of the file stays as it is,
byte for byte, so a mutant's lines have the same numbers. Kept out is what no test needs to notice: annotations,
docstrings, what is logged or printed, and the wording of errors.
"""

import ast
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, groupby, islice
from typing import cast

_UNSEEN_CALLS = frozenset({"print", "debug", "info", "warning", "warn", "error", "exception", "critical", "log"})


@dataclass(frozen=True)
class Mutant:
    """The source of a file with one change, in words, on this line."""

    line: int
    change: str
    source: bytes


def make_mutants(source: bytes, lines: Collection[int], limit: int) -> tuple[Mutant, ...]:
    """Return up to so many mutants on these lines, the same ones every time, spread over the lines.

    Raises SyntaxError for a source that does not parse.
    """
    found = sorted(_mutants(source, frozenset(lines)), key=lambda mutant: (mutant.line, _key(mutant)))
    ranked = [
        (rank, _key(mutant), mutant)
        for _, on_line in groupby(found, key=lambda mutant: mutant.line)
        for rank, mutant in enumerate(on_line)
    ]
    in_turn = (mutant for _, _, mutant in sorted(ranked, key=lambda each: each[:2]))
    chosen = islice((mutant for mutant in in_turn if _compiles(mutant.source)), limit)
    return tuple(sorted(chosen, key=lambda mutant: (mutant.line, mutant.change)))


def _key(mutant: Mutant) -> str:
    return hashlib.sha256(f"{mutant.line} {mutant.change}".encode()).hexdigest()


def _mutants(source: bytes, lines: frozenset[int]) -> Iterator[Mutant]:
    starts = [0, *accumulate(len(line) + 1 for line in source.split(b"\n"))]
    tree = ast.parse(source)
    conditions = _conditions(tree)
    for node in _visited(tree):
        if node.lineno not in lines:
            continue
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        before = source[start:end].decode(errors="replace")
        turned = (_turned(node),) if isinstance(node, ast.expr) and node in conditions else ()
        for after in (*turned, *_MUTATIONS.get(type(node), _unchanged)(node)):
            change = f"`{_short(before)}` became `{_short(after)}`"
            yield Mutant(node.lineno, change, source[:start] + after.encode() + source[end:])


def _visited(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """Yield the statements and expressions that a test could notice a mistake in."""
    if isinstance(node, ast.expr | ast.stmt):
        yield node
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "type_params", "format_spec"}:
            continue
        children = cast(list[object], value) if isinstance(value, list) else [value]
        for child in children:
            if isinstance(child, ast.AST) and not _unseen(node, child):
                yield from _visited(child)


def _conditions(tree: ast.AST) -> frozenset[ast.expr]:
    """Return what decides a branch and is no comparison, which the table would leave as it is."""
    tests = (node.test for node in ast.walk(tree) if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert))
    return frozenset(test for test in tests if isinstance(test, ast.Name | ast.Call | ast.Attribute | ast.Subscript))


def _unseen(parent: ast.AST, node: ast.AST) -> bool:
    match parent, node:
        case (_, ast.Expr(value=ast.Constant())) | (ast.JoinedStr(), ast.Constant()):
            return True
        case (_, ast.Expr(value=ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)))):
            return name in _UNSEEN_CALLS
        case (ast.Raise(), _):
            return True  # its wording; the error itself is a mutation of the statement
        case (ast.If(test=ast.Compare(left=ast.Name(id="__name__"))) | ast.If(test=ast.Name(id="TYPE_CHECKING")), _):
            return True
        case _:
            return False


_COMPARISONS: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}


def _unchanged(_: ast.AST) -> Iterator[str]:
    return iter(())


def _compare(node: ast.Compare) -> Iterator[str]:
    for index, op in enumerate(node.ops):
        ops = [*node.ops[:index], _COMPARISONS[type(op)](), *node.ops[index + 1 :]]
        yield _expression(ast.Compare(node.left, ops, node.comparators))
    if any(isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for op in node.ops):
        yield _turned(node)


def _binary(node: ast.BinOp) -> Iterator[str]:
    if not any(isinstance(side, ast.JoinedStr) or _is_text(side) for side in (node.left, node.right)):
        yield _expression(ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right))


def _augmented(node: ast.AugAssign) -> Iterator[str]:
    yield ast.unparse(ast.AugAssign(node.target, _OPERATORS[type(node.op)](), node.value))


def _turned(node: ast.expr) -> str:
    return f"(not {_expression(node)})"


def _boolean(node: ast.BoolOp) -> Iterator[str]:
    yield _expression(ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values))


def _unary(node: ast.UnaryOp) -> Iterator[str]:
    yield _expression(node.operand)


def _constant(node: ast.Constant) -> Iterator[str]:
    match node.value:
        case bool(value):
            yield repr(not value)
        case int(value) | float(value):
            yield repr(value + 1)
        case str(value):
            yield repr(f"{value}!")
        case _:
            return


def _choice(node: ast.IfExp) -> Iterator[str]:
    yield _expression(ast.IfExp(node.test, node.orelse, node.body))


def _return(node: ast.Return) -> Iterator[str]:
    if node.value is not None and not isinstance(node.value, ast.Constant):
        yield "return None"


def _raise(node: ast.Raise) -> Iterator[str]:
    if node.exc is not None:
        yield "raise ArithmeticError('mutant')"
        yield "pass"


def _call(node: ast.Expr) -> Iterator[str]:
    if isinstance(node.value, ast.Call):
        yield "pass"


_MUTATIONS: Mapping[type[ast.expr | ast.stmt], Callable[..., Iterator[str]]] = {
    ast.Compare: _compare,
    ast.BinOp: _binary,
    ast.AugAssign: _augmented,
    ast.BoolOp: _boolean,
    ast.UnaryOp: _unary,
    ast.Constant: _constant,
    ast.IfExp: _choice,
    ast.Return: _return,
    ast.Raise: _raise,
    ast.Expr: _call,
}


def _expression(node: ast.expr) -> str:
    return f"({ast.unparse(node)})"


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def _compiles(source: bytes) -> bool:
    try:
        compile(source, "mutant", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return False
    return True


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:57]}..."
