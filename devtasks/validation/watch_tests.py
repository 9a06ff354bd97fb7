"""A plugin of pytest for the sandbox: writes into the report what a test relies on or leaves behind besides the code.

Seen are calls of time.sleep; by the interpreter's audit events other hosts, and files that are left in the working
folder or in HOME; and after each test another working folder and other variables. It is copied beside the run's
reports, because the sandbox need not see this package.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest

RELIES = "devtasks-relies"
SLEEP_SECONDS = 1.0

_LOCAL = ("127.", "localhost", "::1", "0.0.0.0", "")  # noqa: S104 - it is compared with
_BY_TOOLS = ("__pycache__", ".pytest_cache", ".hypothesis", ".coverage", ".mypy_cache")
_PYTEST_VARIABLES = ("PYTEST_CURRENT_TEST", "PYTEST_VERSION")


class _Watch:
    """What one test does."""

    def __init__(self) -> None:
        self.slept = 0.0
        self.hosts: set[str] = set()
        self.written: set[Path] = set()
        self.folder, self.variables = os.getcwd(), dict(os.environ)  # noqa: PTH109 - Path.cwd() opens nothing either
        self._places = [Path(self.folder).resolve(), Path.home().resolve()]
        self._temporary = Path(tempfile.gettempdir()).resolve()

    def see(self, event: str, args: tuple[Any, ...]) -> None:
        """Take one audit event."""
        if event == "socket.getaddrinfo":
            self._host(args[0])
        elif event == "socket.connect" and isinstance(args[1], tuple):
            self._host(cast(tuple[object, ...], args[1])[0])
        elif event == "open" and isinstance(args[0], str | bytes) and isinstance(args[2], int) and _writes(args[2]):
            self.written.add(Path(os.fsdecode(args[0])).absolute())

    def findings(self) -> list[str]:
        """Say in a few words each what it relied on or left."""
        found: list[str] = []
        if self.slept > SLEEP_SECONDS:
            found.append(f"sleeps for {self.slept:.1f} s")
        if self.hosts:
            found.append(f"asks other hosts ({', '.join(sorted(self.hosts))})")
        left = sorted(str(path) for path in self.written if self._left(path))
        if left:
            found.append(f"leaves files behind ({', '.join(left)})")
        if os.getcwd() != self.folder:  # noqa: PTH109
            found.append("leaves another working folder behind")
        names = {name for name, _ in self.variables.items() ^ os.environ.items()} - set(_PYTEST_VARIABLES)
        if names:
            found.append(f"leaves other environment variables behind ({', '.join(sorted(names))})")
        return found

    def _host(self, host: object) -> None:
        name = host.decode(errors="replace") if isinstance(host, bytes) else str(host or "")
        if name not in _LOCAL and not name.startswith(_LOCAL[0]):
            self.hosts.add(name)

    def _left(self, path: Path) -> bool:
        with suppress(OSError, ValueError):
            real = path.resolve(strict=True)
            inside = [place for place in self._places if real.is_relative_to(place)]
            temporary = real.is_relative_to(self._temporary)
            kept = any(not (temporary and self._temporary.is_relative_to(place)) for place in inside)
            return kept and not any(part.startswith(_BY_TOOLS) for part in real.parts)
        return False


def _writes(flags: int) -> bool:
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


_watched: _Watch | None = None


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watched is not None:
        with suppress(Exception):  # nothing of this may change how a test ends
            _watched.see(event, args)


def _sleep(seconds: float, _sleep: Callable[[float], None] = time.sleep) -> None:
    if _watched is not None:
        _watched.slept += float(seconds)
    _sleep(seconds)


time.sleep = _sleep  # interpreters before 3.13 have no audit event for it
sys.addaudithook(_hook)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, None, None]:
    """Watch set-up, call and tear-down of a test."""
    global _watched  # noqa: PLW0603 - an audit hook cannot be given anything else
    _watched = _Watch()
    yield
    _watched = None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Put what was seen among the test's properties before its last report is made."""
    if call.when == "teardown" and _watched is not None:
        item.user_properties.extend((RELIES, words) for words in _watched.findings())
