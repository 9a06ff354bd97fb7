"""How an accepted patch reaches the user: as a file, or as a commit on a branch of its own."""

import itertools
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devtasks.errors import InvalidInput, WorkspaceError
from devtasks.task import Delivery
from devtasks.workspace.checkout import Workspace
from devtasks.workspace.comparison import Patch
from devtasks.workspace.git import Git
from devtasks.workspace.source import is_url

MAX_NAMES = 100
_RUN = re.compile(r"^Devtasks-Run:[ \t]*(\S+)[ \t]*$", re.MULTILINE)
_BATCH = re.compile(r"^Devtasks-Batch:[ \t]*(\S+)[ \t]*$", re.MULTILINE)
_RESULT = "refs/devtasks/result"
_TIP = "%00".join(f"%({field})" for field in ("refname", "objectname", "tree", "parent", "worktreepath", "contents"))


@dataclass(frozen=True)
class Identity:
    """Whom a commit names as its author and committer."""

    name: str
    email: str


@dataclass(frozen=True)
class DeliveredBranch:
    """Where a result was delivered: the branch's name, as it was free, and the full id of the commit."""

    branch: str
    commit: str


@dataclass(frozen=True)
class Tip:
    """What a branch's name stands for in the user's repository; all empty when it only has branches below it.

    `run` is the id in the last trailer `Devtasks-Run` of the commit's message, `batch` the one in `Devtasks-Batch`.
    """

    commit: str = ""
    tree: str = ""
    parent: str = ""
    worktree: str = ""
    run: str | None = None
    batch: str | None = None


def deliver_patch(patch: Patch, destination: Path) -> Path:
    """Write the patch to a file that appears whole or not at all, in place of one of that name; return its path.

    Only the user may read it.
    """
    destination = destination.absolute()
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".patch-", dir=destination.parent) as scratch:
            file = Path(scratch) / "patch"
            file.touch(mode=0o600)
            with file.open("wb") as stream:
                stream.write(patch.content)
                stream.flush()
                os.fsync(stream.fileno())
            return file.replace(destination)
    except OSError as error:
        raise WorkspaceError(f"the patch cannot be written to {destination}: {error}") from error


def deliver_branch(
    workspace: Workspace, patch: Patch, *, branch: str, message: str, author: Identity
) -> DeliveredBranch:
    """Put the patch as one commit on a new branch of the user's repository, and touch nothing else there.

    The message's trailer `Devtasks-Run: <id>` makes this idempotent: the same run's earlier delivery is kept, or
    replaced where its content differs. A name that is taken by anything else, or is checked out, is left alone, and
    `<branch>-2`, `<branch>-3`, ... is used.

    Raises:
        InvalidInput: the repository was given by URL, or the branch's name is not one git allows.
        WorkspaceError: the patch changes nothing, or git refused.
    """
    if is_url(workspace.repository):
        raise InvalidInput("delivery", str(Delivery.BRANCH), "patch for a repository given by URL")
    if not patch.changes:
        raise WorkspaceError("the patch changes nothing: there is nothing to deliver")
    user = Git.at(Path(workspace.repository))
    check_name(user, branch)
    run = _run_id(message)
    for name in candidates(branch):
        seen = tip_of(user, name)
        if seen and (seen.commit == "" or seen.run is None or seen.run != run):
            continue
        if seen and (seen.tree, seen.parent) == (patch.tree, workspace.base_commit):
            return DeliveredBranch(name, seen.commit)
        if seen and seen.worktree:
            continue
        commit = commit_tree(workspace, patch.tree, workspace.base_commit, message, author)
        if point(workspace, user, name, commit, seen):
            return DeliveredBranch(name, commit)
    raise WorkspaceError(f"{MAX_NAMES} branches named like {branch} exist; delete those no longer needed")


def check_name(user: Git, branch: str) -> None:
    """Refuse with InvalidInput a name that git does not allow for a branch."""
    try:
        user.run("check-ref-format", f"refs/heads/{branch}")
    except WorkspaceError:
        valid = False
    else:
        valid = not branch.startswith("-")
    if not valid:
        raise InvalidInput("branch", branch, "a name that git allows for a branch")


def candidates(branch: str) -> Iterator[str]:
    """Yield a branch's name, then that name with numbers."""
    numbered = (f"{branch}-{number}" for number in range(2, MAX_NAMES + 1))
    return itertools.chain([branch], numbered)


def tip_of(user: Git, branch: str) -> Tip | None:
    """Return what a branch's name stands for in a repository, None where it is free."""
    listed = user.run("for-each-ref", f"--format={_TIP}", f"refs/heads/{branch}").decode(errors="replace")
    if not listed:
        return None
    ref, commit, tree, parent, worktree, contents = listed.split("\0", 5)
    found = _BATCH.findall(contents)
    batch = found[-1] if found else None
    return Tip(commit, tree, parent, worktree, _run_id(contents), batch) if ref == f"refs/heads/{branch}" else Tip()


def _run_id(message: str) -> str | None:
    found = _RUN.findall(message)
    return found[-1] if found else None


def commit_tree(workspace: Workspace, tree: str, parent: str, message: str, author: Identity) -> str:
    """Return the id of a new commit of this tree in the workspace's own objects."""
    who = {
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (("NAME", author.name), ("EMAIL", author.email))
    }
    git = workspace.git.having(**who)
    return git.run("commit-tree", tree, "-p", parent, "-F", "-", stdin=message.encode()).decode().strip()


def point(workspace: Workspace, user: Git, branch: str, commit: str, seen: Tip | None) -> bool:
    """Bring the commit over and make the branch point to it; False when someone else changed the branch meanwhile."""
    workspace.git.run("update-ref", _RESULT, commit)
    options = ("--no-tags", "--no-prune", "--no-write-fetch-head", "--no-recurse-submodules")
    user.run("fetch", "--quiet", *options, "--", str(workspace.git_dir), _RESULT)
    expected = seen.commit if seen else "0" * len(commit)
    try:
        user.run("update-ref", "--no-deref", "-m", "devtasks: deliver", f"refs/heads/{branch}", commit, expected)
    except WorkspaceError:
        if tip_of(user, branch) == seen:
            raise
        return False
    return True
