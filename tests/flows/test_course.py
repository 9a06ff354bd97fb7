"""What a run keeps of itself for the process that goes on after its own was killed."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from builders import make_attempt
from models import NOW, make_model

from devtasks.environments import ProjectEnvironment
from devtasks.execution.runtime import AgentResult, AgentStatus
from devtasks.model_selector import ModelSelector, TaskRequirements
from devtasks.openrouter.answers import Refusal
from devtasks.recovery import FailureKind, Step
from devtasks.selection.capability import Endpoint
from devtasks.task import TaskCategory
from devtasks.validation.baseline import Baseline, SuiteState
from devtasks.validation.conventions import ExistingTest
from devtasks.validation.result import Finding, ValidationLevel, ValidationResult
from devtasks.validation.target_coverage import FunctionLines, TargetCoverage
from devtasks.workspace import Change, ChangeStatus, Patch, Workspace
from flows.course import Course, Worked
from tasks import Assignment
from tasks.prepare_workspace import Prepared


def made(folder: Path) -> Workspace:
    for name in ("workspace", "trusted.git"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return Workspace(folder / "workspace", folder / "trusted.git", "/home/me/shop", "0" * 40, folder)


def a_course(folder: Path) -> Course:
    """A course in the middle of its second attempt, with something in every field."""
    coverage = TargetCoverage((1, 2), (3,), ((1, 2),), ((2, -1),), (FunctionLines("f", (1, 3)),))
    baseline = Baseline(
        SuiteState.RED, ("t::a",), ("t::b",), (), (ExistingTest("t.py", "a", "d"),), coverage, "no", "E"
    )
    model = make_model("acme/coder", prompt_price=Decimal("0.0000003"), endpoint=Endpoint("http://own/v1", "own"))
    lineup = ModelSelector([model], now=NOW).rank(TaskRequirements(TaskCategory.UNIT_TEST)).candidates
    environment = ProjectEnvironment(folder / "venv" / "bin" / "python", folder, "uv.lock")
    findings = (
        Finding("passes", ValidationLevel.ERROR, "fails: \udc80".encode(errors="replace").decode(), evidence="x"),
    )
    refusal = Refusal(FailureKind.UPSTREAM_RATE_LIMIT, 429, "slow down", NOW + timedelta(seconds=3))
    return Course(
        prepared=Prepared(made(folder), environment, baseline, "Write tests. ✓"),
        first=3,
        step=Step.REPAIR,
        metrics=[make_attempt(attempt=3, findings=findings, failure="rejected", outcome="rejected")],
        tried=("acme/other",),
        lineup=lineup,
        conversation_id="c",
        agent_seconds=12.5,
        assignment=Assignment(4, lineup, "c", "Mend it.", 60.0),
        started_at=NOW,
        worked=Worked(AgentResult(status=AgentStatus.FINISHED, iterations=3), ("acme/coder",), 1, refusal),
        patch=Patch(b"\x00\xff diff", (Change("tests/test_a.py", ChangeStatus.ADDED),), "1" * 40, ("pipe",)),
        verdict=ValidationResult(passed=False, score=0.5, findings=findings),
        reason="because",
    )


def test_what_was_saved_is_what_is_loaded(tmp_path: Path) -> None:
    course = a_course(tmp_path / "work")
    course.save(tmp_path / "course.json")
    course.save(tmp_path / "course.json")
    assert Course.load(tmp_path / "course.json") == course
    assert (tmp_path / "course.json").stat().st_mode & 0o077 == 0, "it holds the prompt"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["course.json", "work"]


def spoil(course: Path) -> None:
    course.write_text(course.read_text()[:-9])


def of_another_version(course: Path) -> None:
    course.write_text(course.read_text().replace('"agent_seconds"', '"agent_minutes"').replace('"first"', '"last"'))


def without_its_workspace(course: Path) -> None:
    (course.parent / "work" / "workspace").rmdir()


def nothing(course: Path) -> None:
    course.unlink()


@pytest.mark.parametrize("happens", [spoil, of_another_version, without_its_workspace, nothing])
def test_a_course_that_cannot_be_gone_on_with_is_none(tmp_path: Path, happens: Any) -> None:
    course = tmp_path / "course.json"
    a_course(tmp_path / "work").save(course)
    happens(course)
    assert Course.load(course) is None
