"""What runs leave behind and for how long it stays: `COLLECTORS` name what may go, `collect` lets it go.

A run that is alive is never touched, nor one that the server says will go on. Whoever is killed while removing leaves
what it was removing in a folder of its own, which the next one empties; two at once take turns.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from devtasks import removal
from devtasks.environments.builder import DOWNLOADS, clear_downloads
from devtasks.errors import WorkspaceError
from devtasks.execution.docker_engine import list_containers, remove_containers
from devtasks.execution.local import HOME
from devtasks.processes import homes, kill_at_home
from devtasks.run_folder import REMOVED, RunFolder
from devtasks.shared_folders import SharedFolder, unused

DAY = 86_400.0


class Standing(StrEnum):
    """What the Prefect server says of a run."""

    OPEN = "open"  # at work, waiting or suspended: it goes on
    OVER = "over"
    UNKNOWN = "unknown"  # this server has no such run, or it crashed and a worker may take it up again
    UNREACHABLE = "unreachable"


def _nobody_knows(_: str) -> Standing:
    return Standing.UNREACHABLE


@dataclass(frozen=True)
class Scope:
    """Where to look and what stays.

    Args:
        runs: the folder of the runs' folders.
        caches: the folders of shared folders (repositories, environments).
        now: seconds since the epoch.
        run_seconds, cache_seconds: how long after its last change a run's evidence, or after its last use a shared
            folder stays.
        run_bytes, cache_bytes: what all of them together may fill before the oldest go earlier; None is no bound.
        standing: a run's by its id.
    """

    runs: Path
    caches: tuple[Path, ...]
    now: float
    run_seconds: float = 30 * DAY
    run_bytes: int | None = None
    cache_seconds: float = 30 * DAY
    cache_bytes: int | None = None
    standing: Callable[[str], Standing] = field(default=_nobody_knows)

    def is_dead(self, folder: RunFolder) -> bool:
        """Tell whether nobody works on a run and nobody will go on with it.

        A run that wrote that it was under way, and of which no server says that it is over, may be taken up again; one
        of which this server is not sure counts as dead only when its evidence would go.
        """
        if folder.owner():
            return False
        standing = self.standing(folder.flow_run_id)
        if not (folder.record.exists() or folder.course.exists()):
            return standing is not Standing.OPEN
        return standing is Standing.OVER or (standing is Standing.UNKNOWN and self._is_old(folder))

    def _is_old(self, folder: RunFolder) -> bool:
        return self.now - last_change(folder) >= self.run_seconds


@dataclass(frozen=True)
class Rubbish:
    """One thing that may go: what it is, where, how many bytes, and how it goes (False: it is in use again)."""

    kind: str
    what: str
    bytes: int
    remove: Callable[[], bool]


@dataclass(frozen=True)
class Removed:
    """What went, or in a dry run would go; `error` says why it could not."""

    kind: str
    what: str
    bytes: int
    error: str = ""


class Collector(Protocol):
    """Finds one kind of what may go, and removes nothing itself; its name is shown where it fails."""

    __name__: str

    def __call__(self, scope: Scope, /) -> Iterable[Rubbish]:
        """Yield what may go."""
        ...


def leftovers(scope: Scope) -> Iterator[Rubbish]:
    """Yield what an earlier collection put aside and did not live to delete."""
    for path in sorted((scope.runs / REMOVED).glob("*")):
        yield Rubbish("leftover", str(path), size(path), lambda path=path: _delete(path))


def stray_processes(scope: Scope) -> Iterator[Rubbish]:
    """Yield the processes of dead runs, all of one run at once, found by the HOME they were given."""
    at_home = homes()
    for folder in RunFolder.all(scope.runs):
        home = folder.work / HOME
        if home in at_home and scope.is_dead(folder):
            yield Rubbish("processes", str(home), 0, lambda folder=folder: _kill(folder))


def stray_containers(scope: Scope) -> Iterator[Rubbish]:
    """Yield the containers of dead runs."""
    work = {folder.work: folder for folder in RunFolder.all(scope.runs)}
    for container, path in asyncio.run(list_containers()):
        if (folder := work.get(path)) and scope.is_dead(folder):
            yield Rubbish("container", container, 0, lambda folder=folder: _remove_containers(folder))


def dead_work(scope: Scope) -> Iterator[Rubbish]:
    """Yield the work folders of dead runs, with the record of who worked there."""
    for folder in RunFolder.all(scope.runs):
        if (folder.work.exists() or folder.record.exists()) and scope.is_dead(folder):
            yield Rubbish("work", str(folder.work), size(folder.work), lambda folder=folder: _discard_work(folder))


def old_runs(scope: Scope) -> Iterator[Rubbish]:
    """Yield the evidence of runs that is past its time, then the oldest until the rest fits."""
    dead = {folder: last_change(folder) for folder in RunFolder.all(scope.runs) if scope.is_dead(folder)}
    sizes = {folder: size(folder.path) - size(folder.work) for folder in dead}
    left = sum(sizes.values())
    for folder, changed in sorted(dead.items(), key=lambda item: item[1]):
        too_old = scope.now - changed >= scope.run_seconds
        if not too_old and (scope.run_bytes is None or left <= scope.run_bytes):
            return
        left -= sizes[folder]
        yield Rubbish("run", str(folder.path), sizes[folder], _discarding(folder, changed))


def unused_caches(scope: Scope) -> Iterator[Rubbish]:
    """Yield the shared folders that no run uses and that are past their time, or too many."""
    for cache in scope.caches:
        for shared in unused(cache, seconds=scope.cache_seconds, keep_bytes=scope.cache_bytes, now=scope.now):
            yield Rubbish("cache", str(shared.path), shared.size(), lambda shared=shared: _forget(shared))


def large_downloads(scope: Scope) -> Iterator[Rubbish]:
    """Yield the folders of uv's downloads that alone need more space than all environments may."""
    for folder in (each for cache in scope.caches for each in sorted(cache.glob(f"{DOWNLOADS}*"))):
        if scope.cache_bytes is not None and (needed := size(folder)) > scope.cache_bytes:
            yield Rubbish("downloads", str(folder), needed, lambda folder=folder: _clear(folder))


