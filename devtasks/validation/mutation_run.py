"""A script for the sandbox: runs tests against mutants of one file, each in a fork that sees the mutant in its place.

Arguments: a JSON file, of the shape `Job`; and where the answer goes: `plain`, how the tests end without a mutant, and
`mutants`, the same for each: pytest's exit code, minus a signal's number, "timeout", or null where time was up.
It is copied beside the run's reports, because the sandbox need not see this package: pytest and standard library only.
"""

from __future__ import annotations  # the project's interpreter may be an older one

import contextlib
import importlib
import importlib.machinery
import importlib.metadata
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn, TypedDict

import _pytest.config
import pytest

MEMORY = 1 << 30
"""Bytes of data that the process of one mutant may have."""

TIMES_AS_LONG, AND_SECONDS = 5, 2.0
"""How much longer than without a mutant its tests may take, before they count as in an endless loop."""

AT_THE_END = ("hypothesis",)
"""What plugins import only at the end of a session."""

_PAUSE = 0.01


class Tried(TypedDict):
    """The file with a mutant's source, and the tests to run against it."""

    source: str
    tests: list[str]


class Job(TypedDict):
    """What to do: options are pytest's, `seconds` are for all, `jobs` so many mutants at once."""

    target: str
    folder: str
    options: list[str]
    tests: list[str]
    seconds: float
    jobs: int
    mutants: list[Tried]


def _replace(target: str, source: str) -> None:
    """Have this process import the source in the target's place."""
    original = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: importlib.machinery.SourceFileLoader, fullname: str) -> Any:
        path = self.get_filename(fullname)
        if os.path.realpath(path) != target:
            return original(self, fullname)
        return compile(Path(source).read_bytes(), path, "exec", dont_inherit=True)

    importlib.machinery.SourceFileLoader.get_code = get_code


def _child(job: Job, source: str | None, tests: list[str]) -> NoReturn:
    code = 3
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
        if source:
            _replace(os.path.realpath(job["target"]), source)
        own = f"--basetemp={Path(job['folder']) / str(os.getpid())}"
        code = int(pytest.main(["-x", "-q", *job["options"], own, *tests]))
    except BaseException:
        code = 1
    finally:
        os._exit(code)


def _start(job: Job, source: str | None, tests: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        _child(job, source, tests)
    return pid


def _ended(pid: int) -> int | None:
    """Return a dead child's exit code, or minus its signal; None while it lives."""
    done, status = os.waitpid(pid, os.WNOHANG)
    if not done:
        return None
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _kill(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _plain(job: Job, deadline: float) -> int | str:
    pid = _start(job, None, job["tests"])
    while time.monotonic() < deadline:
        code = _ended(pid)
        if code is not None:
            return code
        time.sleep(_PAUSE)
    _kill(pid)
    return "timeout"


def _mutants(job: Job, seconds: float, deadline: float) -> list[int | str | None]:
    ends: list[int | str | None] = [None] * len(job["mutants"])
    waiting = list(enumerate(job["mutants"]))
    running: dict[int, tuple[int, float]] = {}
    while waiting or running:
        while waiting and len(running) < job["jobs"] and time.monotonic() < deadline:
            index, mutant = waiting.pop(0)
            running[_start(job, mutant["source"], mutant["tests"])] = (index, time.monotonic() + seconds)
        if time.monotonic() >= deadline:
            waiting = []
        for pid, (index, until) in list(running.items()):
            code = _ended(pid)
            late = time.monotonic() >= min(until, deadline)
            if code is None and late:
                _kill(pid)
            if code is not None or late:
                ends[index] = "timeout" if code is None and time.monotonic() >= until else code
                del running[pid]
        time.sleep(_PAUSE)
    return ends


def _preload() -> None:
    """Import what pytest would import in every fork anew: its own plugins, and those of installed packages.

    It would rewrite the latter's assertions (see plain_packages.py), and warn where they are imported already.
    """
    for name in getattr(_pytest.config, "default_plugins", ()):
        importlib.import_module(f"_pytest.{name}")
    if os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        return

    def mark_nothing(self: Any, hook: Any, *_: Any, **__: Any) -> None:
        self.pluginmanager.rewrite_hook = hook

    _pytest.config.Config._mark_plugins_for_rewrite = mark_nothing  # type: ignore[method-assign]
    installed = [each for found in importlib.metadata.distributions() for each in found.entry_points]
    for name in (*(each.value.partition(":")[0] for each in installed if each.group == "pytest11"), *AT_THE_END):
        with contextlib.suppress(Exception):  # pytest says what is wrong with it
            importlib.import_module(name)


def _main(given: str, answer: str) -> None:
    job: Job = json.loads(Path(given).read_text())
    _preload()
    started = time.monotonic()
    deadline = started + job["seconds"]
    plain = _plain(job, deadline)
    ends: list[int | str | None] = []
    if plain == 0:
        seconds = TIMES_AS_LONG * (time.monotonic() - started) + AND_SECONDS
        ends = _mutants(job, seconds, deadline)
    Path(answer).write_text(json.dumps({"plain": plain, "mutants": ends}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
