"""Whether a name stands for something in a project: a module, a class, a function, or a member of one."""

import ast
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from devtasks.validation.docstrings import FunctionNode
from devtasks.validation.project_names import files_with_class, member_names, module_names, project_files, read_tree
from devtasks.validation.reports import read_bounded

_ROOTS = ("", "src/")


@dataclass(frozen=True, eq=False)
class ProjectSymbols:
    """The files of a workspace and the names they define; files are parsed when a name first leads to them."""

    workspace: Path
    _trees: dict[str, ast.Module | None] = field(default_factory=dict[str, ast.Module | None], init=False)

    @cached_property
    def files(self) -> frozenset[str]:
        """The paths of every file, relative to the workspace."""
        return frozenset(project_files(self.workspace))

    @cached_property
    def modules(self) -> dict[str, str]:
        """The file of each dotted module name, counted from the workspace and from `src`."""
        found: dict[str, str] = {}
        for path in sorted(self.files):
            for root in _ROOTS:
                name = PurePosixPath(path.removeprefix(root))
                if path.startswith(root) and name.suffix == ".py":
                    parts = name.with_suffix("").parts
                    found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        return found

    @cached_property
    def packages(self) -> frozenset[str]:
        """The dotted names of the folders that hold modules."""
        parents = (name.split(".")[:end] for name in self.modules for end in range(1, name.count(".") + 1))
        return frozenset(".".join(parts) for parts in parents)

    def in_file(self, path: str, symbol: str) -> bool:
        """Whether a file defines a dotted symbol; a file that is not Python may define anything."""
        if path not in self._trees:
            self._trees[path] = read_tree(self.workspace / path) if path.endswith(".py") else None
        tree = self._trees[path]
        return tree is None or _defines(tree, symbol.split("."))

    def mentions(self, path: str, symbol: str) -> bool:
        """Whether the last part of a dotted symbol is a word of a file; of a folder everything may be."""
        content = read_bounded(self.workspace / path)
        word = re.compile(rf"\b{re.escape(symbol.rpartition('.')[2])}\b".encode())
        return content is None or word.search(content) is not None

    def knows(self, dotted: str) -> bool | None:
        """Whether a dotted name exists; None where its first part is neither a module nor a class of the project."""
        parts = dotted.split(".")
        for end in range(len(parts), 0, -1):
            module, rest = ".".join(parts[:end]), parts[end:]
            if module in self.modules:
                return not rest or self.in_file(self.modules[module], ".".join(rest))
            if module in self.packages:
                return not rest
        classes = self._classes(parts[0])
        return any(_class_defines(node, parts[1:]) for node in classes) if classes else None

    def _classes(self, name: str) -> list[ast.ClassDef]:
        """Return the top-level classes of this name in any file."""
        trees = (read_tree(self.workspace / path) for path in files_with_class(self.workspace, name))
        nodes = (node for tree in trees if tree for node in tree.body)
        return [node for node in nodes if isinstance(node, ast.ClassDef) and node.name == name]


def _defines(tree: ast.Module, parts: list[str]) -> bool:
    """Look a name up in a module; of what it imports or assigns, the members are not looked into."""
    first, *rest = parts
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == first]
    if classes:
        return any(_class_defines(node, rest) for node in classes)
    if not module_names(tree).isdisjoint((first, "*", "__getattr__")):
        return True
    # A method or an inner function may be cited by its own name.
    inner = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef | FunctionNode))
    return not rest and any(
        node.name == first or (isinstance(node, ast.ClassDef) and first in member_names(node)) for node in inner
    )


def _class_defines(node: ast.ClassDef, parts: list[str]) -> bool:
    return not parts or parts[0] in member_names(node) or bool(node.bases) or bool(node.decorator_list)
