"""Folders that many runs read and one at a time changes: cached repositories, the environments of projects.

    <cache>/<name>/          what is shared
    <cache>/<name>.lock      held while it is changed, by whoever does that and by the programs they started
    <cache>/<name>.users/    one small file for each run that needs it, with the path that is gone when the run is

A run that was killed leaves its file in `users`, and its folder until that is cleared; then it no longer counts.
"""

import asyncio
import fcntl
import hashlib
import os
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from devtasks import removal
from devtasks.errors import WorkspaceError

LOCK_SECONDS = 1_800.0
"""How long one run waits for another that changes what both need."""

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class SharedFolder:
    """One such folder; it need not exist yet."""

    path: Path

    @classmethod
    def all(cls, cache: Path) -> tuple["SharedFolder", ...]:
        """Return the shared folders of a cache, sorted by name; none where the cache is absent."""
        return tuple(cls(lock.with_suffix("")) for lock in sorted(cache.glob("*.lock")))

    @contextmanager
    def changed(self, seconds: float = LOCK_SECONDS) -> Generator[int]:
        """Hold the folder alone, and yield the lock's file descriptor for programs that outlive a killed run.

        A program that was given the descriptor (`pass_fds`) keeps the lock until it ends itself. Raises
        WorkspaceError where others held it for so many seconds.
        """
        deadline = time.monotonic() + seconds
        while (lock := self._try_lock()) is None:
            self._refuse_after(deadline, seconds)
            time.sleep(_POLL_SECONDS)
        try:
            yield lock
        finally:
            os.close(lock)

    @asynccontextmanager
    async def changed_async(self, seconds: float = LOCK_SECONDS) -> AsyncGenerator[int]:
        """As `changed`, for coroutines: whoever is cancelled while waiting holds nothing."""
        deadline = time.monotonic() + seconds
        while (lock := self._try_lock()) is None:
            self._refuse_after(deadline, seconds)
            await asyncio.sleep(_POLL_SECONDS)
        try:
            yield lock
        finally:
            os.close(lock)

    def register(self, user: Path) -> None:
        """Count a run as using the folder for as long as the path `user` exists; call it while holding the lock."""
        self._users.mkdir(exist_ok=True)
        for each in self._users.iterdir():
            if not _exists(each):
                each.unlink()
        name = hashlib.sha256(os.fsencode(user)).hexdigest()[:24]
        (self._users / name).write_bytes(os.fsencode(user))

    def in_use(self) -> bool:
        """Tell whether a run that exists still needs the folder."""
        return self._users.is_dir() and any(map(_exists, self._users.iterdir()))

    def last_used(self) -> float:
        """Return when a run last asked for the folder, in seconds since the epoch."""
        places = [place for place in (self._users, self._lock) if place.exists()]
        return max((place.stat().st_mtime for place in places), default=0.0)

    def size(self) -> int:
        """Return the bytes of its files, each counted once however many names it has here."""
        seen: dict[tuple[int, int], int] = {}
        for parent, _, files in self.path.walk():
            for name in files:
                with suppress(OSError):
                    facts = (parent / name).lstat()
                    seen[facts.st_dev, facts.st_ino] = facts.st_size
        return sum(seen.values())

    def remove(self) -> bool:
        """Delete the folder with its lock; False where a run uses it or somebody changes it just now."""
        lock = self._try_lock()
        if lock is None:
            return False
        try:
            if self.in_use():
                return False
            removal.remove(self.path)
            removal.remove(self._users)
            self._lock.unlink(missing_ok=True)
        finally:
            os.close(lock)
        return True

    @property
    def _lock(self) -> Path:
        return self.path.with_name(f"{self.path.name}.lock")

    @property
    def _users(self) -> Path:
        return self.path.with_name(f"{self.path.name}.users")

    def _try_lock(self) -> int | None:
        """Return the lock's descriptor; None while another holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever removed the folder meanwhile removed this file too: then it locks nothing.
            if os.path.samestat(os.fstat(descriptor), self._lock.stat()):
                return descriptor
        os.close(descriptor)
        return None

    def _refuse_after(self, deadline: float, seconds: float) -> None:
        if time.monotonic() > deadline:
            raise WorkspaceError(f"another run has been changing {self.path} for more than {seconds:g} seconds")


def _exists(user: Path) -> bool:
    return Path(os.fsdecode(user.read_bytes())).exists()


def unused(cache: Path, *, seconds: float, keep_bytes: int | None = None, now: float) -> tuple[SharedFolder, ...]:
    """Return the folders of a cache that no run uses and that may go, the longest unused first.

    Args:
        cache: `repositories` or `environments` of the state folder.
        seconds: how long a folder must not have been asked for.
        keep_bytes: further folders are named, however new, until what stays is no more than this; None names none.
        now: seconds since the epoch.
    """
    idle = sorted((each for each in SharedFolder.all(cache) if not each.in_use()), key=SharedFolder.last_used)
    old = [each for each in idle if now - each.last_used() >= seconds]
    if keep_bytes is None:
        return tuple(old)
    left = sum(each.size() for each in SharedFolder.all(cache)) - sum(each.size() for each in old)
    for each in idle[len(old) :]:
        if left <= keep_bytes:
            break
        old.append(each)
        left -= each.size()
    return tuple(old)
