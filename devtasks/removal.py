"""Removing folders whatever was made of the rights in them."""

import stat
import subprocess
from contextlib import suppress
from pathlib import Path

from devtasks.errors import WorkspaceError


def unlock(top: Path) -> None:
    """Give the owner every right on a folder and all below it, which an agent may have taken away."""
    _own(top)
    for parent, folders, _ in top.walk():
        for name in folders:
            _own(parent / name)


def remove(path: Path) -> None:
    """Delete a file or a folder with all below it; absent is fine. Raises WorkspaceError where that cannot be done."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    unlock(path)
    # Not shutil.rmtree: it recurses, and an agent can nest folders deeper than Python's stack.
    done = subprocess.run(["rm", "-rf", "--", str(path)], capture_output=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.decode(errors="replace").split())[:400]
        raise WorkspaceError(f"{path} cannot be removed: {reason}")


def _own(folder: Path) -> None:
    # What cannot be changed here (another's folder, a path too long) fails with its reason where it is used.
    with suppress(OSError):
        mode = stat.S_IMODE(folder.lstat().st_mode)
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            folder.chmod(mode | stat.S_IRWXU)
