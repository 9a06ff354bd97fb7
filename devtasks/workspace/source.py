"""The repository a task names: a folder or a URL, checked before anything is paid for."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from devtasks.errors import InvalidInput, WorkspaceError
from devtasks.task import Delivery, DevTask, TaskCategory
from devtasks.workspace.git import Git
from devtasks.workspace.remotes import github_name

_URL = re.compile(r"(?:https|ssh|file)://|[A-Za-z0-9_][\w.-]*@[\w.-]+:")
_SECRET = re.compile(r"(https://(?=[^/]*@)|(?:ssh|file)://(?=[^/@]*:[^/]*@))[^/]*@")
_URLS = "a git URL (https://, ssh://, file:// or git@host:path)"
_REPOSITORY = f"a git repository (the folder that holds .git, or a bare one) or {_URLS}"
_NO_FILE = {"120000": "a symbolic link", "040000": "a folder", "160000": "a submodule"}
_NEAR = 5
_MAX_REFS = 10_000


@dataclass(frozen=True)
class TreeEntry:
    """What a commit holds at one path; `size` in bytes, 0 for anything but a blob."""

    mode: str
    object_id: str
    size: int

    @property
    def is_file(self) -> bool:
        """Whether this is a regular file."""
        return self.mode not in _NO_FILE


def is_url(repository: str) -> bool:
    """Tell whether a task's repository is to be cloned rather than found on this machine."""
    return _URL.match(repository) is not None


def local_path(repository: str) -> Path:
    """Return the absolute path of a repository on this machine; `~` and relative paths are understood."""
    try:
        return Path(repository).expanduser().resolve()
    except (RuntimeError, ValueError, OSError):
        raise InvalidInput("repository", repository, _REPOSITORY) from None


def check_repository(task: DevTask) -> str:
    """Return the full id of the task's base commit, after checking all that the task says of its repository.

    Of a URL only the form is checked, and `base_ref` is returned as it stands: `prepare` checks the rest.

    Raises:
        InvalidInput: no such repository or commit, a named file is not a regular file of that commit, or there is no
            remote that a pull request could be opened at.
    """
    check_form(task)
    if is_url(task.repository):
        return task.base_ref
    commit = resolve(task, local_path(task.repository), task.base_ref)
    if task.delivery is Delivery.PULL_REQUEST:
        github_name(local_path(task.repository))
    return commit


def check_form(task: DevTask) -> None:
    """Refuse with InvalidInput what can be refused without looking at the repository."""
    target = task.target_file
    if task.category is TaskCategory.UNIT_TEST and (target is None or not target.endswith(".py")):
        raise InvalidInput("target_file", target, "a Python file (.py) to write unit tests for")
    if not is_url(task.repository):
        return
    if _SECRET.match(task.repository):
        without = _SECRET.sub(r"\1…@", task.repository)
        raise InvalidInput("repository", without, "a URL without user or password; git's credential helper has those")
    if task.delivery is not Delivery.PATCH:
        raise InvalidInput("delivery", str(task.delivery), "patch for a repository given by URL")


def resolve(task: DevTask, repository: Path, ref: str) -> str:
    """Return the full id of the commit `ref` names in a repository on this machine, where the task's files exist."""
    git = Git.at(repository)
    if not repository.is_dir():
        raise InvalidInput("repository", task.repository, f"{_REPOSITORY}; {repository} is no folder")
    try:
        git.run("rev-parse", "--git-dir")
    except WorkspaceError as error:
        raise InvalidInput("repository", task.repository, f"{_REPOSITORY} ({error})") from None
    commit = _commit(git, task, ref)
    for field, name in _named_files(task):
        entry = tree_entry(git, commit, name)
        if entry is None:
            raise InvalidInput(field, name, f"a file of the repository at {task.base_ref} ({commit[:12]})")
        if not entry.is_file:
            raise InvalidInput(field, name, f"a regular file; at {commit[:12]} it is {_NO_FILE[entry.mode]}")
    return commit


def tree_entry(git: Git, commit: str, path: str) -> TreeEntry | None:
    """Return what the commit holds at a path relative to the root, or None."""
    wanted = str(PurePosixPath(path))
    listed = git.run("--literal-pathspecs", "ls-tree", "--full-tree", "--long", "-z", commit, "--", wanted)
    facts, _, name = listed.removesuffix(b"\0").partition(b"\t")
    if name != wanted.encode(errors="surrogateescape"):
        return None
    mode, _, object_id, size = facts.decode().split()
    return TreeEntry(mode, object_id, int(size) if size.isdigit() else 0)


def _commit(git: Git, task: DevTask, ref: str) -> str:
    try:
        return git.line("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    except WorkspaceError:
        if not git.line("rev-list", "--max-count=1", "--all"):
            raise InvalidInput("repository", task.repository, "a repository with at least one commit") from None
        near = _near_names(git, task.base_ref)
        allowed = f"a branch, tag or commit of the repository{f', such as {near}' if near else ''}"
        raise InvalidInput("base_ref", task.base_ref, allowed) from None


def _near_names(git: Git, ref: str) -> str:
    """Return the names of branches and tags most like this one; those changed last where none is like it."""
    kinds = ("refs/heads", "refs/tags", "refs/remotes")
    options = (f"--count={_MAX_REFS}", "--sort=-creatordate", "--format=%(refname:short)")
    known = git.line("for-each-ref", *options, *kinds).splitlines()
    return ", ".join(get_close_matches(ref, known, _NEAR) or known[:_NEAR])


def _named_files(task: DevTask) -> Iterator[tuple[str, str]]:
    if task.target_file is not None:
        yield "target_file", task.target_file
    for name in task.context_files:
        yield "context_files", name
    for name in task.acceptance_tests:
        yield "acceptance_tests", name
