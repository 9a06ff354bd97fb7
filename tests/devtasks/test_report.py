from functools import partial
from typing import Any

import builders
import pytest

from devtasks.metrics_collector import ExecutionMetrics
from devtasks.report import MAX_DIFF, TaskReport, attempt_rows, diff_markdown, finding_line, verdict_markdown
from devtasks.validation.result import Finding, ValidationLevel

FINDING = Finding("tests-pass", ValidationLevel.ERROR, "two tests fail", "tests/test_auth.py:3", "E  assert 1 == 2")


make_attempt = partial(
    builders.make_attempt,
    score=0.876,
    prompt_tokens=12_000,
    completion_tokens=345,
    cost_usd=0.01234,
    seconds=12.34,
)


def make_report(**changes: Any) -> TaskReport:
    values: dict[str, Any] = {
        "task_id": "t-1",
        "flow_run_id": "run",
        "title": "unit_test src/auth.py",
        "state": "Accepted",
        "outcome": "accepted",
        "reason": "acme/coder:free passed validation",
        "repository": "/r",
        "isolation": "local",
        "base_commit": "abc123",
        "attempts": (make_attempt(),),
        "diff_path": "/runs/run/diff.patch",
    }
    return TaskReport(**values | changes)


@pytest.mark.parametrize(
    ("attempt", "cells"),
    [
        pytest.param(
            make_attempt(),
            ("1", "acme/coder:free", "accepted", "0.88", "3", "12,345", "$0.0123", "12.3"),
            id="accepted",
        ),
        pytest.param(
            make_attempt(attempt=2, outcome="failed", failure="provider_error", score=0.0, simulated=True),
            (
                *("2", "acme/coder:free (simulated)", "failed (provider_error)"),
                *("0.00", "3", "12,345", "$0.0123", "12.3"),
            ),
            id="failed-and-simulated",
        ),
        pytest.param(
            make_attempt(rotations=2),
            ("1", "acme/coder:free (after 2 in trouble)", "accepted", "0.88", "3", "12,345", "$0.0123", "12.3"),
            id="moved-to-from-two-others",
        ),
    ],
)
def test_an_attempt_is_a_row_of_readable_cells(attempt: ExecutionMetrics, cells: tuple[str, ...]) -> None:
    assert attempt_rows([attempt]) == [cells]


def test_the_verdict_tells_outcome_attempts_findings_and_what_was_delivered() -> None:
    attempts = (make_attempt(outcome="rejected", failure="rejected", findings=(FINDING,)), make_attempt(attempt=2))
    lines = verdict_markdown(make_report(attempts=attempts)).splitlines()
    assert lines[0] == "# Accepted: unit_test src/auth.py"
    assert lines[2] == "acme/coder:free passed validation"
    assert sum(line.startswith("| ") for line in lines) == 3, "a head and two rows"
    first, second = lines.index("## Attempt 1: acme/coder:free"), lines.index("## Attempt 2: acme/coder:free")
    assert lines[first + 2] == "- **ERROR** tests-pass at `tests/test_auth.py:3`: two tests fail"
    assert lines[second + 2] == "No findings."
    assert lines[-2:] == ["Isolation: local. Base commit: `abc123`.", "Delivered: `/runs/run/diff.patch`."]


def test_a_branch_is_what_was_delivered_where_there_is_one() -> None:
    assert "Delivered: `devtasks/t-1`." in verdict_markdown(make_report(branch="devtasks/t-1"))


def test_a_rejected_result_was_not_delivered() -> None:
    text = verdict_markdown(make_report(outcome="rejected", state="Rejected"))
    assert "Delivered" not in text
    assert "Not delivered; the last attempt's change: `/runs/run/diff.patch`." in text


def test_a_simulated_result_says_so_in_every_place() -> None:
    report = make_report(simulated=True)
    assert report.mark == " (simulated)"
    assert "# Accepted (simulated): " in verdict_markdown(report)
    assert "**simulated**" in verdict_markdown(report)
    assert "**simulated**" in diff_markdown("+x", simulated=True)


def test_a_real_result_carries_no_mark() -> None:
    text = verdict_markdown(make_report()) + diff_markdown("+x", simulated=False) + make_report().mark
    assert "simulated" not in text


def test_a_finding_without_a_place_is_a_line_too() -> None:
    assert finding_line(Finding("score", ValidationLevel.WARNING, "low")) == "- **WARNING** score: low"


@pytest.mark.parametrize("ticks", [0, 3, 4, 9])
def test_a_diff_cannot_leave_its_code_block(ticks: int) -> None:
    diff = f"+{'`' * ticks}\n+# Not a heading"
    first, *_, last = diff_markdown(diff, simulated=False).splitlines()
    assert first == last + "diff"
    assert set(last) == {"`"}
    assert len(last) > ticks
    assert diff in diff_markdown(diff, simulated=False)


def test_a_long_diff_is_cut_and_says_so() -> None:
    text = diff_markdown("x" * MAX_DIFF + "y" * 17, simulated=False)
    assert "y" * 3 not in text
    assert "… 17 characters cut; the patch file holds them" in text


def test_a_report_survives_the_way_through_json() -> None:
    report = make_report(attempts=(make_attempt(findings=(FINDING,)),))
    assert TaskReport.model_validate_json(report.model_dump_json()) == report
