"""The state of the project before the agent came, so that nothing of it is blamed on, or credited to, the agent."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from devtasks.errors import InvalidInput
from devtasks.execution.runtime import CommandRunner
from devtasks.task import DevTask, TaskCategory
from devtasks.validation.conventions import ExistingTest, existing_tests
from devtasks.validation.junit import CaseOutcome
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.settings import ValidationSettings
from devtasks.validation.suite_runner import SuiteRun, SuiteRunner
from devtasks.validation.target_coverage import TargetCoverage

_LISTED = 10


class SuiteState(StrEnum):
    """How the project's own suite ended."""

    GREEN = "green"
    RED = "red"
    ABSENT = "absent"
    TIMED_OUT = "timed_out"


@dataclass(frozen=True)
class Baseline:
    """The untouched workspace: its suite's result by test id, its tests, and what ran of the target.

    `coverage` joins what the suite and a mere import of the target run; None where there is no Python target.
    `import_error` says why the target cannot be imported, `evidence` how a suite that is not green ended, `settings`
    what the project asks of its changes.
    """

    suite: SuiteState
    passed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    tests: tuple[ExistingTest, ...] = ()
    coverage: TargetCoverage | None = None
    import_error: str | None = None
    evidence: str | None = None
    settings: ValidationSettings = ValidationSettings()

    def findings(self) -> tuple[Finding, ...]:
        """Say what was wrong before the change; nothing for a green suite over a target that can be imported."""
        level, message = self._suite_message()
        found = [Finding("baseline", level, message, evidence=self.evidence)] if message else []
        if self.import_error:
            message = f"before the change the target could not be imported: {self.import_error}"
            found.append(Finding("baseline", ValidationLevel.WARNING, message))
        return tuple(found)

    def _suite_message(self) -> tuple[ValidationLevel, str]:
        counts = f"{len(self.failed)} failed, {len(self.passed)} passed, {len(self.skipped)} skipped"
        names = f": {', '.join(self.failed[:_LISTED])}" if self.failed else ""
        warning, red = ValidationLevel.WARNING, "the project's own suite was red before the change"
        messages = {
            SuiteState.GREEN: (ValidationLevel.INFO, ""),
            SuiteState.RED: (warning, f"{red} ({counts}{names}); not held against this change"),
            SuiteState.ABSENT: (ValidationLevel.INFO, "the project had no tests before the change"),
            SuiteState.TIMED_OUT: (
                warning,
                "the project's own suite did not end in time before the change, so it is not compared",
            ),
        }
        return messages[self.suite]


async def measure_baseline(
    task: DevTask, workspace: Path, runner: CommandRunner, scratch: Path, python: Path
) -> Baseline:
    """Run the untouched project's suite under coverage of the target, then add what importing the target runs.

    Each command ends within 120 s, or the task's seconds where those are fewer. Raises InvalidInput for a task
    to write unit tests whose target is not a Python file of the workspace, for a python without the tools or for
    settings that are not allowed, and AgentCrashed when the sandbox dies.
    """
    settings = ValidationSettings.read(workspace)
    suite = SuiteRunner.of(task, workspace, runner, scratch, python)
    measurable = suite.target is not None and suite.target.endswith(".py") and (workspace / suite.target).is_file()
    if task.category is TaskCategory.UNIT_TEST and not measurable:
        raise InvalidInput("target_file", task.target_file, "a Python file of the repository to write tests for")
    data = suite.new_folder() / "coverage.db" if measurable else None
    run = await suite.run(data=data, keep_going=True)
    import_error = await suite.import_target(data) if data else None
    coverage = await suite.coverage(data) if data else None
    state = _state(run)
    return Baseline(
        suite=state,
        passed=_ids(run, CaseOutcome.PASSED),
        failed=_ids(run, CaseOutcome.FAILED, CaseOutcome.ERROR),
        skipped=_ids(run, CaseOutcome.SKIPPED),
        tests=existing_tests(workspace),
        coverage=coverage,
        import_error=import_error,
        evidence=run.evidence if state in (SuiteState.RED, SuiteState.TIMED_OUT) else None,
        settings=settings,
    )


def _state(run: SuiteRun) -> SuiteState:
    if run.timed_out:
        return SuiteState.TIMED_OUT
    if run.problem or run.bad:
        return SuiteState.RED
    return SuiteState.GREEN if run.cases else SuiteState.ABSENT


def _ids(run: SuiteRun, *outcomes: CaseOutcome) -> tuple[str, ...]:
    return tuple(case.nodeid for case in run.cases if case.outcome in outcomes)
