"""Judging tests that would take the machine down: in the sandbox this machine has, each ends in a finding."""

import asyncio
import subprocess
import time
from pathlib import Path

import pytest

from deployments.judgement import judge
from devtasks.task import DevTask, TaskCategory

SECONDS = 10
"""The limit of each command of the validation; four of them may meet it before the verdict."""

GOOD = "from price import double\n\n\ndef test_double():\n    assert double(4) == 8\n"

TAKES_ALL = {
    "a loop without end": ("while True:\n        pass", "did not end within 10 s"),
    "ten gigabytes": ("bytearray(10 << 30).replace(b'0', b'1')", "MemoryError"),
    "processes without end": (
        "import os, time\n    while True:\n        if os.fork() == 0:\n            time.sleep(600)",
        "as it used too much",  # of memory or processes: what they share of memory counts for each
    ),
}


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DEVTASKS_HOME", str(tmp_path / "home"))
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "price.py").write_text("def double(n):\n    return n + n\n")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        options = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *options, *words], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize(("body", "expected"), TAKES_ALL.values(), ids=TAKES_ALL)
def test_a_test_that_would_take_the_machine_down_ends_in_a_finding(checkout: Path, body: str, expected: str) -> None:
    started = time.monotonic()
    (checkout / "test_price.py").write_text(f"{GOOD}\n\ndef test_all():\n    {body}\n")
    task = DevTask.parse(
        task_id="t",
        category=TaskCategory.UNIT_TEST,
        description="judge",
        repository=str(checkout),
        target_file="price.py",
        limits={"seconds": SECONDS},
    )
    verdict = asyncio.run(judge(task, None)).verdict
    assert not verdict.passed
    (error,) = (each for each in verdict.errors if each.rule == "passes")
    assert expected in error.message
    assert time.monotonic() - started < 60 + 4 * SECONDS
