"""What a run keeps of its attempts for people: trajectory, final message and verdict, without secrets.

    about.json                        what the run is, for `devtasks show`
    attempts/N/trajectory.jsonl       a header, then the agent's events as they came, one a line
    attempts/N/message.md             what the agent said in the end
    attempts/N/verdict.json           the attempt as it was recorded, findings included
    attempts/N/diff.patch             the change, as it was judged; nothing is taken out of it

Only the user may read them. Who writes a text hands it over redacted.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from devtasks.execution.runtime import AgentEvent
from devtasks.metrics_collector import ExecutionMetrics
from devtasks.run_folder import RunFolder

ABOUT, TRAJECTORY, MESSAGE, VERDICT, DIFF = "about.json", "trajectory.jsonl", "message.md", "verdict.json", "diff.patch"

VERSION = 1
"""Of the trajectory's format; its first line says it."""

MAX_TRAJECTORY = 64 << 20
"""Bytes of one attempt's trajectory; what comes after is left out, and a line says so."""


class About(BaseModel):
    """What a run is: the names a person knows it by."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    flow_run_id: str
    name: str = ""
    title: str = ""
    repository: str = ""

    def save(self, folder: RunFolder) -> None:
        """Write it into the run's folder."""
        write_private(folder.path / ABOUT, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def of(cls, folder: RunFolder) -> Self:
        """Return what a run's folder says of it; only the id where it does not."""
        try:
            return cls.model_validate_json((folder.path / ABOUT).read_bytes())
        except (OSError, ValidationError):
            return cls(flow_run_id=folder.flow_run_id)


class TrajectoryWriter:
    """Appends events to an attempt's trajectory, each with its time and at once, so that a kill loses none."""

    def __init__(self, file: Path, *, max_bytes: int = MAX_TRAJECTORY) -> None:
        descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lines = os.fdopen(descriptor, "ab", buffering=0)
        self._left = max_bytes - (size := file.stat().st_size)
        if size == 0:
            self._put({"type": "trajectory", "version": VERSION})
        elif os.pread(descriptor, 1, size - 1) != b"\n":  # an earlier process was killed in the middle of a line
            self._lines.write(b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def write(self, event: AgentEvent) -> None:
        """Append an event; nothing any more once there is no room."""
        if self._left > 0 and not self._put(event):
            self._left = 0
            self._put({"type": "cut", "text": "no room for more of this trajectory"}, anyway=True)

    def _put(self, event: Mapping[str, Any], *, anyway: bool = False) -> bool:
        timed = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **event}
        line = json.dumps(timed).encode() + b"\n"
        if len(line) > self._left and not anyway:
            return False
        self._lines.write(line)
        self._left -= len(line)
        return True


@dataclass(frozen=True)
class Trajectory:
    """The events that were kept; `damaged` counts the lines that cannot be read, cut by a kill."""

    events: tuple[AgentEvent, ...] = ()
    damaged: int = 0

    @classmethod
    def read(cls, file: Path) -> Self:
        """Return what can be read of a trajectory; nothing where there is none."""
        events: list[AgentEvent] = []
        damaged = 0
        for line in file.read_bytes().splitlines() if file.exists() else ():
            event = _parsed(line)
            if event is None:
                damaged += 1
            elif event["type"] != "trajectory":
                events.append(event)
        return cls(tuple(events), damaged)


def keep_attempt(folder: RunFolder, metrics: ExecutionMetrics, message: str) -> None:
    """Write an attempt's verdict and the agent's final message."""
    place = folder.attempt(metrics.attempt)
    write_private(place / VERDICT, json.dumps(asdict(metrics), indent=2, default=str) + "\n")
    write_private(place / MESSAGE, message.rstrip() + "\n" if message.strip() else "")


def write_private(file: Path, text: str) -> None:
    """Write a file that only the user may read, whole or not at all."""
    draft = file.with_name(f".{file.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8", errors="backslashreplace")
    draft.replace(file)


def _parsed(line: bytes) -> AgentEvent | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(event, dict) and isinstance(event.get("type"), str):  # pyright: ignore[reportUnknownMemberType]
        return cast(AgentEvent, event)
    return None
