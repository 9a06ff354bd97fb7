"""The names that a project's Python files define, read without running them."""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from devtasks.validation.conventions import MAX_SOURCE_BYTES, NOT_SEARCHED
from devtasks.validation.docstrings import FunctionNode, parse
from devtasks.validation.reports import read_bounded

MAX_FILES = 5_000


def project_files(workspace: Path) -> Iterator[str]:
    """Yield the paths of a tree's files, folders of tools and environments aside, at most MAX_FILES in each folder."""
    for folder, folders, files in workspace.walk():
        folders[:] = sorted(name for name in folders if not any(fnmatchcase(name, skip) for skip in NOT_SEARCHED))
        for name in sorted(files)[:MAX_FILES]:
            yield (folder / name).relative_to(workspace).as_posix()


def files_with_class(workspace: Path, name: str) -> Iterator[str]:
    """Yield the paths of the Python files that seem to define a class of this name, without parsing them."""
    definition = re.compile(rf"^\s*class {re.escape(name)}\b".encode(), re.MULTILINE)
    for path in project_files(workspace):
        source = read_bounded(workspace / path, MAX_SOURCE_BYTES) if path.endswith(".py") else None
        if source and definition.search(source):
            yield path


def read_tree(path: Path) -> ast.Module | None:
    """Return the syntax tree of a file; None where it cannot be read or parsed."""
    source = read_bounded(path, MAX_SOURCE_BYTES)
    return parse(source) if source is not None else None


def module_names(module: ast.Module) -> frozenset[str]:
    """Return the names that a module binds anywhere but inside functions: definitions, imports and assignments."""
    return frozenset(_bound(module.body))


def member_names(node: ast.ClassDef) -> frozenset[str]:
    """Return the names of a class's members, those its methods assign to `self` among them."""
    inner = (each for method in node.body if isinstance(method, FunctionNode) for each in ast.walk(method))
    attributes = {each.attr for each in inner if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store)}
    return frozenset({*_bound(node.body), *attributes})


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef | FunctionNode):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        else:
            stored = (each for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store))
            yield from (each.id for each in stored)
            inner = (each for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt | ast.ExceptHandler))
            for each in inner:
                yield from _bound(each.body if isinstance(each, ast.ExceptHandler) else [each])
