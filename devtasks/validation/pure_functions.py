"""Which functions of a module depend on nothing but their arguments, read from the code: safe to call with anything.

A function counts as pure where every name that it uses is its own, a harmless builtin, a constant, exception or pure
function of its module, or comes from one of PURE_MODULES. What it is wrong about, running it twice shows.
"""

import ast
import builtins
from collections.abc import Iterator
from functools import cached_property

from devtasks.validation.docstrings import FunctionNode, arguments

_PURE = """
abc base64 binascii bisect calendar collections colorsys copy dataclasses datetime decimal difflib enum fractions
functools hashlib heapq html itertools json keyword math numbers operator re statistics string struct textwrap types
typing typing_extensions unicodedata urllib.parse uuid zlib __future__
"""
PURE_MODULES = frozenset(_PURE.split())

_ACTING = """
breakpoint compile delattr eval exec exit globals help input locals open print quit setattr vars __import__ copyright
credits license
"""
_HARMLESS = frozenset(dir(builtins)) - frozenset(_ACTING.split())
_REFUSED = (ast.Global, ast.Nonlocal, ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Import, ast.ImportFrom)
_LITERAL = (ast.Constant, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.UnaryOp, ast.BinOp, ast.Load, ast.operator)


class PureFunctions:
    """The functions at the top of a module, by whether they are pure."""

    def __init__(self, tree: ast.Module) -> None:
        """Take a module's tree, which is only read."""
        self._tree = tree

    @cached_property
    def found(self) -> dict[str, ast.FunctionDef]:
        """The pure functions by their names."""
        suspected = {name: node for name, node in self._functions.items() if not _acts(node)}
        while True:
            known = self._safe | suspected.keys()
            pure = {name: node for name, node in suspected.items() if _names(node) <= known | _own(node)}
            if len(pure) == len(suspected):
                return pure
            suspected = pure

    @cached_property
    def _functions(self) -> dict[str, ast.FunctionDef]:
        return {node.name: node for node in self._tree.body if isinstance(node, ast.FunctionDef)}

    @cached_property
    def _safe(self) -> frozenset[str]:
        """The names of the module that do nothing when they are used."""
        names = {name for node in self._tree.body for name in _defined(node)}
        assigned = [name.id for node in ast.walk(self._tree) for name in _stored(node)]
        top = {name for node in self._tree.body for name in (each.id for each in _stored_in(node))}
        return _HARMLESS | (names - {name for name in top if assigned.count(name) > 1})


def _defined(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement at the top of a module defines and that are safe to use."""
    match node:
        case ast.Import():
            yield from (each.asname or each.name.partition(".")[0] for each in node.names if each.name in PURE_MODULES)
        case ast.ImportFrom(module=str(module), level=0) if module in PURE_MODULES:
            yield from (each.asname or each.name for each in node.names)
        case ast.Assign() if all(isinstance(each, ast.Name) for each in node.targets) and _is_literal(node.value):
            yield from (each.id for each in node.targets if isinstance(each, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if _is_literal(value):
            yield name
        case ast.ClassDef() if _is_plain_error(node):
            yield node.name
        case _:
            return


def _is_literal(value: ast.expr) -> bool:
    return all(isinstance(node, _LITERAL) for node in ast.walk(value))


def _is_plain_error(node: ast.ClassDef) -> bool:
    bases = [each.id for each in node.bases if isinstance(each, ast.Name)]
    idle = all(isinstance(each, ast.Pass | ast.Expr) for each in node.body)
    return idle and bool(bases) and all(base.endswith(("Error", "Exception")) for base in bases)


def _acts(node: ast.FunctionDef) -> bool:
    return any(isinstance(each, _REFUSED) for each in ast.walk(node))


def _names(node: ast.FunctionDef) -> set[str]:
    """Return every name that a function reads, its decorators and defaults among them."""
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}


def _own(node: ast.FunctionDef) -> set[str]:
    """Return what a function binds itself: arguments, variables and inner functions."""
    inner = [each for each in ast.walk(node) if isinstance(each, FunctionNode | ast.Lambda)]
    own = {argument.arg for each in inner for argument in arguments(each)}
    own |= {each.name for each in inner if isinstance(each, FunctionNode) and each is not node}
    own |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    return own | {each.name for each in ast.walk(node) if isinstance(each, ast.ExceptHandler) and each.name}


def _stored(node: ast.AST) -> list[ast.Name]:
    return [node] if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else []


def _stored_in(node: ast.stmt) -> list[ast.Name]:
    return [name for each in ast.walk(node) for name in _stored(each)]
