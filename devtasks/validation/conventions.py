"""Which files are tests by pytest's conventions, and which tests a file holds, read without running it."""

import ast
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TypeGuard

from devtasks.validation.docstrings import FunctionNode, decorators
from devtasks.validation.reports import read_bounded

TEST_PATTERNS = ("test_*.py", "*_test.py")
TEST_FOLDERS = frozenset({"test", "tests"})
SUPPORT_FILES = frozenset({"conftest.py", "__init__.py"})
NOT_SEARCHED = ("*.egg", ".*", "_darcs", "build", "CVS", "dist", "node_modules", "venv", "{arch}")
MAX_SOURCE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class ExistingTest:
    """A test function or method of a file, such as `TestLogin::test_refused`; `digest` changes with its code."""

    path: str
    name: str
    digest: str


def is_test_file(path: str) -> bool:
    """Whether pytest collects a file of this name."""
    name = PurePosixPath(path).name
    return any(fnmatchcase(name, pattern) for pattern in TEST_PATTERNS)


def is_test_support(path: str) -> bool:
    """Whether this is a conftest.py or __init__.py under a folder of tests."""
    *folders, name = PurePosixPath(path).parts
    return name in SUPPORT_FILES and not TEST_FOLDERS.isdisjoint(folders)


def is_test_code(path: str) -> bool:
    """Whether this belongs to the tests: a test file, a conftest.py, or anything in a folder of tests."""
    *folders, name = PurePosixPath(path).parts
    return is_test_file(path) or name == "conftest.py" or not TEST_FOLDERS.isdisjoint(folders)


def existing_tests(workspace: Path) -> tuple[ExistingTest, ...]:
    """Return every test of a tree, in the folders pytest searches; a file that does not parse has none."""
    tests: list[ExistingTest] = []
    for folder, folders, files in workspace.walk():
        folders[:] = sorted(name for name in folders if not any(fnmatchcase(name, skip) for skip in NOT_SEARCHED))
        for name in sorted(filter(is_test_file, files)):
            tests.extend(read_tests(workspace, (folder / name).relative_to(workspace).as_posix()) or ())
    return tuple(tests)


def read_tests(workspace: Path, path: str) -> tuple[ExistingTest, ...] | None:
    """Return the tests of one file; None where it cannot be read or parsed."""
    source = read_bounded(workspace / path, MAX_SOURCE_BYTES)
    if source is None:
        return None
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return tuple(ExistingTest(path, name, _digest(node)) for name, node in dict(defined_tests(tree)).items())


def defined_tests(scope: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, FunctionNode]]:
    """Yield a file's tests in their order, by names such as `TestLogin::test_refused`."""
    for node in scope.body:
        if isinstance(node, ast.ClassDef):
            yield from defined_tests(node, f"{prefix}{node.name}::")
        elif is_test_function(node):
            yield f"{prefix}{node.name}", node


def is_test_function(node: ast.AST) -> TypeGuard[FunctionNode]:
    """Whether pytest would call a function a test by its name; a fixture is none."""
    return isinstance(node, FunctionNode) and node.name.startswith("test") and "fixture" not in decorators(node)


def _digest(node: FunctionNode) -> str:
    return hashlib.sha256(ast.dump(node).encode()).hexdigest()[:16]


def python_path(workspace: Path) -> str:
    """Return the PYTHONPATH under which a project's own code is found first: its root, and `src` where there is one."""
    roots = [workspace, *filter(Path.is_dir, [workspace / "src"])]
    return os.pathsep.join(map(str, roots))
