"""Kinds whose tests do not test the target: they never reach it, or something else stands in its place."""

import ast
import builtins
from collections.abc import Iterator, Mapping

from corpus.hollow import compared_call
from corpus.results import Good, Result
from corpus.rewriting import (
    called_name,
    copied,
    each_test,
    keep_tests,
    marked,
    parse,
    stem,
    with_checks,
    with_top,
    without_checks,
)

_TARGET = "target_under_test"
_EXPECTED = "_expected_"
_NAMED = 5


def target_never_called(good: Good) -> Result | None:
    """The target is imported, and its functions are said to be callable."""
    names = list(_public(good))
    if not names:
        return None
    tests = "".join(f"\n\ndef test_{name}():\n    assert callable({_TARGET}.{name})\n" for name in names)
    return _alone(good, _import_target(good) + tests)


def over_mocked(good: Good) -> Result | None:
    """Each test replaces the function it speaks of, and gets back what it told the mock to return."""
    names = [name for name in _public(good) if name in _functions(good)][:_NAMED]
    if not names:
        return None
    test = (
        "\n\ndef test_{name}():\n"
        "    with mock.patch.object({target}, '{name}', return_value=42) as double:\n"
        "        assert {target}.{name}('some', 'values') == 42\n"
        "        double.assert_called_once_with('some', 'values')\n"
    )
    tests = "".join(test.format(name=name, target=_TARGET) for name in names)
    return _alone(good, f"from unittest import mock\n{_import_target(good)}{tests}")


def mock_beside(good: Good) -> Result | None:
    """Each test runs the target, and asks a mock of its own how that was called."""
    code = "double = mock.Mock()\ndouble('value')\ndouble.assert_called_once_with('value')"

    def change(tree: ast.Module) -> ast.Module | None:
        return each_test(
            with_top(without_checks(tree), "from unittest import mock"), lambda body: [*body, *parse(code)]
        )

    return stem(good, change)


def target_patched_away(good: Good) -> Result | None:
    """Each test runs the target, then asserts on a stand-in that returns what is expected."""
    functions = _functions(good)

    def rewrite(said: ast.expr) -> list[ast.stmt]:
        match said:
            case ast.Compare(left=ast.Call(func=ast.Name(id=name)) as call, ops=[ast.Eq()], comparators=[expected]):
                if name not in functions:
                    return []
                asked = ast.Compare(
                    ast.Call(ast.Attribute(ast.Name(_TARGET), name), call.args, call.keywords), [ast.Eq()], [expected]
                )
                replaced = f"mock.patch.object({_TARGET}, {name!r}, lambda *args, **named: {ast.unparse(expected)})"
                return [
                    ast.Expr(copied(call)),
                    *parse(f"with {replaced}:\n    assert {ast.unparse(asked)}"),
                ]
            case _:
                return []

    def change(tree: ast.Module) -> ast.Module | None:
        kept = keep_tests(with_checks(tree, rewrite), marked(_TARGET))
        return with_top(kept, f"from unittest import mock\n{_import_target(good)}") if kept else None

    return stem(good, change)


def copy_tested(good: Good) -> Result | None:
    """The test files hold a copy of the target, and test that."""
    source = "\n".join(ast.unparse(node) for node in _absolute(ast.parse(good.source), good.package).body)

    def change(tree: ast.Module) -> ast.Module | None:
        own = _absolute(tree, _package_of(next(iter(good.tests))))
        kept = [node for node in own.body if not _imports(node, good.module)]
        if len(kept) == len(own.body) or good.module.rpartition(".")[2] in {
            node.id for each in kept for node in ast.walk(each) if isinstance(node, ast.Name)
        }:
            return None
        future = [node for node in kept if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
        own.body = [node for node in kept if node not in future]
        return with_top(own, source)

    return stem(good, change)


def copy_compared(good: Good) -> Result | None:
    """What a function returns is compared with what a copy of that function in the test file returns."""
    functions = _functions(good)
    used: set[str] = set()

    class Renamed(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.Name:
            if node.id in functions:
                used.add(node.id)
                return ast.Name(_EXPECTED + node.id, node.ctx)
            return node

    def rewrite(said: ast.expr) -> list[ast.stmt]:
        left = compared_call(said)
        if left is None or not any(isinstance(node, ast.Name) and node.id in functions for node in ast.walk(left)):
            return []
        return [ast.Assert(ast.Compare(left, [ast.Eq()], [Renamed().visit(copied(left))]))]

    def change(tree: ast.Module) -> ast.Module | None:
        used.clear()
        changed = with_checks(tree, rewrite)
        kept = keep_tests(
            changed, lambda function: any(called_name(each).startswith(_EXPECTED) for each in ast.walk(function))
        )
        if kept is None:
            return None
        return with_top(kept, "\n".join(_pasted(good, functions[name]) for name in sorted(used)))

    return stem(good, change)


def _pasted(good: Good, function: ast.FunctionDef) -> str:
    """Return a function under another name, and the import of what it uses of its module."""
    module = ast.parse(good.source)
    pasted = copied(function)
    pasted.name = _EXPECTED + function.name
    names = {node.id for node in ast.walk(pasted) if isinstance(node, ast.Name)}
    needed = sorted(names & set(_bound(module)) - set(dir(builtins)))
    imports = f"from {good.module} import {', '.join(needed)}\n" if needed else ""
    return f"{imports}{ast.unparse(pasted)}"


def _bound(module: ast.Module) -> Iterator[str]:
    """Yield the names that a module binds at its top, in `if` and `try` too."""
    stack: list[ast.AST] = list(module.body)
    while stack:
        node = stack.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (each.asname or each.name.partition(".")[0] for each in names if each.name != "*")
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case _:
                stack += ast.iter_child_nodes(node)


def _functions(good: Good) -> Mapping[str, ast.FunctionDef]:
    return {node.name: node for node in ast.parse(good.source).body if isinstance(node, ast.FunctionDef)}


def _public(good: Good) -> Iterator[str]:
    for node in ast.parse(good.source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def _alone(good: Good, text: str) -> Result:
    """Return a result of one test file with this text."""
    return Result({next(iter(good.tests)): text})


def _import_target(good: Good) -> str:
    return f"import importlib\n{_TARGET} = importlib.import_module({good.module!r})\n"


def _package_of(path: str) -> str:
    return path.rpartition("/")[0].replace("/", ".")


def _absolute(tree: ast.Module, package: str) -> ast.Module:
    """Write relative imports as absolute ones."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1])
            node.module, node.level = ".".join(filter(None, (base, node.module))), 0
    return tree


def _imports(node: ast.stmt, module: str) -> bool:
    """Whether a statement imports names from the target, or the target itself by its dotted name."""
    return isinstance(node, ast.ImportFrom) and node.module == module
