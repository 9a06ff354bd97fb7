"""What a job may use of the machine, in every runtime."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devtasks.execution.limits import ResourceLimits
from devtasks.execution.runtime import Command, CommandResult
from devtasks.execution.supervised import SupervisedRuntime

SLEEPERS = "i=0; while [ $i -lt 60 ]; do sleep 60 & i=$((i+1)); done; wait"
HOARDERS = "import os, time\nfor _ in range(8): os.fork()\nx = b'x' * (16 << 20)\ntime.sleep(60)"
FILES = "i=0; while [ $i -lt 40 ]; do head -c 2000000 /dev/zero > f$i; i=$((i+1)); done; sleep 60"
HIDDEN = """
import os, time
files = [open(name, "wb") for name in "abc"]
for file in files:
    os.unlink(file.name)
    file.write(b"x" * (24 << 20))
    file.flush()
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("limits", "argv", "told"),
    [
        pytest.param(ResourceLimits(processes=16), ("sh", "-c", SLEEPERS), "processes: ", id="processes"),
        pytest.param(ResourceLimits(memory_mb=512), ("python", "-c", HOARDERS), "memory: ", id="memory-together"),
        pytest.param(ResourceLimits(disk_mb=32), ("sh", "-c", FILES), "disk: ", id="disk"),
        pytest.param(ResourceLimits(disk_mb=32), ("python", "-c", HIDDEN), "disk: ", id="deleted-file"),
    ],
)
def test_a_command_that_uses_too_much_is_stopped_and_told_and_the_next_one_runs(
    new_runtime: Callable[..., SupervisedRuntime],
    limits: ResourceLimits,
    argv: tuple[str, ...],
    told: str,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "workspace"
    folder.mkdir()

    async def act() -> tuple[CommandResult, CommandResult]:
        async with new_runtime(tmp_path, limits=limits) as runtime:
            stopped = await runtime.run(Command(argv, folder, 50))
            for each in folder.iterdir():
                each.unlink()
            return stopped, await runtime.run(Command(("echo", "on"), folder, 50))

    stopped, after = asyncio.run(act())
    assert (stopped.exit_code, stopped.timed_out) == (None, False)
    assert stopped.exceeded.startswith(told)
    assert after.output == "on\n"


def test_one_process_cannot_have_more_memory_than_all_may_use(
    new_runtime: Callable[..., SupervisedRuntime], tmp_path: Path
) -> None:
    async def act() -> CommandResult:
        async with new_runtime(tmp_path, limits=ResourceLimits(memory_mb=512)) as runtime:
            code = "x = bytearray(2 << 30); print('had' + ' it')"
            return await runtime.run(Command((str(runtime.python), "-c", code), tmp_path, 50))

    result = asyncio.run(act())
    assert result.exit_code != 0
    assert "had it" not in result.output


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's setting")
def test_where_memory_runs_out_the_kernel_kills_a_job_before_its_supervisor(
    new_runtime: Callable[..., SupervisedRuntime], tmp_path: Path
) -> None:
    async def act() -> list[CommandResult]:
        async with new_runtime(tmp_path) as runtime:
            command = Command(
                ("sh", "-c", "cat /proc/self/oom_score_adj; sleep 60 & cat /proc/$!/oom_score_adj"), tmp_path, 50
            )
            return [await runtime.run(command), await runtime.run(command)]

    assert [result.output.split() for result in asyncio.run(act())] == [["1000", "1000"]] * 2
