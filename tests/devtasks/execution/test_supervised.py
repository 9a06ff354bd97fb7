"""What every runtime does with its jobs: the same tests over each of them."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import alive, supervisors, until, until_async

from devtasks.errors import AgentCrashed
from devtasks.execution.runtime import Command, CommandResult
from devtasks.execution.supervised import SupervisedRuntime
from devtasks.execution.supervisor import MAX_OUTPUT

NewRuntime = Callable[[Path], SupervisedRuntime]

STOP_SECONDS = 10
"""Within which a supervisor is killed: twice what is promised, for a busy machine."""

# Leaves a process behind that has a session of its own and no parent, as a daemon has, and that does not end if asked.
DAEMON = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", sys.argv[1]])
    os._exit(0)
os.wait()
"""

# Leaves as many dead orphans behind as it is told to, and waits until its own parent has buried them.
ORPHANS = """
import os, sys, time
from pathlib import Path
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        os.fork()
        os._exit(0)
    os.wait()
def unburied():
    found = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        found += state == "Z" and int(parent) == os.getppid()
    return found
deadline = time.monotonic() + 10
while unburied() and time.monotonic() < deadline:
    time.sleep(0.05)
sys.exit(unburied())
"""


def test_the_environment_is_scrubbed(stage: Any) -> None:
    listed = stage.run("env", "-0", GIVEN="with the command").output.split("\0")
    environment = dict(line.split("=", 1) for line in listed if line)
    assert "never-to-be-seen" not in environment.values()
    assert environment["GIVEN"] == "with the command"
    assert (environment["HOME"], environment["TMPDIR"]) == (str(stage.folder / "home"), str(stage.folder / "tmp"))
    assert environment["PATH"].split(os.pathsep)[0] == str(stage.runtime.python.parent)
    known = {"PATH", "LANG", "LC_ALL", "TZ", "HOME", "TMPDIR", "GIVEN", "PYTHONUTF8", "GIT_CEILING_DIRECTORIES"}
    libraries = {"NO_COLOR", "LITELLM_LOCAL_MODEL_COST_MAP", "LOG_AUTO_CONFIG", "OPENHANDS_SUPPRESS_BANNER"}
    known |= {"docker": {"USER", "HOSTNAME"}, "local+bubblewrap": {"PWD"}}.get(stage.runtime.isolation, set())
    set_by_them = {name for name in environment if name.startswith(("LC_", "LITELLM_", "TIKTOKEN_", "KMP_"))}
    assert set(environment) <= known | libraries | set_by_them


def test_home_and_temporary_files_lie_in_the_run_s_folder(stage: Any) -> None:
    result = stage.run("sh", "-c", "touch ~/one; mktemp")
    assert (stage.folder / "home" / "one").exists()
    assert Path(result.output.strip()).is_relative_to(stage.folder / "tmp")


def test_a_command_s_end_and_both_its_streams_are_told(stage: Any) -> None:
    result = stage.run("sh", "-c", "echo out; echo err >&2; pwd; exit 3")
    assert (result.exit_code, result.timed_out) == (3, False)
    assert result.output == f"out\nerr\n{stage.workspace}\n"
    assert result.seconds > 0


def test_a_command_killed_by_a_signal_did_not_succeed(stage: Any) -> None:
    assert stage.run("sh", "-c", "kill -9 $$").exit_code == -9


def test_of_much_output_the_end_is_kept(stage: Any) -> None:
    output = stage.run(str(stage.runtime.python), "-c", "print('x' * 5_000_000); print('the end')").output
    assert len(output) == MAX_OUTPUT
    assert output.endswith("x\nthe end\n")


def test_output_that_is_not_text_is_told_as_far_as_it_is(stage: Any) -> None:
    assert stage.run("printf", r"a\377b").output == "a�b"


def test_nobody_answers_a_command_that_asks(stage: Any) -> None:
    assert stage.run("cat").output == ""