COLLECTORS: tuple[Collector, ...] = (
    leftovers,
    stray_processes,
    stray_containers,
    dead_work,
    old_runs,
    unused_caches,
    large_downloads,
)
"""Everything that is collected, in this order: what runs comes before where it runs."""


def collect(scope: Scope, *, dry_run: bool = False, collectors: Iterable[Collector] = COLLECTORS) -> list[Removed]:
    """Remove what may go and return it; what cannot be removed is returned with the reason, and the rest still goes."""
    removed: list[Removed] = []
    with _one_at_a_time(scope.runs):
        for collector in collectors:
            try:
                found = list(collector(scope))
            except OSError as error:
                removed.append(Removed(collector.__name__, "", 0, str(error)))
                continue
            removed += [each for rubbish in found if (each := _remove(rubbish, dry_run=dry_run))]
    return removed


def _remove(rubbish: Rubbish, *, dry_run: bool) -> Removed | None:
    try:
        gone = dry_run or rubbish.remove()
    except (OSError, WorkspaceError) as error:
        return Removed(rubbish.kind, rubbish.what, 0, str(error))
    return Removed(rubbish.kind, rubbish.what, rubbish.bytes) if gone else None


def last_change(folder: RunFolder) -> float:
    """Return when a run's evidence was last written, in seconds since the epoch; without any, when its folder was."""
    places = [*folder.path.glob("*.patch"), *folder.attempts.glob("*"), *folder.attempts.glob("*/*")]
    return max(place.lstat().st_mtime for place in places or [folder.path])


def size(path: Path) -> int:
    """Return the bytes of the files below a folder."""
    return SharedFolder(path).size()


def _kill(folder: RunFolder) -> bool:
    with folder.abandoned() as abandoned:
        if abandoned:
            kill_at_home(folder.work / HOME)
        return abandoned


def _remove_containers(folder: RunFolder) -> bool:
    with folder.abandoned() as abandoned:
        pass  # what Docker takes its time for must not keep others waiting
    return abandoned and asyncio.run(remove_containers([folder.work])) > 0


def _discard_work(folder: RunFolder) -> bool:
    with folder.abandoned() as abandoned:
        aside = folder.discard_work() if abandoned else None
    return abandoned and (aside is None or _delete(aside))


def _discarding(folder: RunFolder, changed: float) -> Callable[[], bool]:
    def discard() -> bool:
        with folder.abandoned() as abandoned:
            unchanged = abandoned and last_change(folder) == changed  # nobody has worked there since
            aside = folder.discard() if unchanged else None
        return aside is not None and _delete(aside)

    return discard


def _delete(path: Path) -> bool:
    removal.remove(path)
    return True


def _clear(folder: Path) -> bool:
    clear_downloads(folder)
    return True


def _forget(shared: SharedFolder) -> bool:
    return shared.remove()


@contextmanager
def _one_at_a_time(runs: Path) -> Generator[None]:
    runs.mkdir(parents=True, exist_ok=True)
    lock = os.open(runs / ".collecting", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
