"""Several accepted patches as one new branch of the user's repository: a commit for each, in their order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devtasks.errors import InvalidInput, WorkspaceError
from devtasks.workspace.checkout import Workspace, apply_patch
from devtasks.workspace.delivery import MAX_NAMES, Identity, candidates, check_name, commit_tree, point, tip_of
from devtasks.workspace.git import Git
from devtasks.workspace.source import is_url

BATCH_TRAILER = "Devtasks-Batch"


@dataclass(frozen=True)
class Contribution:
    """One task's patch, and the message of its commit."""

    name: str
    patch: bytes
    message: str


@dataclass(frozen=True)
class Merge:
    """The branch that patches were put together on, and by name which are on it, and why the others are not.

    Where none could be put on it there is no branch.
    """

    branch: str | None
    commit: str
    merged: tuple[str, ...]
    left_out: Mapping[str, str]


def merge_patches(
    workspace: Workspace, contributions: Sequence[Contribution], *, branch: str, batch: str, author: Identity
) -> Merge:
    """Commit each patch that applies on top of the others, and have a branch of the repository point to the last.

    Nothing else is touched there. A branch of that name that the same batch made is replaced; one that is taken by
    anything else, or is checked out, is left alone, and `<branch>-2`, `<branch>-3`, ... is used.

    Raises:
        InvalidInput: the repository was given by URL, or the branch's name is not one git allows.
        WorkspaceError: git refused.
    """
    if is_url(workspace.repository):
        raise InvalidInput("one_branch", branch, "no branch for a repository given by URL")
    user = Git.at(Path(workspace.repository))
    check_name(user, branch)
    git, head = workspace.git, workspace.base_commit
    tree = git.line("rev-parse", f"{head}^{{tree}}")
    merged: list[str] = []
    left_out: dict[str, str] = {}
    for each in contributions:
        try:
            apply_patch(workspace, each.patch, "--index", "--3way")
            changed = git.line("write-tree")
        except WorkspaceError as error:
            git.run("read-tree", "--reset", "-u", tree)
            left_out[each.name] = f"its patch does not apply on top of the others: {_words(error)}"
            continue
        if changed == tree:
            left_out[each.name] = "its patch changes nothing on top of the others"
            continue
        message = f"{each.message.rstrip()}\n{BATCH_TRAILER}: {batch}\n"
        tree, head = changed, commit_tree(workspace, changed, head, message, author)
        merged.append(each.name)
    name = _named(workspace, user, branch, commit=head, batch=batch) if merged else None
    return Merge(name, head, tuple(merged), left_out)


def _named(workspace: Workspace, user: Git, branch: str, *, commit: str, batch: str) -> str:
    """Have the first name that is free, or the batch's own, point to a commit; return it."""
    for name in candidates(branch):
        seen = tip_of(user, name)
        if seen and (seen.batch != batch or seen.worktree):
            continue
        if point(workspace, user, name, commit, seen):
            return name
    raise WorkspaceError(f"{MAX_NAMES} branches named like {branch} exist; delete those no longer needed")


def _words(error: WorkspaceError) -> str:
    return " ".join(str(error).split())[:200]
