"""Expressions that are always true or false, read from the code."""

import ast
from itertools import combinations
from typing import Any

_OPPOSITES = ((ast.Is, ast.IsNot), (ast.Eq, ast.NotEq), (ast.In, ast.NotIn), (ast.Lt, ast.GtE), (ast.Gt, ast.LtE))
_TEXTS = frozenset({"repr", "ascii"})
"""Builtins whose result is a text that is never empty, whatever it is of."""

LOOSE = 100
"""A tolerance of so many times what is expected, or one, lets nearly any number pass."""


def constant(test: ast.expr) -> bool | None:
    """Return what an expression always is; None where that depends on something."""
    known: bool | None = None
    match test:
        case ast.Constant(value=value):
            known = bool(value)
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            known = None if any(isinstance(each, ast.Starred) for each in elements) else bool(elements)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = constant(operand)
            known = None if inner is None else not inner
        case ast.BoolOp(op=op, values=values):
            parts, decisive = [constant(value) for value in values], isinstance(op, ast.Or)
            opposed = any(_opposites(*pair) for pair in combinations(values, 2))
            known = decisive if opposed or decisive in parts else None if None in parts else not decisive
        case ast.Compare(left=ast.Constant(value=left), ops=[ast.Eq()], comparators=[ast.Constant(value=right)]):
            known = bool(left == right)
        case ast.Compare(left=ast.Call(func=ast.Name("len"), args=[of]), ops=[op], comparators=[ast.Constant(value)]):
            known = _length(of, op, value)
        case ast.Call(func=ast.Name("isinstance"), args=[_, ast.Name("object")]):
            known = True
        case ast.Call(func=ast.Name("isinstance"), args=[of, ast.Name("str")]):
            known = True if _is_text(of) else None
        case ast.Call() if _is_text(test):
            known = True
        case _:
            pass
    return known


def is_loose(side: ast.expr) -> bool:
    """Whether one side of a comparison is pytest.approx with a tolerance that lets nearly any number pass."""
    if not (isinstance(side, ast.Call) and _name(side.func) == "approx" and side.args):
        return False
    given = {each.arg: _number(each.value) for each in side.keywords}
    expected = _number(side.args[0])
    size = max(1.0, abs(expected)) if expected is not None else 1e6
    return (given.get("rel") or 0) >= 1 or (given.get("abs") or 0) >= LOOSE * size


def _length(of: ast.expr, op: ast.cmpop, value: Any) -> bool | None:
    match op, value:
        case ast.GtE(), 0:
            return True
        case (ast.Gt() | ast.NotEq(), 0) | (ast.GtE(), 1):
            return True if _is_text(of) else None
        case _:
            return None


def _is_text(node: ast.expr) -> bool:
    """Whether an expression is the representation of something, which is a text that is not empty."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _TEXTS


def _opposites(one: ast.expr, other: ast.expr) -> bool:
    """Whether exactly one of two expressions holds, whatever they are about."""
    for first, second in ((one, other), (other, one)):
        if isinstance(first, ast.UnaryOp) and isinstance(first.op, ast.Not) and _same(first.operand, second):
            return True
        match first, second:
            case ast.Compare(left=a, ops=[op], comparators=[b]), ast.Compare(left=c, ops=[counter], comparators=[d]):
                if (type(op), type(counter)) in _OPPOSITES and _same(a, c) and _same(b, d):
                    return True
            case _:
                pass
    return False


def _same(one: ast.expr, other: ast.expr) -> bool:
    return ast.dump(one) == ast.dump(other)


def _number(node: ast.expr) -> float | None:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return float(value) if isinstance(value, int | float) else None


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
