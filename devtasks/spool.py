"""Tasks that wait in files until there is a server to submit them to, beside a repository's other git data."""

import fcntl
import hashlib
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from json import dumps, loads
from pathlib import Path
from typing import Any, Self

from devtasks.errors import InvalidInput
from devtasks.task import DevTask
from devtasks.workspace.git import Git


@dataclass(frozen=True)
class Spool:
    """The folder of a repository's waiting tasks, one file each; what a server refuses lies in its `refused`."""

    folder: Path

    @classmethod
    def of(cls, repository: Path) -> Self:
        """Return the spool of a repository, the same one for all its worktrees."""
        found = Git.at(repository).line("rev-parse", "--path-format=absolute", "--git-common-dir")
        return cls(Path(found) / "devtasks" / "spool")

    def put(self, task: DevTask) -> Path:
        """Keep a task, in a file that appears whole and survives a crash; the same task has one file only."""
        values = task.model_dump(mode="json", exclude={"task_id"}, exclude_defaults=True)
        text = dumps(values, indent=2, sort_keys=True) + "\n"
        file = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        with draft.open("w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        return draft.replace(file)

    @contextmanager
    def held(self) -> Generator[None]:
        """Keep other processes from submitting what is here, until the end of the block; wait for one that does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def files(self) -> Iterator[Path]:
        """Yield the files of the tasks, those that have waited longest first."""
        waiting = [(file.stat().st_mtime_ns, file) for file in self.folder.glob("*.json")]
        yield from (file for _, file in sorted(waiting))

    def refuse(self, file: Path) -> Path:
        """Lay a task aside that cannot be submitted as it is; return where."""
        aside = self.folder / "refused"
        aside.mkdir(exist_ok=True)
        return file.replace(aside / file.name)


def read_task(file: Path) -> DevTask:
    """Return the task of a spool's file; raise InvalidInput where it holds none."""
    try:
        values: Any = loads(file.read_bytes())
        return DevTask.parse(**{**values, "task_id": "new"})
    except (OSError, ValueError, TypeError):
        raise InvalidInput("spooled task", file.name, "a file that holds a task as JSON") from None
