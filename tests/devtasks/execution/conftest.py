import asyncio
import itertools
import os
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import alive, supervisors

from devtasks.execution.local import LocalRuntime
from devtasks.execution.runtime import Command, CommandResult

_MARKS = itertools.count(900_000)


@pytest.fixture
def mark() -> Iterator[str]:
    """Seconds to sleep, too many to end by itself, by which the sleeping process is found; none outlives its test."""
    mark = f"{next(_MARKS)}.{os.getpid()}"
    yield mark
    for process in alive(mark):
        process.kill()


class Stage:
    """One runtime that several tests share, because its first conversation costs seconds of imports."""

    def __init__(self, folder: Path, runner: asyncio.Runner) -> None:
        self.folder = folder
        self.runtime = LocalRuntime(folder)
        self._runner = runner

    def play[T](self, act: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(act)

    def run(self, *argv: str, timeout: float = 60, **env: str) -> CommandResult:
        return self.play(self.runtime.run(Command(argv, self.folder, timeout, env)))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        for name in ("OPENROUTER_API_KEY", "PREFECT_API_AUTH_STRING", "GITHUB_TOKEN", "PYTHONPATH", "DEVTASKS_HOME"):
            patch.setenv(name, "never-to-be-seen")
        stage = Stage(folder, runner)
        runner.run(stage.runtime.__aenter__())
        yield stage
        runner.run(stage.runtime.close())
        assert supervisors(folder) == []
