"""Whether two versions of a Python file are the same code, docstrings and comments aside."""

import ast
import io
import re
import tokenize
from collections import Counter
from dataclasses import dataclass
from typing import TypeGuard, cast

_DIRECTIVE = re.compile(r"#\s*(?:type:|noqa\b|pragma:|mypy:|(?:based)?pyright:|pylint:|ruff:|fmt:|isort:|nosec\b)")
_BODIES = ("body", "orelse", "finalbody")


@dataclass(frozen=True)
class Difference:
    """The first place where the code differs: lines counted from 1, None where the version has nothing there."""

    before: int | None
    after: int | None


_Pair = tuple[object, object, Difference]


def first_difference(before: ast.Module, after: ast.Module) -> Difference | None:
    """Return the first place where two trees differ, or None.

    Statements without effect do not count: strings that stand alone, `pass` and `...`. Both trees lose them.
    """
    for tree in (before, after):
        _drop_idle(tree)
    pending: list[_Pair] = [(before, after, Difference(1, 1))]
    while pending:
        old, new, place = pending.pop()
        if isinstance(old, ast.AST) and isinstance(new, ast.AST) and type(old) is type(new):
            here = Difference(getattr(old, "lineno", place.before), getattr(new, "lineno", place.after))
            fields = [(getattr(old, name, None), getattr(new, name, None), here) for name in old._fields]
            pending.extend(reversed(fields))
        elif _is_list(old) and _is_list(new):
            pending.extend(reversed(_pairs(old, new, place)))
        elif type(old) is not type(new) or repr(old) != repr(new):
            return Difference(_line(old, place.before), _line(new, place.after))
    return None


def directives(source: bytes) -> Counter[str]:
    """Return the comments that tools obey, such as `# noqa: E501`, and how often each stands in a source."""
    try:
        tokens = list(tokenize.tokenize(io.BytesIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return Counter()
    comments = (token.string for token in tokens if token.type == tokenize.COMMENT)
    return Counter(comment for comment in comments if _DIRECTIVE.match(comment))


def _pairs(old: list[object], new: list[object], place: Difference) -> list[_Pair]:
    """Pair two lists in order; where one is longer, its first surplus element meets nothing."""
    shared = min(len(old), len(new))
    pairs = [(*both, place) for both in zip(old, new, strict=False)]
    if len(old) == len(new):
        return pairs
    return [*pairs, (next(iter(old[shared:]), None), next(iter(new[shared:]), None), Difference(None, None))]


def _drop_idle(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        for name in _BODIES:
            body = getattr(node, name, None)
            if isinstance(body, list):
                setattr(node, name, [each for each in cast(list[ast.AST], body) if not _is_idle(each)])


def _is_idle(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return isinstance(node.value.value, str) or node.value.value is ...
    return isinstance(node, ast.Pass)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _line(node: object, otherwise: int | None) -> int | None:
    return None if node is None and otherwise is None else getattr(node, "lineno", otherwise)
