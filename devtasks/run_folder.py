"""The folder of one run: what is evidence and stays, what is only needed while it runs, and who works there."""

import contextlib
import fcntl
import json
import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import UUID, uuid4

import psutil

from devtasks import workspace

RECORD = "run.json"
COURSE = "course.json"
WORK = "work"

REMOVED = ".removed"
"""The folder beside those of the runs where parts of them wait to be deleted."""

_LOCK = ".lock"


@dataclass(frozen=True)
class RunFolder:
    """A run's folder, named by the flow run's id.

    `work` (workspace, agent's home, scratch files) goes when the run ends, the attempts' evidence and the patch stay.
    While a process works on the run, `run.json` says which one, and `course.json` how far it has come: a process that
    was killed leaves all of it to the next one. Both lie outside `work`, where an agent may write.
    """

    path: Path

    @classmethod
    def claim(cls, root: Path, flow_run_id: str) -> Self:
        """Make the folder and record this process as the one that works there."""
        folder = cls(root / flow_run_id)
        root.mkdir(parents=True, exist_ok=True)
        with _alone(root):
            folder.path.mkdir(mode=0o700, exist_ok=True)
            folder.work.mkdir(mode=0o700, exist_ok=True)
            process = psutil.Process()
            draft = folder.record.with_suffix(".new")  # renamed, so that nobody reads half a record
            draft.write_text(json.dumps({"pid": process.pid, "created": process.create_time()}))
            draft.replace(folder.record)
        return folder

    @classmethod
    def all(cls, root: Path) -> list[Self]:
        """Return the folders of all runs, at work or not, sorted by name; what else lies there is not ours."""
        return [cls(path) for path in sorted(root.glob("*")) if path.is_dir() and _is_id(path.name)]

    @classmethod
    def claimed(cls, root: Path) -> list[Self]:
        """Return the folders that say somebody works there, whether that process is alive or not."""
        return [cls(record.parent) for record in sorted(root.glob(f"*/{RECORD}"))]

    @property
    def flow_run_id(self) -> str:
        """The flow run's id."""
        return self.path.name

    @property
    def record(self) -> Path:
        """The file that says which process works on the run."""
        return self.path / RECORD

    @property
    def course(self) -> Path:
        """The file that says how far the run has come."""
        return self.path / COURSE

    @property
    def work(self) -> Path:
        """The part that goes when the run ends."""
        return self.path / WORK

    @property
    def attempts(self) -> Path:
        """The folder of the attempts' evidence."""
        return self.path / "attempts"

    def attempt(self, number: int) -> Path:
        """Return the folder of one attempt's evidence, made where it is missing."""
        folder = self.attempts / str(number)
        self.attempts.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def scratch(self, name: str) -> Path:
        """Return an empty folder outside the workspace, whatever was there."""
        folder = self.work / "scratch" / name
        workspace.remove(folder)
        folder.mkdir(parents=True)
        return folder

    def owner(self) -> psutil.Process | None:
        """Return the live process that works on the run; a stranger with the same number is told by its start time."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, OverflowError, psutil.Error):
            values = json.loads(self.record.read_text())
            process = psutil.Process(values["pid"])
            return process if process.create_time() == values["created"] else None
        return None

    def release(self) -> None:
        """Remove what is only needed while the run works, then the record: a crash in between is seen again."""
        self.course.unlink(missing_ok=True)
        workspace.remove(self.work)
        self.record.unlink(missing_ok=True)

    @contextlib.contextmanager
    def abandoned(self) -> Generator[bool]:
        """Yield whether nobody works there; while that is used, nobody can claim the folder."""
        with _alone(self.path.parent):
            yield self.owner() is None

    def discard_work(self) -> Path | None:
        """Put what `release` would delete aside, at once, and return where; call it while the folder is `abandoned`."""
        aside = _aside(self.work) if self.work.exists() else None
        self.course.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)
        return aside

    def discard(self) -> Path:
        """Put the whole folder aside, at once, and return where; call it while the folder is `abandoned`."""
        return _aside(self.path, self.path.parent)


def _aside(path: Path, root: Path | None = None) -> Path:
    removed = (root or path.parent.parent) / REMOVED
    removed.mkdir(mode=0o700, exist_ok=True)
    return path.rename(removed / uuid4().hex)


def _is_id(name: str) -> bool:
    with contextlib.suppress(ValueError):
        return str(UUID(name)) == name
    return False


@contextlib.contextmanager
def _alone(root: Path) -> Generator[None]:
    """Hold the lock under which folders are claimed and put aside, for moments only."""
    lock = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
