"""A run's own copy of a repository: made at a commit, compared with it, delivered from it.

    prepare ─► <run>/workspace     where the agent works; has a .git of its own, which it may ruin
               <run>/trusted.git   the git dir of every command of ours on that work tree
    <state>/repositories/<hash>    what was cloned of a repository given by URL, shared by the runs on it

The design speaks of a `git worktree`; this is a shared clone instead, made with alternates, so that no object is
copied. A linked worktree's .git is the user's own: an agent that may write anything reaches its config, hooks and
refs there, and a crash leaves worktree metadata behind in it. Here the user's repository is only read, until
`deliver_branch` adds one branch to it.

Config, hooks, filters and attributes that an agent plants never run on the host: our git reads its configuration
from `trusted.git` alone, whose `info/attributes` also turn every conversion off. So the files of a workspace hold
exactly the bytes of the commit (LFS pointers stay pointers, line ends stay as committed), submodules are empty
folders, and what is delivered holds exactly the bytes of the files.

A workspace lives on the objects of its source: pruning those away while a run lasts breaks that run. In the cache of
repositories given by URL nothing is pruned, and a repository is removed only when no run is left on it.

A checkout's uncommitted changes are not taken: a run begins at a commit.
"""

from devtasks.workspace.checkout import (
    Workspace,
    apply_patch,
    list_files,
    prepare,
    read_bytes,
    read_file,
    remove,
    reset,
    seen_by_git,
    take_over,
)
from devtasks.workspace.comparison import Change, ChangeStatus, Patch, diff
from devtasks.workspace.delivery import DeliveredBranch, Identity, deliver_branch, deliver_patch
from devtasks.workspace.merging import Contribution, Merge, merge_patches
from devtasks.workspace.publication import push
from devtasks.workspace.remotes import branch_name, github_name
from devtasks.workspace.source import check_repository

__all__ = [
    "Change",
    "ChangeStatus",
    "Contribution",
    "DeliveredBranch",
    "Identity",
    "Merge",
    "Patch",
    "Workspace",
    "apply_patch",
    "branch_name",
    "check_repository",
    "deliver_branch",
    "deliver_patch",
    "diff",
    "github_name",
    "list_files",
    "merge_patches",
    "prepare",
    "push",
    "read_bytes",
    "read_file",
    "remove",
    "reset",
    "seen_by_git",
    "take_over",
]
