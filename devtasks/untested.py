"""Which modules of a repository have no tests, by a look at names and imports: a rule of thumb, made in moments."""

import ast
import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from devtasks.validation.conventions import TEST_PATTERNS, is_test_code, is_test_file
from devtasks.workspace.git import Git, names

_NO_MODULES = frozenset({"__init__.py", "__main__.py", "setup.py", "noxfile.py", "conf.py"})


def changed_files(repository: Path, commit: str, since: str | None = None) -> tuple[str, ...]:
    """Return the files that a commit, or all of them after `since`, have added or modified; none for a merge."""
    git, options = Git.at(repository), ("--no-renames", "--diff-filter=AM", "--name-only", "-z")
    if since is None:
        listed = git.run("diff-tree", "--root", "-r", "--no-commit-id", *options, commit)
    else:
        listed = git.run("diff", *options, f"{since}...{commit}", "--")
    return tuple(name.decode(errors="surrogateescape") for name in names(listed))


def untested_modules(repository: Path, commit: str) -> tuple[str, ...]:
    """Return the modules that a commit has added or modified, and that its tests do not name."""
    git = Git.at(repository)
    changed = modules(changed_files(repository, commit), lambda path: git.run("show", f"{commit}:{path}"))
    if not changed:
        return ()
    files = git.run("ls-tree", "-r", "-z", "--name-only", commit)
    tests = [path for each in names(files) if is_test_file(path := each.decode(errors="surrogateescape"))]
    return tuple(path for path in changed if not (_named(path, tests) or _imported(git, commit, path)))


def modules(paths: Iterable[str], read: Callable[[str], bytes]) -> tuple[str, ...]:
    """Return those files that hold code which unit tests can be written for: functions, outside of the tests."""
    return tuple(path for path in paths if _is_module(path) and _has_functions(read(path)))


def _is_module(path: str) -> bool:
    return path.endswith(".py") and not is_test_code(path) and PurePosixPath(path).name not in _NO_MODULES


def _has_functions(source: bytes) -> bool:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(tree))


def _named(path: str, tests: Iterable[str]) -> bool:
    stem = PurePosixPath(path).stem
    return any(PurePosixPath(test).stem in (f"test_{stem}", f"{stem}_test") for test in tests)


def _imported(git: Git, commit: str, path: str) -> bool:
    """Tell whether a line of a test that imports something has a module's name in it."""
    pattern = rf"^[[:space:]]*(from|import)[[:space:]].*\b{re.escape(PurePosixPath(path).stem)}\b"
    places = [f":(glob)**/{pattern}" for pattern in TEST_PATTERNS]
    return bool(git.run("grep", "--name-only", "-E", "-e", pattern, commit, "--", *places, accept=(0, 1)))
