"""Test files that would take the machine with them, judged in every runtime: each comes to a finding."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import supervisors

from devtasks.execution.limits import ResourceLimits
from devtasks.execution.supervised import SupervisedRuntime
from devtasks.task import DevTask
from devtasks.validation.baseline import measure_baseline
from devtasks.validation.result import ValidationLevel, ValidationResult
from devtasks.validation.rule import ValidationContext
from devtasks.validation.validator import ResultValidator
from devtasks.workspace import Change, ChangeStatus

TARGET, TESTS = "price.py", "tests/test_price.py"
HOSTILE = {
    "endless-loop": ("while True:\n        pass", "did not end within 15 s"),
    "fork-bomb": (
        "while True:\n        if os.fork() == 0:\n            time.sleep(60)",
        "used too much: |BlockingIOError",
    ),
    "ten-gigabytes": ("kept = b'x' * (10 << 30)", "MemoryError|used too much: "),
    "ten-gigabytes-in-pieces": ("kept = [b'x' * (8 << 20) for _ in range(1280)]", "MemoryError|used too much: "),
}
LIMITS = ResourceLimits(memory_mb=1_024, processes=32)


@pytest.mark.parametrize(("body", "told"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_test_is_a_finding_and_the_next_change_is_judged(
    new_runtime: Callable[..., SupervisedRuntime], body: str, told: str, tmp_path: Path
) -> None:
    workspace, scratch = tmp_path / "workspace", tmp_path / "scratch"
    (workspace / "tests").mkdir(parents=True)
    scratch.mkdir()
    (workspace / TARGET).write_text("def tax(total, rate):\n    return total * rate\n")
    task = DevTask.parse(
        task_id="t1",
        category="unit_test",
        description="Write tests.",
        repository="/somewhere",
        target_file=TARGET,
        limits={"seconds": 15},
    )

    async def act() -> list[ValidationResult]:
        async with new_runtime(tmp_path, limits=LIMITS) as runtime:
            baseline = await measure_baseline(task, workspace, runtime, scratch, runtime.python)

            async def judge(test: str) -> ValidationResult:
                (workspace / TESTS).write_text(f"import os\nimport time\nfrom price import tax\n\n\n{test}")
                changes = (Change(TESTS, ChangeStatus.ADDED),)
                context = ValidationContext(
                    task, workspace, changes, baseline, runtime, scratch, runtime.python, lambda _: None
                )
                return await ResultValidator().validate(context)

            sound = "def test_tax():\n    assert tax(100, 0.5) == 50\n"
            return [await judge(f"def test_tax():\n    {body}\n    assert tax(100, 0.5) == 50\n"), await judge(sound)]

    hostile, after = asyncio.run(act())
    errors = [each.message for each in hostile.findings if each.level is ValidationLevel.ERROR]
    assert not hostile.passed
    assert any(re.search(told, message) for message in errors), errors
    assert after.passed, after.findings
    assert supervisors(tmp_path) == []
