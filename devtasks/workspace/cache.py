"""Repositories given by URL: cloned once into a cache that runs and processes share, and fetched after.

What is cached is a bare repository named by the URL's hash. It holds no more than was asked for: the commits of the
refs that runs began at, without their history, until a run asks for a ref that needs all of it (`HEAD~3`, a short id).
Objects are never pruned there, because workspaces live on them; the whole goes when no run needs it (`unused`, `remove`
of devtasks.shared_folders).
"""

import hashlib
import re
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from devtasks.errors import WorkspaceError
from devtasks.shared_folders import SharedFolder
from devtasks.workspace.git import NETWORK_SECONDS, Git

URL_FILE = "devtasks-url"
"""The file in a cached repository that says which URL it is of."""

_FULL_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_FETCH = ("fetch", "--quiet", "--no-write-fetch-head", "--no-recurse-submodules", "--force")
_ALL = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
_HEAD = "refs/remotes/origin/HEAD"


@dataclass(frozen=True)
class CachedSource:
    """A cached repository that is held: its folder, and the name or id in there of the ref that was asked for."""

    path: Path
    ref: str
    folder: SharedFolder


@contextmanager
def cached_source(url: str, ref: str, cache: Path) -> Generator[CachedSource]:
    """Clone or fetch what `ref` names of a remote repository, and hold the cached repository meanwhile.

    A full commit id that is there already needs no network. Whoever makes a workspace on it registers that workspace
    with `folder` before letting go. Raises WorkspaceError where the remote cannot be reached or does not answer.
    """
    folder = SharedFolder(cache / hashlib.sha256(url.encode()).hexdigest()[:24])
    with folder.changed() as lock:
        if not folder.path.is_dir():
            _create(url, folder.path, lock)
        _clear_locks(folder.path)
        git = replace(Git.at(folder.path).over_network(), kept=(lock,))
        yield CachedSource(folder.path, _fetch(git, url, ref), folder)


def _create(url: str, path: Path, lock: int) -> None:
    """Make the repository empty, with the object format of the remote, under another name until it is whole."""
    with TemporaryDirectory(prefix=f"{path.name}.new-", dir=path.parent) as scratch:
        draft = Path(scratch) / "repository"
        draft.mkdir()
        git = replace(Git.at(draft).over_network(), kept=(lock,))
        head = git.run("ls-remote", "--", url, "HEAD", seconds=NETWORK_SECONDS).split(b"\t")[0]
        object_format = "sha256" if len(head) == 64 else "sha1"
        git.run("init", "--quiet", "--bare", "--template=", f"--object-format={object_format}")
        # A pack appears whole or not at all; loose objects of a fetch that was killed may lack what they refer to.
        git.run("config", "fetch.unpackLimit", "1")
        (draft / URL_FILE).write_text(f"{url}\n")
        draft.rename(path)


def _clear_locks(path: Path) -> None:
    """Remove what a git that was killed left behind; none is at work, or it would hold our lock."""
    for pattern in ("*.lock", "refs/**/*.lock", "objects/pack/tmp_*", "objects/tmp_*"):
        for leftover in path.glob(pattern):
            leftover.unlink()


def _fetch(git: Git, url: str, ref: str) -> str:
    """Return the name that `ref` has in the cached repository, after bringing that up to date."""
    if _FULL_ID.fullmatch(ref):
        with suppress(WorkspaceError):
            git.run("cat-file", "-e", f"{ref}^{{commit}}")
            return ref
    name = f"refs/devtasks/{hashlib.sha256(ref.encode()).hexdigest()[:24]}"
    depth = () if _holds_all(git) else ("--depth=1",)  # which would cut off the history that is there
    with suppress(WorkspaceError):
        git.run(*_FETCH, "--no-tags", *depth, "--", url, f"+{ref}:{name}", seconds=NETWORK_SECONDS)
        return name
    deepen = ("--unshallow",) if _is_shallow(git) else ()
    git.run(*_FETCH, "--prune", *deepen, "--", url, *_ALL, seconds=NETWORK_SECONDS)
    with suppress(WorkspaceError):  # a remote without a HEAD that exists may have other branches
        git.run(*_FETCH, "--no-tags", "--", url, f"+HEAD:{_HEAD}", seconds=NETWORK_SECONDS)
        git.run("update-ref", "--no-deref", "HEAD", _HEAD)
    return ref


def _is_shallow(git: Git) -> bool:
    return git.line("rev-parse", "--is-shallow-repository") == "true"


def _holds_all(git: Git) -> bool:
    return bool(git.line("for-each-ref", "--count=1", "refs/heads")) and not _is_shallow(git)
