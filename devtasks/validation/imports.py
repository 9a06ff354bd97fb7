"""What a Python file imports, read without running it: at module level, inside functions, and relative to itself."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

CATCHING = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})

DEPENDING = frozenset({"TYPE_CHECKING", "typing.TYPE_CHECKING", "sys.version_info", "sys.platform", "os.name"})
"""What a condition asks that decides on an import by the interpreter or the platform."""


@dataclass(frozen=True)
class Import:
    """One imported module, or a name from it, at a line; `module` is None where it lies above the top package.

    `guarded` says that the file can do without it: it catches the failure, or imports it only sometimes.
    """

    module: str | None
    name: str | None
    line: int
    guarded: bool

    @property
    def key(self) -> tuple[str | None, str | None]:
        """What is imported, wherever that stands."""
        return self.module, self.name

    @property
    def label(self) -> str:
        """The import as it could stand in a file."""
        return f"from {self.module} import {self.name}" if self.name else f"import {self.module}"


def imports(tree: ast.Module, package: str) -> tuple[Import, ...]:
    """Return what a file of this package imports, in its order; `package` is empty for a module at the top."""
    return tuple(_imports(tree, package.split(".") if package else [], guarded=False))


def _imports(node: ast.AST, package: list[str], *, guarded: bool) -> Iterator[Import]:
    match node:
        case ast.Import():
            yield from (Import(alias.name, None, node.lineno, guarded) for alias in node.names)
        case ast.ImportFrom():
            module = _absolute(node, package)
            yield from (Import(module, alias.name, node.lineno, guarded) for alias in node.names)
        case _:
            inside = guarded or _guards(node)
            for child in ast.iter_child_nodes(node):
                yield from _imports(child, package, guarded=inside)


def _absolute(node: ast.ImportFrom, package: list[str]) -> str | None:
    if not node.level:
        return node.module
    if node.level > len(package):
        return None
    above = package[: len(package) - node.level + 1]
    return ".".join([*above, node.module] if node.module else above)


def _guards(node: ast.AST) -> bool:
    match node:
        case ast.Try(handlers=handlers):
            caught = [each for handler in handlers for each in ast.walk(handler.type or ast.Name("Exception"))]
            return any(_last_name(each) in CATCHING for each in caught)
        case ast.With(items=items):
            calls = [each.context_expr for each in items if isinstance(each.context_expr, ast.Call)]
            suppressing = [call for call in calls if _last_name(call.func) == "suppress"]
            return any(_last_name(name) in CATCHING for call in suppressing for name in call.args)
        case ast.If(test=test):
            return any(ast.unparse(each) in DEPENDING for each in ast.walk(test) if isinstance(each, ast.expr))
        case _:
            return False


def _last_name(node: ast.AST) -> str:
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case _:
            return ""
