"""What a verdict costs beside one plain run of the same tests: a module of 200 lines, ten new tests, mistakes included.

Both in bubblewrap's sandbox where it works, else without, in turns in the same process; seconds of the clock. The
baseline is not counted: a task measures it once, whatever it tries afterwards.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

from report import Aim, finish, machine

from blocks import OpenHandsRuntime
from devtasks import workspace
from devtasks.config import OpenHandsConfig
from devtasks.execution.supervised import SupervisedRuntime
from devtasks.task import DevTask, TaskCategory
from devtasks.validation.baseline import measure_baseline
from devtasks.validation.rule import ValidationContext
from devtasks.validation.suite_runner import SuiteRunner
from devtasks.validation.validator import ResultValidator
from devtasks.workspace import Workspace
from tasks.sandbox import choose_sandbox, make_runtime

RUNS = int(os.environ.get("RUNS", "5"))
MOST_TIMES = 8.0
TARGET, TESTS = "rates.py", "test_rates.py"

FUNCTION = '''\
def rate_{n}(amount, days, *, member=False):
    """Return what {n} lets for."""
    if amount <= 0:
        raise ValueError("the amount is positive")
    rate = {n} + 2
    if days > 7:
        rate -= 1
    elif days == 7 and member:
        rate = rate / 2
    total = amount * rate * days
    steps = []
    for day in range(days):
        if day % 2 == 0:
            steps.append(day)
    bonus = len(steps) if member else 0
    if total > 1000 and not member:
        total = total + 10
    return total - bonus


'''
TEST = """\
def test_rate_{n}():
    rate = {n} + 2
    assert rate_{n}(10, 2) == 20 * rate
    assert rate_{n}(10, 7, member=True) == 35 * rate - 4
    assert rate_{n}(10, 8) == 80 * (rate - 1) + (10 if 80 * (rate - 1) > 1000 else 0)
    assert rate_{n}(1000, 2) == 2000 * rate + 10
    with pytest.raises(ValueError, match="positive"):
        rate_{n}(0, 1)


"""


def make_repository(folder: Path) -> None:
    """Make the module, 200 lines with a first one, and commit it."""
    text = '"""Rates."""\n\n\n' + "".join(FUNCTION.format(n=n) for n in range(10))
    (folder / TARGET).write_text(text.rstrip() + "\n")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "rates"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words], cwd=folder, check=True)


async def measure(task: DevTask, made: Workspace, scratch: Path, runtime: SupervisedRuntime) -> list[dict[str, float]]:
    """Return the seconds of each plain run and of the verdict after it."""
    python = Path(sys.executable)
    baseline = await measure_baseline(task, made.path, runtime, new(scratch), python)
    names = ", ".join(f"rate_{n}" for n in range(10))
    tests = f"import pytest\n\nfrom rates import {names}\n\n\n" + "".join(TEST.format(n=n) for n in range(10))
    (made.path / TESTS).write_text(tests.rstrip() + "\n")
    changes = workspace.diff(made).changes
    samples: list[dict[str, float]] = []
    for _ in range(RUNS):
        started = time.monotonic()
        suite = SuiteRunner.of(task, made.path, runtime, new(scratch), python)
        run = await suite.run([TESTS], data=new(scratch) / "coverage.db")
        plain = time.monotonic() - started
        if len(run.cases) != 10 or run.bad:
            raise RuntimeError(run.evidence)
        started = time.monotonic()
        before = partial(workspace.read_bytes, made)
        context = ValidationContext(task, made.path, changes, baseline, runtime, new(scratch), python, before)
        verdict = await ResultValidator().validate(context)
        if not verdict.passed:
            raise RuntimeError(str(verdict.findings))
        samples.append({"plain": plain, "verdict": time.monotonic() - started})
        print(f"plain {plain:.2f} s, verdict {samples[-1]['verdict']:.2f} s")
    return samples


def new(scratch: Path) -> Path:
    """Make an empty folder."""
    return Path(tempfile.mkdtemp(dir=scratch))


async def main() -> int:
    """Measure and report."""
    where = machine()
    with tempfile.TemporaryDirectory(prefix="devtasks-speed-") as temporary:
        folder = Path(temporary)
        (folder / "repository").mkdir()
        (folder / "work").mkdir()
        make_repository(folder / "repository")
        task = DevTask.parse(
            task_id="speed",
            category=TaskCategory.UNIT_TEST,
            description="measure",
            repository=str(folder / "repository"),
            target_file=TARGET,
        )
        settings, config = OpenHandsRuntime(), OpenHandsConfig.from_env()
        sandbox = await choose_sandbox(False, settings, config, print)
        made = workspace.prepare(task, folder / "work")
        (folder / "work" / "scratch").mkdir()
        async with make_runtime(sandbox, folder / "work", settings, config, None) as runtime:
            samples = await measure(task, made, folder / "work" / "scratch", runtime)
    plain = median(sample["plain"] for sample in samples)
    verdict = median(sample["verdict"] for sample in samples)
    lines = len((FUNCTION * 10).splitlines()) + 1
    rows = [
        ("seconds, median", f"of {RUNS}"),
        (f"ten tests of a module of {lines} lines, with coverage", f"{plain:.2f}"),
        ("the verdict on them", f"{verdict:.2f}"),
    ]
    return finish(
        "validation-speed", where, rows, samples, [Aim("times as long", verdict / plain, MOST_TIMES, "at most")]
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
