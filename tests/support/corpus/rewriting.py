"""Rewrites test files by their syntax trees: their checks, their test functions, what they import."""

import ast
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeGuard

from corpus.results import Good, Result

type Function = ast.FunctionDef | ast.AsyncFunctionDef
type Rewrite = Callable[[ast.expr], list[ast.stmt]]
"""What a check is replaced by, given the expression that it says is true."""

RAISING = frozenset({"raises", "warns", "deprecated_call", "assertRaises", "assertRaisesRegex", "assertWarns"})
_METHODS: Mapping[str, Callable[[list[ast.expr]], ast.expr]] = {
    "assertEqual": lambda args: ast.Compare(args[0], [ast.Eq()], [args[1]]),
    "assertNotEqual": lambda args: ast.Compare(args[0], [ast.NotEq()], [args[1]]),
    "assertIs": lambda args: ast.Compare(args[0], [ast.Is()], [args[1]]),
    "assertIn": lambda args: ast.Compare(args[0], [ast.In()], [args[1]]),
    "assertIsNone": lambda args: ast.Compare(args[0], [ast.Is()], [ast.Constant(None)]),
    "assertTrue": lambda args: args[0],
    "assertFalse": lambda args: ast.UnaryOp(ast.Not(), args[0]),
}
"""unittest's methods by what they say is true."""


def parse(code: str) -> list[ast.stmt]:
    """Return the statements of a piece of code."""
    return ast.parse(code).body


def stem(good: Good, change: Callable[[ast.Module], ast.Module | None]) -> Result | None:
    """Return the result whose test files are the good ones, each changed; without those that cannot be.

    None where none can be.
    """
    written: dict[str, str] = {}
    for path, text in good.tests.items():
        changed = change(ast.parse(text))
        if changed is not None:
            written[path] = ast.unparse(ast.fix_missing_locations(changed)) + "\n"
    return Result(written) if written else None


def also(result: Result | None, written: Mapping[str, str], deleted: tuple[str, ...] = ()) -> Result | None:
    """Return a result that changes these files too."""
    if result is None:
        return None
    return replace(result, written={**result.written, **written}, deleted=(*result.deleted, *deleted))


def with_checks(tree: ast.Module, rewrite: Rewrite) -> ast.Module:
    """Replace every check of a file; what may raise in it is swallowed, and nothing is checked any more by itself."""
    return _Checks(rewrite).visit(tree)


def without_checks(tree: ast.Module) -> ast.Module:
    """Take every check away, but run what it compares."""
    return with_checks(tree, lambda said: [ast.Expr(said)])


def tests_of(tree: ast.Module) -> Iterator[Function]:
    """Yield the test functions and methods of a file in the order in which pytest runs them."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            methods = [each for each in node.body if _is_test(each)]
            # unittest's own loader sorts by name
            unittests = any(ast.unparse(base).endswith("TestCase") for base in node.bases)
            yield from sorted(methods, key=lambda each: each.name) if unittests else methods
        elif _is_test(node):
            yield node


def keep_tests(tree: ast.Module, keep: Callable[[Function], bool]) -> ast.Module | None:
    """Take away the test functions that are not kept; None where none is left."""
    for scope in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]:
        scope.body = [node for node in scope.body if not _is_test(node) or keep(node)] or [ast.Pass()]
    return tree if any(True for _ in tests_of(tree)) else None


def marked(name: str) -> Callable[[Function], bool]:
    """Return whether a function's code speaks of a name."""
    return lambda function: any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(function))


def with_top(tree: ast.Module, code: str) -> ast.Module:
    """Put code in front of a file's, behind its docstring and what it imports from the future."""
    place = 0
    for number, node in enumerate(tree.body):
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            place = number + 1
        elif number == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            place = 1
    tree.body[place:place] = parse(code)
    return tree


def with_end(tree: ast.Module, code: str) -> ast.Module:
    """Put code behind a file's."""
    tree.body += parse(code)
    return tree


def each_test(tree: ast.Module, change: Callable[[list[ast.stmt]], list[ast.stmt]]) -> ast.Module | None:
    """Change the body of each test function; None where there is none."""
    tests = list(tests_of(tree))
    for test in tests:
        test.body = change(test.body)
    return tree if tests else None


def called_name(node: ast.AST) -> str:
    """Return the last part of the name that an expression calls or is."""
    match node:
        case ast.Call(func=func):
            return called_name(func)
        case ast.Attribute(attr=attr):
            return attr
        case ast.Name(id=name):
            return name
        case _:
            return ""


def copied[T: ast.AST](node: T) -> T:
    """Return a copy that may be changed by itself."""
    return copy.deepcopy(node)


def _is_test(node: ast.AST) -> TypeGuard[Function]:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")


class _Checks(ast.NodeTransformer):
    """Replaces checks; names that a check of exceptions binds are gone, and so are the checks that ask them."""

    def __init__(self, rewrite: Rewrite) -> None:
        self._rewrite = rewrite
        self._caught: set[str] = set()

    def visit_Module(self, node: ast.Module) -> ast.Module:
        items = [item for each in ast.walk(node) if isinstance(each, ast.With) for item in each.items]
        for item in items:
            if called_name(item.context_expr) in RAISING and isinstance(item.optional_vars, ast.Name):
                self._caught.add(item.optional_vars.id)
        self.generic_visit(node)
        return with_top(node, "import contextlib")

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        return self._replaced(node.test)

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        return ast.Pass() if node.exc is not None and called_name(node.exc) == "AssertionError" else node

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | list[ast.stmt]:
        call = node.value
        if not isinstance(call, ast.Call):
            return node
        name = called_name(call)
        if name in RAISING and len(call.args) > 1:
            return self._swallowed([ast.Expr(ast.Call(call.args[1], call.args[2:], call.keywords))])
        if name in _METHODS:
            return self._replaced(_METHODS[name](call.args))
        if name.startswith("assert") or name == "fail":
            return [ast.Expr(each) for each in call.args if not self._asks_caught(each)] or [ast.Pass()]
        return node

    def visit_With(self, node: ast.With) -> ast.stmt:
        self.generic_visit(node)
        kept = [item for item in node.items if called_name(item.context_expr) not in RAISING]
        if len(kept) == len(node.items):
            return node
        body = [ast.With(kept, node.body)] if kept else node.body
        return self._swallowed(body)

    def _replaced(self, said: ast.expr) -> list[ast.stmt]:
        return [ast.Pass()] if self._asks_caught(said) else self._rewrite(said) or [ast.Pass()]

    def _asks_caught(self, said: ast.expr) -> bool:
        return any(isinstance(node, ast.Name) and node.id in self._caught for node in ast.walk(said))

    @staticmethod
    def _swallowed(body: Sequence[ast.stmt]) -> ast.stmt:
        (statement,) = parse("with contextlib.suppress(Exception):\n    pass")
        assert isinstance(statement, ast.With)
        statement.body = list(body)
        return statement
