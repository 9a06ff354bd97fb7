"""The workspace itself: made, brought back to its base commit, read and removed."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from devtasks import removal
from devtasks.errors import InvalidInput
from devtasks.task import DevTask
from devtasks.workspace.cache import cached_source
from devtasks.workspace.git import Git, disk_error, names
from devtasks.workspace.source import check_form, is_url, local_path, resolve, tree_entry

MAX_TEXT_BYTES = 1024 * 1024
NEVER_DELIVERED = ("__pycache__", ".pytest_cache", "*.pyc", ".coverage")

_WORKSPACE, _TRUSTED, _REPOSITORIES = "workspace", "trusted.git", "repositories"
_BRANCH = "devtasks"
_ALTERNATES = "objects/info/alternates"
# `!diff` too, lest an agent hide a text from its reader by calling it binary.
_ATTRIBUTES = "* -text !eol -ident !filter !working-tree-encoding !diff\n"
_SHARED_WITH_AGENT = (_ALTERNATES, "shallow", "index", "info/exclude", "info/attributes")


@dataclass(frozen=True)
class Workspace:
    """A run's copy of a repository; `repository` is a URL or an absolute path, `folder` holds all the rest."""

    path: Path
    git_dir: Path
    repository: str
    base_commit: str
    folder: Path

    @property
    def borrowed_objects(self) -> Path:
        """The object folder that git in the workspace reads; a sandbox shows it read-only at the same path."""
        return _alternates(self.git_dir / "objects")[0]

    @property
    def git(self) -> Git:
        """Git on the workspace's files through the trusted git dir."""
        return Git.isolated(self.git_dir, self.path)


def prepare(task: DevTask, folder: Path, repositories: Path | None = None) -> Workspace:
    """Make the run's workspace in its folder, at the task's base commit, in place of one left there by a crash.

    `repositories` is the cache for repositories given by URL; without one the run keeps its clone to itself.

    Raises:
        InvalidInput: as `check_repository`, of which a repository given by URL is checked here.
        WorkspaceError: git could not clone or check out.
    """
    check_form(task)
    folder = folder.absolute()
    with _disk_errors("the workspace cannot be made"):
        removal.remove(folder / _TRUSTED)
        _empty(folder / _WORKSPACE)
        if is_url(task.repository):
            with cached_source(task.repository, task.base_ref, repositories or folder / _REPOSITORIES) as cached:
                workspace = _make(task, folder, task.repository, cached.path, cached.ref)
                cached.folder.register(workspace.git_dir)
        else:
            source = local_path(task.repository)
            workspace = _make(task, folder, str(source), source, task.base_ref)
        _check_out(workspace)
    return workspace


def reset(workspace: Workspace, tree: str | None = None) -> None:
    """Bring the workspace to its base commit, or to a patch's tree: no other file is left, the agent's .git is new.

    The folder itself stays the same one, so that a mount of it stays valid.
    """
    with _disk_errors("the workspace cannot be reset"):
        _empty(workspace.path)
        _check_out(workspace)
        if tree:
            workspace.git.run("read-tree", "--reset", "-u", tree)


def take_over(workspace: Workspace, checkout: Path) -> None:
    """Have the workspace hold a checkout's files as they are, committed or not; what git ignores there stays away.

    Symbolic links stay links; repositories inside the checkout are left out. The checkout is only read.
    """
    listed = names(
        Git.at(checkout).run("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate")
    )
    with _disk_errors("the checkout cannot be copied"):
        _empty(workspace.path)
        for name in map(os.fsdecode, listed):
            source, copy = checkout / name, workspace.path / name
            if source.is_symlink() or source.is_file():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, copy, follow_symlinks=False)


def apply_patch(workspace: Workspace, patch: bytes, *options: str) -> None:
    """Change the workspace's files as a patch says; raise WorkspaceError where it does not apply."""
    workspace.git.run("apply", "--whitespace=nowarn", *options, "-", stdin=patch)


def seen_by_git(folder: Path) -> tuple[Path, ...]:
    """Return what a sandbox shows read-only, at the same paths, none before the workspace is made.

    That is the trusted git dir, which lies beside the workspace, and the object folders that the workspace lives on,
    those they borrow from themselves too.
    """
    trusted = folder.absolute() / _TRUSTED
    found = {trusted: None} if trusted.is_dir() else {}
    ahead = _alternates(trusted / "objects")
    while ahead:
        objects = ahead.pop()
        if objects not in found and objects.is_dir():
            found[objects] = None
            ahead += _alternates(objects)
    return tuple(found)


