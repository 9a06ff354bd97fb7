"""A small project in a src layout, a real runner of commands, and builders of what a validation is given."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from devtasks.execution.runtime import Command, CommandResult
from devtasks.task import DevTask, TaskCategory
from devtasks.validation.baseline import Baseline, measure_baseline
from devtasks.validation.result import ValidationResult
from devtasks.validation.rule import ValidationContext, ValidationRule
from devtasks.validation.validator import ResultValidator
from devtasks.workspace import Change, ChangeStatus

TARGET = "src/shop/price.py"
SHOP = {
    "src/shop/__init__.py": "",
    TARGET: """\
LIMIT = 100


def discount(total):
    if total > LIMIT:
        return total * 0.9
    return total


def tax(total, rate):
    return total * rate
""",
    "tests/test_price.py": """\
from shop.price import discount


def test_small_total_stays():
    assert discount(10) == 10


def test_zero_stays():
    assert discount(0) == 0
""",
}


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@dataclass
class SubprocessRunner:
    """Runs commands in process groups of their own, with nothing of this process's environment but the path."""

    commands: list[Command] = field(default_factory=list)

    async def run(self, command: Command) -> CommandResult:
        self.commands.append(command)
        started = time.monotonic()
        path = os.pathsep.join(filter(None, (command.env.get("PATH"), os.environ["PATH"])))
        process = await asyncio.create_subprocess_exec(
            *command.argv,
            cwd=command.cwd,
            env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **command.env, "PATH": path},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        reading = asyncio.ensure_future(process.communicate())
        done, _ = await asyncio.wait({reading}, timeout=command.timeout)
        if not done:
            os.killpg(process.pid, signal.SIGKILL)
        output, _ = await reading
        text = output.decode(errors="replace")[-65_536:]
        exit_code = process.returncode if done else None
        return CommandResult(exit_code, text, time.monotonic() - started, timed_out=not done)


@pytest.fixture
def runner() -> SubprocessRunner:
    return SubprocessRunner()


@pytest.fixture(scope="session")
def make_task() -> Callable[..., DevTask]:
    def build(target: str | None = TARGET, *, seconds: float = 60, **values: object) -> DevTask:
        known = {"category": TaskCategory.UNIT_TEST, "quality_threshold": 0.6, "description": "write tests"}
        return DevTask.parse(
            task_id="t1",
            repository="/somewhere",
            target_file=target,
            limits={"seconds": seconds},
            **{**known, **values},
        )

    return build


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def measure(tmp_path: Path, scratch: Path, runner: SubprocessRunner, make_task) -> Callable[..., Baseline]:
    """Write these files as a project and measure its baseline."""

    def run(files: Mapping[str, str], target: str, **task: object) -> Baseline:
        root = write(tmp_path / "project", files)
        return asyncio.run(measure_baseline(make_task(target, **task), root, runner, scratch, Path(sys.executable)))

    return run


@pytest.fixture(scope="session")
def shop_baseline(tmp_path_factory: pytest.TempPathFactory, make_task) -> Baseline:
    root = write(tmp_path_factory.mktemp("shop"), SHOP)
    scratch = tmp_path_factory.mktemp("scratch")
    return asyncio.run(measure_baseline(make_task(), root, SubprocessRunner(), scratch, Path(sys.executable)))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return write(tmp_path / "shop", SHOP)


@pytest.fixture
def change(shop: Path, shop_baseline: Baseline, scratch: Path, runner: SubprocessRunner, make_task):
    """Write and delete files of the shop as an agent would; return what the validator is given."""

    def build(
        written: Mapping[str, str], *, deleted: tuple[str, ...] = (), baseline: Baseline | None = None, **task: object
    ) -> ValidationContext:
        known = {name: (shop / name).read_bytes() for name in (*written, *deleted) if (shop / name).exists()}
        write(shop, written)
        for name in deleted:
            (shop / name).unlink()
        changes = [Change(name, ChangeStatus.MODIFIED if name in known else ChangeStatus.ADDED) for name in written]
        changes += [Change(name, ChangeStatus.DELETED) for name in deleted]
        return ValidationContext(
            task=make_task(**task),
            workspace=shop,
            changes=tuple(changes),
            baseline=baseline or shop_baseline,
            runner=runner,
            scratch=scratch,
            python=Path(sys.executable),
            before=known.get,
        )

    return build


@pytest.fixture
def judge(change) -> Callable[..., ValidationResult]:
    """Return the verdict on such a change, of the default rules or of these alone."""

    def run(*args: object, rules: tuple[ValidationRule, ...] | None = None, **kwargs: object) -> ValidationResult:
        return asyncio.run(ResultValidator(rules).validate(change(*args, **kwargs)))

    return run


@pytest.fixture
def tree() -> Callable[[Path], set[str]]:
    return lambda root: {path.relative_to(root).as_posix() for path in root.rglob("*")}
