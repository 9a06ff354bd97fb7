"""What a run's processes may use together: the limits, and who watches that they are kept.

The kernel bounds single processes (`bound`); their sum, and the disk, are watched (`Watch`): that needs no privilege
and no cgroup, and sees an overrun within a fraction of a second, not before it happens.
"""

import contextlib
import os
import resource
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

MAX_FILE = 1 << 30
"""Bytes that one file written by a job may grow to."""

MAX_OPEN_FILES = 4_096
"""Files that one process may have open."""

TASKS_PER_PROCESS = 4
"""Threads count as processes to the kernel and to a container, not to the watch: their bound is so many times wider."""

LOOK_SECONDS = 0.2
"""How often processes are looked at."""

DISK_LOOK_SECONDS = 1.0
"""How often the disk is looked at, at most; and never for more than a tenth of the time."""

CGROUP = Path("/sys/fs/cgroup")

_MB = 1 << 20


@dataclass(frozen=True)
class ResourceLimits:
    """What a job's processes may use together: memory and disk in MiB, and in a container processors.

    Memory that processes share counts for each of them.
    """

    memory_mb: int = 4_096
    processes: int = 512
    disk_mb: int = 4_096
    cpus: float = 2.0


def bound(limits: ResourceLimits) -> None:
    """Set this process's own limits, which its children inherit; what is stricter already stays."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, min(MAX_FILE, limits.disk_mb * _MB))
    _lower(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    # Not the address space, of which node, Go and sanitizers reserve more than any machine has.
    _lower(resource.RLIMIT_DATA, limits.memory_mb * _MB)
    if os.getpid() == 1:  # a container: its engine bounds its processes, and its user's others are not to be seen here
        return
    # The kernel counts all of the user's processes (in a sandbox: those in it), and never the superuser's.
    user = os.getuid()
    others = sum(each.num_threads() for each in _alive(psutil.process_iter()) if each.uids().real == user)
    _lower(resource.RLIMIT_NPROC, others + TASKS_PER_PROCESS * limits.processes)


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


class Watch:
    """Says when the descendants of this process together go beyond their limits; `folders` is what they may fill."""

    def __init__(
        self, limits: ResourceLimits, folders: Iterable[Path], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._folders = tuple(folders)
        self._now = now
        self._look_at = self._disk_at = now()
        self._kills = _kernel_kills()

    def exceeded(self) -> str:
        """Return which limit is exceeded and by what, in words; empty while none is, or where it is not yet time."""
        if self._now() < self._look_at:
            return ""
        if killed := self.killed():
            return killed
        processes = list(_alive(psutil.Process().children(recursive=True)))
        found = self._beyond("processes", len(processes), self._limits.processes)
        if not found:
            resident = sum(_resident(each) for each in processes) // _MB
            found = self._beyond("memory", resident, self._limits.memory_mb, " MiB")
        if not found and self._now() >= self._disk_at:
            started = self._now()
            used = (sum(map(_size, self._folders)) + sum(map(_deleted, processes))) // _MB
            found = self._beyond("disk", used, self._limits.disk_mb, " MiB")
            self._disk_at = self._now() + max(DISK_LOOK_SECONDS, 10 * (self._now() - started))
        self._look_at = self._now() + LOOK_SECONDS
        return found

    def killed(self) -> str:
        """Return, in words, that the kernel has killed a process of this container for its memory; else nothing."""
        if _kernel_kills() == self._kills:
            return ""
        return f"memory: more than the {self._limits.memory_mb} MiB that are allowed"

    def _beyond(self, name: str, used: int, allowed: int, unit: str = "") -> str:
        return f"{name}: {used}{unit} where {allowed} are allowed" if used > allowed else ""


def _kernel_kills() -> int:
    """Return how many processes of this container the kernel has killed for its memory; 0 outside of one."""
    if os.getpid() != 1:
        return 0
    for name in ("memory.events", "memory/memory.oom_control"):  # of cgroup versions 2 and 1
        with contextlib.suppress(OSError):
            lines = (CGROUP / name).read_text().splitlines()
            return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return 0


def _alive(processes: Iterable[psutil.Process]) -> Iterator[psutil.Process]:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _resident(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return process.memory_info().rss
    return 0


def _size(top: Path) -> int:
    """Return the bytes that all files below a folder take up; a file with several names counts once."""
    total, seen, folders = 0, set[int](), [str(top)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    facts = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(facts.st_mode):
                        folders.append(entry.path)
                    elif facts.st_nlink == 1 or facts.st_ino not in seen:
                        seen.add(facts.st_ino)
                        total += facts.st_blocks * 512
    return total


def _deleted(process: psutil.Process) -> int:
    """Return the bytes of the files that a process has deleted but still open."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(f"/proc/{process.pid}/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                facts = entry.stat()
                if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 0:
                    total += facts.st_blocks * 512
    return total