def test_a_file_cannot_grow_without_bound(stage: Any) -> None:
    result = stage.run("truncate", "--size=2G", "large")
    assert result.exit_code != 0


def test_commands_take_turns(stage: Any) -> None:
    async def both() -> list[Any]:
        commands = (Command(("echo", word), stage.workspace, 60) for word in ("one", "two"))
        return await asyncio.gather(*(stage.runtime.run(command) for command in commands))

    assert [result.output for result in stage.play(both())] == ["one\n", "two\n"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets the supervisor adopt orphans")
def test_a_daemon_does_not_outlive_its_command(stage: Any, mark: str) -> None:
    result = stage.run(str(stage.runtime.python), "-c", DAEMON, mark)
    assert result.exit_code == 0
    assert alive(mark) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets the supervisor adopt orphans")
def test_orphans_that_die_take_up_no_process_while_the_command_runs(stage: Any) -> None:
    result = stage.run(str(stage.runtime.python), "-c", ORPHANS, "20")
    assert result.exit_code == 0, f"{result.exit_code} zombies"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets the supervisor adopt orphans")
def test_a_command_out_of_time_is_killed_with_all_it_started(stage: Any, mark: str) -> None:
    code = f"{DAEMON}\nopen('started', 'w').close(); import time; time.sleep(float(sys.argv[1]))"
    result = stage.run(str(stage.runtime.python), "-c", code, mark, timeout=3)
    assert (result.exit_code, result.timed_out) == (None, True)
    assert (stage.workspace / "started").exists(), "the daemon was there"
    assert alive(mark) == []


def test_a_program_that_does_not_exist_is_named_and_the_next_command_runs(stage: Any) -> None:
    with pytest.raises(AgentCrashed, match=r"FileNotFoundError: .*no-such-program"):
        stage.run("no-such-program")
    assert stage.run("echo", "on").output == "on\n"


def test_a_job_that_waited_for_something_gets_its_time_back(new_runtime: NewRuntime, tmp_path: Path) -> None:
    async def act() -> tuple[CommandResult, CommandResult]:
        folder = tmp_path / "workspace"
        folder.mkdir()
        async with new_runtime(tmp_path) as runtime:
            go = folder / "go"
            script = "touch started; until [ -e go ]; do sleep 0.05; done"
            job = asyncio.create_task(runtime.run(Command(("sh", "-c", script), folder, 4)))
            await until_async((folder / "started").exists)
            runtime.extend(600)
            await asyncio.sleep(4)  # its own time is over then, whatever the machine's speed
            go.touch()
            extended = await job
            runtime.extend(600)  # nothing is under way
            go.unlink()
            return extended, await runtime.run(Command(("sh", "-c", script), folder, 0.5))

    extended, other = asyncio.run(act())
    assert (extended.exit_code, extended.timed_out) == (0, False)
    assert other.timed_out, "the next job has its own time only"


@asynccontextmanager
async def sleeping(
    new_runtime: NewRuntime, folder: Path, mark: str, seconds: float = 600
) -> AsyncGenerator[tuple[SupervisedRuntime, asyncio.Task[Any]]]:
    """A runtime in the middle of a command that never ends by itself, with a child of its own."""
    async with new_runtime(folder) as runtime:
        command = Command(("sh", "-c", f"sleep {mark} & wait"), folder, seconds)
        job = asyncio.create_task(runtime.run(command))
        await until_async(lambda: len(alive(mark)) == 2)
        yield runtime, job


def test_closing_the_runtime_ends_the_command_and_all_it_started(
    new_runtime: NewRuntime, tmp_path: Path, mark: str
) -> None:
    async def act() -> None:
        async with sleeping(new_runtime, tmp_path, mark) as (runtime, job):
            await runtime.close()
            with pytest.raises(AgentCrashed):
                await job
            assert alive(mark) == []

    asyncio.run(act())


def test_giving_a_command_up_ends_it_and_the_next_one_runs(new_runtime: NewRuntime, tmp_path: Path, mark: str) -> None:
    async def act() -> None:
        async with sleeping(new_runtime, tmp_path, mark) as (runtime, job):
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
            assert alive(mark) == []
            assert (await runtime.run(Command(("echo", "on"), tmp_path, 60))).output == "on\n"

    asyncio.run(act())


@pytest.mark.parametrize("seconds", [600, 3], ids=["given-up", "out-of-time"])
def test_a_supervisor_that_does_nothing_any_more_is_killed_within_seconds_with_all_it_started(
    new_runtime: NewRuntime, tmp_path: Path, mark: str, *, seconds: float
) -> None:
    async def act() -> None:
        async with sleeping(new_runtime, tmp_path, mark, seconds) as (runtime, job):
            (supervisor,) = supervisors(tmp_path)
            supervisor.suspend()
            suspended = time.monotonic()
            if seconds == 600:
                job.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await job
                assert time.monotonic() - suspended < STOP_SECONDS
            else:
                assert (await job).timed_out
                assert time.monotonic() - suspended < seconds + STOP_SECONDS
            assert (alive(mark), supervisors(tmp_path)) == ([], [])
            assert (await runtime.run(Command(("echo", "on"), tmp_path, 60))).output == "on\n"

    asyncio.run(act())


def test_a_supervisor_that_is_killed_is_told_cleared_up_after_and_replaced(
    new_runtime: NewRuntime, tmp_path: Path, mark: str
) -> None:
    async def act() -> None:
        async with sleeping(new_runtime, tmp_path, mark) as (runtime, job):
            (supervisor,) = supervisors(tmp_path)
            supervisor.kill()
            with pytest.raises(AgentCrashed, match="ended in the middle of a job"):
                await job
            assert alive(mark) == [], "nothing it had started is left"
            assert (await runtime.run(Command(("echo", "on"), tmp_path, 60))).output == "on\n"

    asyncio.run(act())


def test_a_supervisor_that_died_between_two_commands_is_replaced(new_runtime: NewRuntime, tmp_path: Path) -> None:
    async def act() -> None:
        async with new_runtime(tmp_path) as runtime:
            await runtime.run(Command(("true",), tmp_path, 60))
            (supervisor,) = supervisors(tmp_path)
            supervisor.kill()
            await until_async(lambda: not supervisors(tmp_path) and not alive(str(tmp_path)))
            assert (await runtime.run(Command(("echo", "on"), tmp_path, 60))).output == "on\n"

    asyncio.run(act())


FLOW = """
import asyncio, sys
from pathlib import Path
from devtasks.execution.bubblewrap import BubblewrapRuntime
from devtasks.execution.docker import DockerRuntime
from devtasks.execution.local import LocalRuntime
from devtasks.execution.runtime import Command, CommandResult

async def main():
    async with globals()[sys.argv[3]](Path(sys.argv[1])) as runtime:
        await runtime.run(Command(("sh", "-c", "setsid sleep " + sys.argv[2] + " & wait"), Path(sys.argv[1]), 600))

asyncio.run(main())
"""


def test_when_the_flow_s_process_is_killed_nothing_of_its_run_stays(
    new_runtime: NewRuntime, tmp_path: Path, mark: str
) -> None:
    kind = type(new_runtime(tmp_path)).__name__
    flow = subprocess.Popen([sys.executable, "-c", FLOW, str(tmp_path), mark, kind])
    try:
        until(lambda: len(alive(f"sleep {mark}")) == 2)
        assert len(supervisors(tmp_path)) == 1
    finally:
        flow.kill()
        flow.wait()
    until(lambda: not alive(mark) and not supervisors(tmp_path))


def test_a_supervisor_writes_its_log_into_the_run_s_folder(stage: Any) -> None:
    assert (stage.folder / "supervisor.log").exists()
