"""How tests look at processes: which are alive, found by a word of their command line, and waiting until they are."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import psutil


def alive(mark: str) -> list[psutil.Process]:
    """Return the processes whose command line holds this word."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if mark in " ".join(process.info["cmdline"] or ()) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def supervisors(folder: Path) -> list[psutil.Process]:
    """Return the supervisors of a run's folder and their forks, whether they are new processes or forks themselves."""
    found: list[psutil.Process] = []
    for process in (*alive("devtasks.execution.supervisor"), *alive("forkserver/server.py")):
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()) == folder and process.name() != "bwrap":
                found.append(process)
    return found


def until[T](condition: Callable[[], T], seconds: float = 30) -> T:
    """Wait for a condition and return its value; fail when it never comes."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
    return value


async def until_async[T](condition: Callable[[], T], seconds: float = 30) -> T:
    """Wait likewise while the event loop goes on."""
    return await asyncio.to_thread(until, condition, seconds)
