"""Ending processes of other programs together with what they started."""

import contextlib

import psutil


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants; one that has ended meanwhile is fine."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (*root.children(recursive=True), root):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
