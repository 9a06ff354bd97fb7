"""What shows afterwards that a file was written to, even where its content is again what it was."""

from collections.abc import Collection, Mapping
from pathlib import Path

from devtasks.validation.conventions import is_test_code
from devtasks.validation.project_names import project_files

Stamp = tuple[int, int, int]
"""Inode, size and the time of the last change (ctime, in ns), which the file system sets and no program can."""


def stamps(workspace: Path, written: Collection[str]) -> Mapping[str, Stamp]:
    """Return the stamps of a tree's tests, in code and caches, and of the written files that are there."""
    paths = {*(path for path in project_files(workspace) if _decides(path)), *written}
    return {path: _stamp(workspace / path) for path in sorted(paths) if (workspace / path).exists()}


def _decides(path: str) -> bool:
    return (path.endswith(".py") and is_test_code(path)) or "-pytest-" in path


def _stamp(path: Path) -> Stamp:
    facts = path.stat(follow_symlinks=False)
    return facts.st_ino, facts.st_size, facts.st_ctime_ns
