"""What a run's isolation costs: one conversation beside a plain script on the OpenHands SDK, and sixteen at once.

The same conversation with a simulated model: write a test file, run it, finish. CPU-seconds are those of the agent's
processes with all they started and, but for the plain script, of the gateway and the runtime's side in this process.
Not counted are the simulator, a process of its own, and what `bwrap`, `docker` and its engine use.

The sixteen work on one repository, each in a workspace of its own, and each result is checked: its own file, nothing
else, and a repository as it was. Run it on an idle machine.
"""

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from uuid import uuid4

import psutil
import yaml
from gateways import gateway_to
from harness import git
from pydantic import SecretStr
from report import Aim, finish, machine
from sandboxes import why_not

from devtasks import workspace
from devtasks.execution import bubblewrap
from devtasks.execution.bubblewrap import BubblewrapRuntime
from devtasks.execution.docker import DockerRuntime
from devtasks.execution.local import LocalRuntime
from devtasks.execution.runtime import AgentRequest, AgentStatus, Command
from devtasks.execution.supervised import SupervisedRuntime
from devtasks.task import DevTask
from devtasks.workspace import Workspace

PLAIN = "plain SDK script"
ROUNDS = 5
AT_ONCE = 16
OF_PLAIN = 1.25
"""The aim: CPU of a run as a multiple of the plain script's."""

MODEL, KEY = "acme/coder:free", "sk-simulated"
SAMPLE_SECONDS = 0.5
SUPERVISORS_TICKS = "cut -d ' ' -f 14-17 /proc/$PPID/stat"
"""Prints what the supervisor has used of the processors with all that it has waited for."""

PYTEST = "python -m pytest -q -p no:cacheprovider tests/test_number.py"
SCENARIO = {
    "name": "execution",
    "keys": [KEY],
    "variables": {"number": r"Run number (\d+)\."},
    "models": [
        {
            "id": MODEL,
            "conversations": [
                {
                    "turns": [
                        {
                            "text": "I write the test.",
                            "tool_calls": [
                                {
                                    "name": "terminal",
                                    "arguments": {
                                        "command": "mkdir -p tests && printf 'def test_number():\\n    assert "
                                        "str(${number}).isdigit()\\n' > tests/test_number.py"
                                    },
                                }
                            ],
                        },
                        {"tool_calls": [{"name": "terminal", "arguments": {"command": PYTEST}}]},
                        {"finish": "Run ${number} is done."},
                    ]
                }
            ],
        }
    ],
}


@dataclass(frozen=True)
class Sample:
    """CPU-seconds and seconds of a run; `mb` is the memory (PSS) of one at the peak, where it was looked at."""

    way: str
    at_once: int
    cpu: float
    seconds: float
    mb: float | None = None


@dataclass(frozen=True)
class Way:
    """An isolation, and how its runtime is made of a run's folder and the gateway's socket."""

    name: str
    make: Callable[[Path, Path], SupervisedRuntime]


def ways() -> list[Way]:
    """Return the isolations that work here."""
    made = [Way("local", lambda folder, _: LocalRuntime(folder))]
    if bubblewrap.why_not() is None:
        made.append(Way("local+bubblewrap", lambda folder, gateway: BubblewrapRuntime(folder, gateway=gateway)))
    if not why_not():
        made.append(Way("docker", lambda folder, gateway: DockerRuntime(folder, gateway=gateway)))
    return made


def main() -> int:
    """Let the ways take turns, then sixteen runs of each at once; print what a run costs."""
    where = machine()
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="devtasks-bench-") as name:
        folder = Path(name)
        repository = _repository(folder / "shop")
        with _simulator(folder) as base_url:
            for number in range(ROUNDS):
                samples.append(_plain(base_url, repository, folder / f"plain-{number}"))
                samples += [
                    asyncio.run(_runs(way, base_url, repository, folder / f"{way.name}-{number}", 1)) for way in ways()
                ]
            samples += [
                asyncio.run(_runs(way, base_url, repository, folder / f"{way.name}-many", AT_ONCE)) for way in ways()
            ]
    return finish("execution", where, _rows(samples), [asdict(each) for each in samples], _aims(samples))


def _rows(samples: list[Sample]) -> list[tuple[str, ...]]:
    rows = [("runs at once", "way", "CPU-s a run", "of plain", "seconds", "MB (PSS) a run")]
    plain = _cpu(samples, PLAIN, 1)
    for at_once, way in dict.fromkeys((each.at_once, each.way) for each in samples):
        cpu = _cpu(samples, way, at_once)
        these = [each for each in samples if (each.way, each.at_once) == (way, at_once)]
        memory = [each.mb for each in these if each.mb is not None]
        rows.append(
            (
                str(at_once),
                way,
                f"{cpu:.2f}",
                f"{cpu / plain:.2f}",
                f"{median(each.seconds for each in these):.1f}",
                f"{mean(memory):.0f}" if memory else "-",
            )
        )
    return rows