def remove(workspace: Workspace | Path) -> None:
    """Delete the run's folder, whatever an agent made of the rights in it; absent is fine."""
    with _disk_errors("the run's folder cannot be removed"):
        removal.remove(workspace.folder if isinstance(workspace, Workspace) else workspace)


def list_files(workspace: Workspace) -> tuple[str, ...]:
    """Return the paths of the base commit's regular files, sorted as git sorts them."""
    entries = (entry.partition(b"\t") for entry in names(workspace.git.run("ls-tree", "-rz", workspace.base_commit)))
    return tuple(name.decode(errors="replace") for facts, _, name in entries if facts.startswith(b"100"))


def read_file(workspace: Workspace, path: str) -> str | None:
    """Return a file's text at the base commit; None as `read_bytes`, and where it is no UTF-8. Raises the same."""
    content = read_bytes(workspace, path)
    try:
        return content.decode() if content is not None else None
    except UnicodeDecodeError:
        return None


def read_bytes(workspace: Workspace, path: str) -> bytes | None:
    """Return a file's content at the base commit; None unless it is a regular file of at most 1 MiB.

    Raises:
        InvalidInput: the path is absolute or leads out of the workspace.
    """
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise InvalidInput("path", path, "a path inside the workspace, relative to its root")
    entry = tree_entry(workspace.git, workspace.base_commit, path)
    if entry is None or not entry.is_file or entry.size > MAX_TEXT_BYTES:
        return None
    return workspace.git.run("cat-file", "blob", entry.object_id)


def _make(task: DevTask, folder: Path, repository: str, source: Path, ref: str) -> Workspace:
    workspace = Workspace(folder / _WORKSPACE, folder / _TRUSTED, repository, resolve(task, source, ref), folder)
    _make_trusted(workspace, source)
    return workspace


def _empty(folder: Path) -> None:
    """Make a folder empty, which stays the same one where it is there."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        folder.mkdir(parents=True)
    removal.unlock(folder)
    for child in folder.iterdir():
        removal.remove(child)


def _alternates(objects: Path) -> list[Path]:
    """Return the object folders that an object folder names as its alternates."""
    try:
        lines = (objects / "info/alternates").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    named = (line for line in lines if line and not line.startswith("#"))
    return [Path(os.path.normpath(objects / line)) for line in named]  # as git reads them: relative to the folder


def _make_trusted(workspace: Workspace, source: Path) -> None:
    asked = ("--git-path", "objects", "--git-path", "shallow")
    objects, shallow = Git.at(source).line("rev-parse", "--path-format=absolute", *asked).splitlines()
    _initialise(workspace, workspace.git_dir)
    (workspace.git_dir / _ALTERNATES).write_text(f"{objects}\n", errors="surrogateescape")
    if Path(shallow).is_file():
        shutil.copyfile(shallow, workspace.git_dir / "shallow")
    (workspace.git_dir / "info").mkdir(exist_ok=True)
    (workspace.git_dir / "info/exclude").write_text("".join(f"{name}\n" for name in NEVER_DELIVERED))
    (workspace.git_dir / "info/attributes").write_text(_ATTRIBUTES)


def _check_out(workspace: Workspace) -> None:
    for name in ("index", "index.lock"):
        (workspace.git_dir / name).unlink(missing_ok=True)
    workspace.git.run("read-tree", "--reset", "-u", workspace.base_commit)
    agents = workspace.path / ".git"
    _initialise(workspace, agents)
    for name in _SHARED_WITH_AGENT:
        if (workspace.git_dir / name).exists():
            (agents / name).parent.mkdir(exist_ok=True)
            # With its times: git compares the index file's with those of the files it lists.
            shutil.copy2(workspace.git_dir / name, agents / name)
    (agents / "refs/heads" / _BRANCH).write_text(f"{workspace.base_commit}\n")


def _initialise(workspace: Workspace, git_dir: Path) -> None:
    object_format = "sha256" if len(workspace.base_commit) == 64 else "sha1"
    options = ("--template=", f"--initial-branch={_BRANCH}", f"--object-format={object_format}")
    Git.isolated(git_dir, workspace.path).run("init", "--quiet", *options)


@contextmanager
def _disk_errors(what: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise disk_error(what, error) from error
