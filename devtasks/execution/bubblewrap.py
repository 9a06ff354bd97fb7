"""The `local` runtime inside bubblewrap: processes of this machine that see little of it and reach nobody.

They have a root of their own, on which only what they need is shown, read-only: the system's programs and libraries,
this interpreter with its packages, and the objects that the workspace borrows from the user's repository. They can
write to the run's `WRITABLE` folders alone, have no network but a loopback of their own, no capability, and a process
namespace in which there is nobody else. The gateway is met through its Unix socket.
"""

import functools
import shutil
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import devtasks
from devtasks.execution.local import WRITABLE, LocalRuntime
from devtasks.execution.supervised import SUPERVISOR
from devtasks.execution.supervisor import ALONE
from devtasks.forkserver.client import ForkedProcess
from devtasks.workspace import seen_by_git

ISOLATION = "local+bubblewrap"

PROGRAM = "bwrap"

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
"""Where a Linux keeps programs and libraries; symbolic links among them stay links."""

ETC = (
    *("passwd", "group", "nsswitch.conf", "hosts", "services", "protocols", "mime.types", "os-release"),
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "timezone", "ssl/certs", "pki/tls"),
    *("ssl/openssl.cnf", "ca-certificates", "terminfo", "inputrc"),
)
"""What programs look up below /etc and anybody may know."""

SHARED_MEMORY = 256 << 20
"""Bytes of /dev/shm, which is memory that no process's size shows."""

PROBE_SECONDS = 20.0

_NAMESPACES = (
    *("--unshare-all", "--unshare-user", "--disable-userns", "--hostname", "devtasks"),
    *("--die-with-parent", "--new-session", "--cap-drop", "ALL"),
)
_OWN = (
    *("--proc", "/proc", "--dev", "/dev"),
    *("--perms", "1777", "--size", str(SHARED_MEMORY), "--tmpfs", "/dev/shm"),  # noqa: S108 - a mount in the sandbox
    *("--remount-ro", "/dev"),
)
_TMP = Path("/tmp")  # noqa: S108 - the sandbox's own, which is the run's folder


class BubblewrapRuntime(LocalRuntime):
    """Runs jobs through one supervisor process in a sandbox.

    The sandbox is made for the first job, because it shows what the workspace, which is made before, borrows.
    """

    isolation = ISOLATION

    async def __aenter__(self) -> Self:
        """Start nothing yet."""
        return self

    async def _start(self, jobs: int, log: int) -> Process | ForkedProcess:
        environment = self._environment()
        writable = [self._folder / name for name in WRITABLE]
        for folder in writable:
            folder.mkdir(parents=True, exist_ok=True)
        borrowed = [path for path in seen_by_git(self._folder) if not path.is_relative_to(self._folder)]
        view = arguments([*borrowed, *self._shown, *self._way_out()], writable, self._folder / "tmp")
        supervisor = (sys.executable, "-P", "-m", SUPERVISOR, ALONE)
        return await self._spawn(
            (PROGRAM, *view, "--chdir", str(self._folder), "--", *supervisor), environment, jobs, log
        )


def arguments(shown: Iterable[Path], writable: Iterable[Path], tmp: Path | None = None) -> tuple[str, ...]:
    """Return bubblewrap's arguments for a sandbox that shows these files and folders, and `tmp` as /tmp."""
    readable, writable = [*_interpreter(), *shown], list(writable)
    # Not even a folder on the way to what is shown can be renamed: each lies on a root, or a mount, that is read-only.
    on_the_way = dict.fromkeys(
        str(_TMP / path.relative_to(_TMP).parts[0]) for path in (*readable, *writable) if path.is_relative_to(_TMP)
    )
    return (
        *_NAMESPACES,
        *_OWN,
        *_system(),
        *(("--bind", str(tmp), str(_TMP)) if tmp else ("--tmpfs", str(_TMP))),
        *(word for path in on_the_way for word in ("--tmpfs", path)),
        *(word for path in readable for word in ("--ro-bind", str(path), str(path))),
        *(word for path in writable for word in ("--bind", str(path), str(path))),
        *(word for path in (*on_the_way, "/") for word in ("--remount-ro", path)),
    )


@functools.cache
def why_not() -> str | None:
    """Return why bubblewrap cannot be used on this machine, None where it can; tried once in each process."""
    if sys.platform != "linux":
        return "bubblewrap exists for Linux only"
    if shutil.which(PROGRAM) is None:
        return f"{PROGRAM} is not installed (Debian, Ubuntu, Fedora: the package bubblewrap)"
    command = (PROGRAM, *arguments((), ()), "--", sys.executable, "-P", "-S", "-c", "")
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=PROBE_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return None if done.returncode == 0 else said[-1] if said else f"{PROGRAM} ended with {done.returncode}"


def _system() -> Iterator[str]:
    for name in SYSTEM:
        path = Path(name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), name)
        elif path.is_dir():
            yield from ("--ro-bind", name, name)
    for name in ETC:
        yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")


def _interpreter() -> list[Path]:
    """Return the folders of this interpreter and its packages, under the names by which it knows them and the true."""
    package = Path(devtasks.__file__).parent
    known = [Path(sys.base_prefix), Path(sys.prefix), package]
    places = dict.fromkeys([*known, *(path.resolve() for path in known)])
    return [path for path in places if not any(path.is_relative_to(name) for name in SYSTEM)]