def _aims(samples: list[Sample]) -> list[Aim]:
    plain = _cpu(samples, PLAIN, 1)
    return [
        Aim(
            f"CPU of a run as a multiple of the {PLAIN}'s, {way.name}",
            _cpu(samples, way.name, 1) / plain,
            OF_PLAIN,
            "at most",
        )
        for way in ways()
    ]


def _cpu(samples: list[Sample], way: str, at_once: int) -> float:
    return median(each.cpu for each in samples if (each.way, each.at_once) == (way, at_once))


def _plain(base_url: str, repository: Path, folder: Path) -> Sample:
    folder.mkdir()
    git(folder, "clone", "--quiet", str(repository), "workspace")
    script = Path(__file__).with_name("plain_agent.py")
    places = (str(folder / "workspace"), str(folder / "conversations"))
    started, before = time.monotonic(), _spent()
    subprocess.run(
        [sys.executable, str(script), base_url, MODEL, KEY, *places, "Run number 1."],
        check=True,
        capture_output=True,
        env={**os.environ, "OPENHANDS_SUPPRESS_BANNER": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )
    seconds, cpu = time.monotonic() - started, _spent() - before
    assert (folder / "workspace" / "tests" / "test_number.py").is_file()
    return Sample(PLAIN, 1, cpu, seconds)


async def _runs(way: Way, base_url: str, repository: Path, folder: Path, at_once: int) -> Sample:
    """Run so many conversations at once, check what came of each, and return what one of them cost."""
    made = [_workspace(repository, folder / str(number)) for number in range(at_once)]
    untouched = _look(repository)
    started, before = time.monotonic(), time.process_time()
    async with _memory(folder) as samples:
        inside = await asyncio.gather(*(_run(way.make, base_url, each, number) for number, each in enumerate(made)))
    seconds = time.monotonic() - started
    cpu = (time.process_time() - before + sum(inside)) / at_once
    for number, each in enumerate(made):
        patch = workspace.diff(each)
        assert [change.path for change in patch.changes] == ["tests/test_number.py"], patch.changes
        assert f"str({number})" in patch.text, "each run has its own result"
    assert _look(repository) == untouched
    seen = way.name != "docker" or os.getuid() == 0  # a container's processes are another user's
    memory = max(samples) / at_once / 1e6 if seen else None
    return Sample(way.name, at_once, cpu, seconds, memory)


def _workspace(repository: Path, folder: Path) -> Workspace:
    values = {"category": "unit_test", "description": "d", "target_file": "a.py", "repository": str(repository)}
    return workspace.prepare(DevTask.parse(task_id="t", **values), folder)


async def _run(make: Callable[[Path, Path], SupervisedRuntime], base_url: str, made: Workspace, number: int) -> float:
    """Run one conversation; return the CPU-seconds of its supervisor and of all that this has ended."""
    socket = made.folder / "gateway" / "socket"
    async with (
        gateway_to(base_url, SecretStr(KEY), MODEL, socket=socket) as gateway,
        make(made.folder, socket) as runtime,
    ):
        request = AgentRequest(
            conversation_id=str(uuid4()),
            workspace=made.path,
            persistence_dir=made.folder / "conversations",
            model=MODEL,
            base_url=gateway.base_url,
            token=gateway.token,
            message=f"Run number {number}.",
            max_iterations=10,
            max_input_tokens=131_072,
            max_output_tokens=4_096,
        )
        result = await runtime.run_agent(request, deadline=600, on_event=lambda _: None)
        assert result.status is AgentStatus.FINISHED, result
        said = await runtime.run(Command(("sh", "-c", SUPERVISORS_TICKS), made.path, 60))
        return sum(map(int, said.output.split())) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def _memory(folder: Path) -> AsyncGenerator[list[int]]:
    """Collect, while it lasts, the memory (PSS, bytes) of the processes below this one, but the simulator, or there."""
    samples = [0]
    others = {each.pid for each in psutil.Process().children()}

    async def look() -> None:
        while True:
            samples.append(await asyncio.to_thread(_pss, others, folder))
            await asyncio.sleep(SAMPLE_SECONDS)

    task = asyncio.create_task(look())
    try:
        yield samples
    finally:
        task.cancel()


def _pss(others: set[int], folder: Path) -> int:
    below = {each.pid for each in psutil.Process().children(recursive=True)} - others
    total = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid in below or Path(process.cwd()).is_relative_to(folder):
                total += process.memory_full_info().pss
    return total


def _spent() -> float:
    """Return the CPU-seconds of all processes below this one that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _look(repository: Path) -> list[str]:
    commands = (("status", "--porcelain=v2", "--branch"), ("for-each-ref",), ("worktree", "list"), ("count-objects",))
    return [git(repository, *command) for command in commands]


def _repository(folder: Path) -> Path:
    folder.mkdir()
    (folder / "a.py").write_text("a = 1\n")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first")
    return folder


@contextmanager
def _simulator(folder: Path) -> Generator[str]:
    scenario = folder / "scenario.yaml"
    scenario.write_text(yaml.safe_dump(SCENARIO))
    command = [sys.executable, "-m", "devtasks.simulator", str(scenario)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


if __name__ == "__main__":
    sys.exit(main())
