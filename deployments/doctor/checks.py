"""A check and what it found; a check that raises is one that failed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from devtasks.errors import ServiceUnreachable
from devtasks.redaction import Redactor

CHECK_SECONDS = 40.0
"""What one check may take; the slowest asks Docker twice."""

MAX_FOUND = 500
"""Characters of what a check found."""


class Status(StrEnum):
    """What a check came to; a warning is about something that devtasks can do without."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """What was found; `mend` is what to do about it, for a check's own usual remedy where it is empty."""

    status: Status
    found: str
    mend: str = ""


@dataclass(frozen=True)
class Check:
    """A check's line: what was looked at, what it came to, what was found, and how to mend it.

    `unreachable` is True where it failed because a service does not answer.
    """

    name: str
    status: Status
    found: str
    mend: str
    unreachable: bool = False


class Probe(NamedTuple):
    """A check to be made, and what to do where it fails or raises."""

    name: str
    look: Callable[[], Awaitable[Finding]]
    mend: str


def ok(found: str) -> Finding:
    """Return that all is well."""
    return Finding(Status.OK, found)


def warning(found: str, mend: str = "") -> Finding:
    """Return that something optional is missing."""
    return Finding(Status.WARNING, found, mend)


def failed(found: str, mend: str = "") -> Finding:
    """Return that something needed is missing."""
    return Finding(Status.FAILED, found, mend)


def skipped(found: str) -> Finding:
    """Return why nothing was looked at."""
    return Finding(Status.SKIPPED, found)


async def examine(probe: Probe, redactor: Redactor) -> Check:
    """Return what a probe found, as one line without secrets; whatever it raises is a failure."""
    unreachable = False
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            finding = await probe.look()
    except TimeoutError:
        finding = failed(f"no answer within {CHECK_SECONDS:g} s")
    except Exception as error:
        finding, unreachable = failed(_words(error)), isinstance(error, ServiceUnreachable)
    wants_mending = finding.status in (Status.FAILED, Status.WARNING)
    return Check(
        probe.name,
        finding.status,
        redactor.text(" ".join(finding.found.split())[:MAX_FOUND]),
        (finding.mend or probe.mend) if wants_mending else "",
        unreachable,
    )


def exit_code(checks: list[Check]) -> int:
    """Return the command line's: 3 where a service does not answer, else 1 where a check failed, else 0."""
    bad = [check for check in checks if check.status is Status.FAILED]
    return 3 if any(check.unreachable for check in bad) else 1 if bad else 0


def _words(error: Exception) -> str:
    return str(error) if type(error).__module__ == "devtasks.errors" else f"{type(error).__name__}: {error}"
