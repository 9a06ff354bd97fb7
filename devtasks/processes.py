"""Ending processes of other programs together with what they started."""

import contextlib
from pathlib import Path

import psutil


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants; one that has ended meanwhile is fine."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (*root.children(recursive=True), root):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def homes() -> set[Path]:
    """Return the folders that live processes were given as their HOME, as far as this user may see them."""
    found: set[Path] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and (home := process.environ().get("HOME")):
                found.add(Path(home))
    return found


def kill_at_home(home: Path) -> None:
    """Kill every process that was given this folder as its HOME, again and again until none is left."""

    def is_ours(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error, OSError):
            return process.environ().get("HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE
        return False

    while strays := [process for process in psutil.process_iter() if is_ours(process)]:
        for process in strays:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(strays, timeout=1)
