"""Functions that a file of tests has copied from the code under test: what they say is right proves nothing."""

import ast
from collections.abc import Iterator

from devtasks.validation.docstrings import FunctionNode

MIN_NODES = 12
"""Parts of a syntax tree; two functions of fewer are alike by chance, such as `return value`."""


def copied_functions(tests: ast.Module, target: ast.Module) -> frozenset[str]:
    """Return the functions of a file of tests whose code is that of one of the target's.

    Names of functions, parameters and variables, annotations and docstrings make no difference.
    """
    originals = {shape for function in _functions(target) if (shape := _shape(function))}
    return frozenset(function.name for function in _functions(tests) if _shape(function) in originals)


def _functions(tree: ast.Module) -> Iterator[FunctionNode]:
    return (node for node in ast.walk(tree) if isinstance(node, FunctionNode))


def _shape(function: FunctionNode) -> str | None:
    """Return what a function does, with its own names numbered as they come; None for one too small to tell."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    nodes = [node for each in body for node in ast.walk(each)]
    if len(nodes) < MIN_NODES:
        return None
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    arguments += [each for each in (function.args.vararg, function.args.kwarg) if each]
    stored = (node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load))
    own = [function.name, *(each.arg for each in arguments), *stored]
    numbers = {name: f"name {number}" for number, name in enumerate(dict.fromkeys(own))}
    plain = _Renamed(numbers)
    return "\n".join(ast.dump(plain.visit(ast.parse(ast.unparse(each)).body[0])) for each in body)


class _Renamed(ast.NodeTransformer):
    """Gives names their numbers and takes annotations away, in a tree that nobody else holds."""

    def __init__(self, numbers: dict[str, str]) -> None:
        self._numbers = numbers

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self._numbers.get(node.id, node.id), node.ctx)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return ast.Pass()
        return self.visit(ast.Assign([node.target], node.value))
