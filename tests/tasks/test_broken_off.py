"""What is kept of an attempt that was broken off, with real git and a real ledger."""

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import commit_files
from models import NOW, make_model

from devtasks import workspace
from devtasks.errors import AgentCrashed, WorkspaceError
from devtasks.evidence import DIFF, VERDICT
from devtasks.execution.runtime import AgentResult, AgentStatus
from devtasks.ledger import Ledger
from devtasks.model_selector import ModelSelector, TaskRequirements
from devtasks.recovery import FailureKind
from devtasks.run_folder import RunFolder
from devtasks.task import DevTask, TaskCategory
from tasks import Assignment, AttemptEnd, write_broken_off

HALF = "def test_half():\n    pass\n"
JUDGED = "the change that is being judged"


@pytest.fixture
def task(tmp_path: Path) -> DevTask:
    repository = commit_files(tmp_path / "project", {"shop.py": "x = 1\n"})
    return DevTask.parse(
        task_id="t", category="unit_test", description="d", repository=str(repository), target_file="shop.py"
    )


def break_off(task: DevTask, root: Path, error: BaseException, agent: AgentResult | None) -> tuple[Path, list[Any]]:
    """Break an attempt off after its agent has written half a test; return its evidence's folder and its rows."""

    async def act() -> tuple[Path, list[Any]]:
        folder = RunFolder.claim(root / "runs", "r")
        made = workspace.prepare(task, folder.work)
        (made.path / "test_half.py").write_text(HALF)
        (made.path / "shop.py").write_text("x = 'not allowed'\n")
        if agent:
            (folder.attempt(1) / DIFF).write_text(JUDGED)
        lineup = ModelSelector([make_model()], now=NOW).rank(TaskRequirements(TaskCategory.UNIT_TEST)).candidates
        gateway = SimpleNamespace(calls_of=lambda _: (), lineup=(), rotations=0)
        async with Ledger.open(f"sqlite:///{root}/ledger.db") as ledger:
            run: Any = SimpleNamespace(
                **{"task": task, "flow_run_id": "r", "folder": folder, "ledger": ledger, "gateway": gateway},
                runtime=SimpleNamespace(isolation="local"),
                simulated=False,
            )
            end = AttemptEnd(Assignment(1, lineup, "c", "Go.", 60), NOW, 1.0, agent, None, FailureKind.INTERRUPTED)
            prepared: Any = SimpleNamespace(workspace=made)
            await write_broken_off(run, prepared, end, error)
            return folder.attempt(1), list(await ledger.attempts(flow_run_id="r"))

    return asyncio.run(act())


FINISHED = AgentResult(status=AgentStatus.FINISHED)


@pytest.mark.parametrize(
    ("error", "cancelled", "agent", "failure", "diff"),
    [
        pytest.param(asyncio.CancelledError(), True, None, FailureKind.CANCELLED, HALF, id="cancelled-at-work"),
        pytest.param(asyncio.CancelledError(), True, FINISHED, FailureKind.CANCELLED, JUDGED, id="while-it-was-judged"),
        pytest.param(asyncio.CancelledError(), False, None, FailureKind.INTERRUPTED, None, id="goes-on-elsewhere"),
        pytest.param(AgentCrashed("gone"), False, None, FailureKind.INTERRUPTED, HALF, id="crashed"),
    ],
)
def test_of_an_attempt_that_was_broken_off_its_change_is_kept_and_why(
    task: DevTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    error: BaseException,
    cancelled: bool,
    agent: AgentResult | None,
    failure: FailureKind,
    diff: str | None,
) -> None:
    async def says(_: str) -> bool:
        return cancelled

    monkeypatch.setattr(sys.modules["tasks.record_metrics"], "is_cancelled", says)
    evidence, (row,) = break_off(task, tmp_path, error, agent)
    assert (row.outcome, row.failure) == ("failed", failure)
    assert f'"{failure}"' in (evidence / VERDICT).read_text()
    if diff is None:
        assert not (evidence / DIFF).exists(), "it is not over"
    else:
        kept = (evidence / DIFF).read_text()
        assert all(line in kept for line in diff.splitlines())
        assert "not allowed" not in kept


def test_an_attempt_is_written_down_where_its_change_cannot_be_taken(
    task: DevTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise WorkspaceError("too large")

    monkeypatch.setattr(workspace, "diff", refuse)
    evidence, (row,) = break_off(task, tmp_path, AgentCrashed("gone"), None)
    assert row.failure == FailureKind.INTERRUPTED
    assert not (evidence / DIFF).exists()
