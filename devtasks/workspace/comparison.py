"""What an agent changed: the workspace's files against its base commit."""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from devtasks import removal
from devtasks.errors import WorkspaceError
from devtasks.workspace.checkout import NEVER_DELIVERED, Workspace
from devtasks.workspace.git import Git, disk_error, names

MAX_DIFF_BYTES = 20 * 1024 * 1024
MAX_CHANGED_BYTES = 200 * 1024 * 1024

MAX_RULES_BYTES = 1024 * 1024

_RULES = (".gitignore", ".gitattributes")
_FILES = (
    ".",
    *(f":(exclude,glob)**/{name}{below}" for name in NEVER_DELIVERED for below in ("", "/**")),
)
_DIFF = "--no-renames --binary --full-index --no-ext-diff --no-textconv --no-color --src-prefix=a/ --dst-prefix=b/"
_GITLINK = "160000"


class ChangeStatus(StrEnum):
    """What happened to a file between the base commit and the workspace."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"


_STATUS = {
    "A": ChangeStatus.ADDED,
    "M": ChangeStatus.MODIFIED,
    "T": ChangeStatus.MODIFIED,
    "D": ChangeStatus.DELETED,
}


@dataclass(frozen=True)
class Change:
    """One changed file; `path` is relative to the repository's root, with forward slashes."""

    path: str
    status: ChangeStatus


@dataclass(frozen=True)
class Patch:
    """The difference between base commit and workspace; a renamed file is one deleted and one added.

    `content` is what `git apply` takes, `tree` the id of the whole in the trusted git dir. `left_out` names what the
    agent changed and git cannot deliver: repositories inside the workspace (their folder's name), files that git
    refuses or cannot read or whose names are not UTF-8, and named pipes, which `diff` removes. `reverted` are changes
    the task does not allow: `content` and `tree` are as if they had not been made.
    """

    content: bytes
    changes: tuple[Change, ...]
    tree: str
    left_out: tuple[str, ...] = ()
    reverted: tuple[Change, ...] = ()

    @property
    def text(self) -> str:
        """The patch to show; a byte that is not UTF-8 appears as a replacement character."""
        return self.content.decode(errors="replace")


@dataclass(frozen=True)
class _Entry:
    """One line of git's raw difference: what the index held before, and how the file differs."""

    old_mode: str
    new_mode: str
    old_id: str
    status: str
    path: bytes

    @property
    def deliverable(self) -> bool:
        try:
            self.path.decode()
        except UnicodeDecodeError:
            return False
        return self.new_mode != _GITLINK

    @property
    def change(self) -> Change:
        return Change(self.path.decode(), _STATUS[self.status])


def diff(workspace: Workspace, allowed: Callable[[str], bool] = lambda _: True) -> Patch:
    """Return how the workspace's files differ from the base commit; nothing of the agent's .git is read.

    Changes of paths that are not allowed are left out of the patch; `reset` to its tree puts them back on disk.
    Untracked files count unless the workspace's ignore rules name them; caches and coverage data never do.
    Symbolic links are compared as links.

    Raises:
        WorkspaceError: the difference is larger than 20 MiB, or the files that differ are larger than 200 MiB.
    """
    if workspace.path.is_symlink() or not workspace.path.is_dir():
        raise WorkspaceError(f"the workspace {workspace.path} is no longer a folder")
    try:
        removal.unlock(workspace.path)
        pipes = _make_harmless(workspace.path)
        with tempfile.TemporaryDirectory(prefix="diff-", dir=workspace.folder) as scratch:
            index = shutil.copy2(workspace.git_dir / "index", Path(scratch) / "index")
            patch = _compare(workspace, workspace.git.having(GIT_INDEX_FILE=str(index)), allowed)
            return replace(patch, left_out=(*pipes, *patch.left_out))
    except OSError as error:
        raise disk_error("the workspace cannot be compared", error) from error


def _make_harmless(top: Path) -> list[str]:
    """Remove named pipes, which git would wait on, and return their names; refuse rules git would read whole."""
    pipes: list[str] = []
    for parent, folders, files in top.walk():
        if parent == top and ".git" in folders:
            folders.remove(".git")
        for path in (parent / name for name in files):
            facts = path.lstat()
            if stat.S_ISFIFO(facts.st_mode):
                path.unlink()
                pipes.append(os.fsencode(path.relative_to(top)).decode(errors="replace"))
            elif path.name in _RULES and stat.S_ISREG(facts.st_mode) and facts.st_size > MAX_RULES_BYTES:
                raise WorkspaceError(f"a {path.name} of {facts.st_size:,} bytes is too large to follow")
    return pipes


def _compare(workspace: Workspace, git: Git, allowed: Callable[[str], bool]) -> Patch:
    base = workspace.base_commit
    _refuse_huge(workspace, _differing(git))
    git.run("add", "--all", "--ignore-errors", "--", *_FILES, accept=(0, 1))
    entries = _staged(git, base)
    _put_back(git, [entry for entry in entries if not entry.deliverable])
    left_out = tuple(name.decode(errors="replace") for name in _differing(git))
    kept = [entry for entry in entries if entry.deliverable]
    reverted = [entry for entry in kept if not allowed(entry.change.path)]
    if reverted:
        _put_back(git, reverted)
        kept = _staged(git, base)  # what was put back may have taken the place of an allowed file
    tree = git.line("write-tree")
    try:
        content = git.run("diff-tree", "-r", "-p", *_DIFF.split(), base, tree, limit=MAX_DIFF_BYTES)
    except WorkspaceError as error:
        raise WorkspaceError(f"the changes cannot be made a patch: {error}") from None
    return Patch(
        content, tuple(entry.change for entry in kept), tree, left_out, tuple(entry.change for entry in reverted)
    )


def _differing(git: Git) -> list[bytes]:
    """Return the untracked and the modified files by the index at hand; a repository in the workspace ends in `/`."""
    options = ("--others", "--modified", "--deduplicate", "--exclude-standard")
    return names(git.run("ls-files", "-z", *options, "--", *_FILES))


def _refuse_huge(workspace: Workspace, differing: list[bytes]) -> None:
    sizes: dict[str, int] = {}
    for name in map(os.fsdecode, differing):
        path = workspace.path / name
        if path.is_file() and not path.is_symlink():
            sizes[name] = path.stat().st_size
    if sum(sizes.values()) > MAX_CHANGED_BYTES:
        largest = max(sizes, key=sizes.__getitem__)
        raise WorkspaceError(
            f"the changed files hold more than {MAX_CHANGED_BYTES:,} bytes; the largest is {largest!r}"
        )


def _staged(git: Git, base: str) -> list[_Entry]:
    fields = iter(names(git.run("diff-index", "--cached", "--raw", "--no-renames", "--no-abbrev", "-z", base)))
    entries: list[_Entry] = []
    for facts, path in zip(fields, fields, strict=True):
        old_mode, new_mode, old_id, _, status = facts.decode().removeprefix(":").split()
        entries.append(_Entry(old_mode, new_mode, old_id, status, path))
    return entries


def _put_back(git: Git, entries: list[_Entry]) -> None:
    """Make the index hold again what the base commit holds there; the mode 000000 takes an entry out."""
    lines = b"".join(f"{entry.old_mode} {entry.old_id}\t".encode() + entry.path + b"\0" for entry in entries)
    git.run("update-index", "-z", "--index-info", stdin=lines)
