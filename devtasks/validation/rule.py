"""What a validation rule is given and what it gives back."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from devtasks.execution.runtime import CommandRunner
from devtasks.task import DevTask, TaskCategory
from devtasks.validation.baseline import Baseline
from devtasks.validation.conventions import is_test_code, is_test_file, read_tests
from devtasks.validation.result import Finding
from devtasks.validation.stamps import Stamp, stamps
from devtasks.validation.suite_runner import Collection, SuiteRun, SuiteRunner
from devtasks.validation.target_coverage import TargetCoverage
from devtasks.workspace import Change, ChangeStatus

_WRITING = (TaskCategory.CODE_GENERATION, TaskCategory.REFACTORING)


@dataclass(frozen=True)
class RuleOutcome:
    """A rule's value between 0 and 1 and its findings; `stop` says that the later rules make no sense."""

    value: float
    findings: tuple[Finding, ...] = ()
    stop: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 1:
            raise ValueError(f"a rule's value lies between 0 and 1, not {self.value}")


class ValidationRule(Protocol):
    """One question asked of a change; `weight` is its share of the score."""

    @property
    def name(self) -> str:
        """The name its findings carry."""
        ...

    @property
    def weight(self) -> float:
        """Its share of the score, compared with the other rules' weights."""
        ...

    async def check(self, context: "ValidationContext") -> RuleOutcome:
        """Judge the change; whatever this raises, AgentCrashed aside, becomes an ERROR finding."""
        ...


@dataclass
class ChangedTests:
    """The changed test files, collected once and run once: every rule judges the same run.

    Coverage measures the target, or in its place the files `measured`.
    """

    suite: SuiteRunner
    paths: tuple[str, ...]
    measured: tuple[str, ...] = ()
    _collection: Collection | None = field(default=None, init=False)
    _run: tuple[SuiteRun, Mapping[str, TargetCoverage]] | None = field(default=None, init=False)

    async def collection(self) -> Collection:
        """Return what pytest collects from the files."""
        if self._collection is None:
            self._collection = await self.suite.collect(self.paths)
        return self._collection

    async def run(self) -> SuiteRun:
        """Return the run of these files alone, under coverage."""
        run, _ = await self._measured()
        return run

    async def coverage(self) -> TargetCoverage | None:
        """Return what that run executed of the target; None where it never ran or there is no target."""
        return (await self.coverages()).get(self.suite.target or "")

    async def coverages(self) -> Mapping[str, TargetCoverage]:
        """Return what that run executed of each measured file; one that never ran is missing."""
        _, coverages = await self._measured()
        return coverages

    async def _measured(self) -> tuple[SuiteRun, Mapping[str, TargetCoverage]]:
        if self._run is None:
            self._run = await self.suite.measured_run(self.paths, self.measured, tell_apart=not self.measured)
        return self._run


@dataclass
class WholeSuite:
    """The project's whole suite with the change, run once under coverage of the files `measured`."""

    suite: SuiteRunner
    measured: tuple[str, ...]
    _run: tuple[SuiteRun, Mapping[str, TargetCoverage]] | None = field(default=None, init=False)

    async def run(self) -> SuiteRun:
        """Return the run."""
        run, _ = await self._measured()
        return run

    async def coverages(self) -> Mapping[str, TargetCoverage]:
        """Return what that run executed of each measured file; one that never ran is missing."""
        _, coverages = await self._measured()
        return coverages

    async def _measured(self) -> tuple[SuiteRun, Mapping[str, TargetCoverage]]:
        if self._run is None:
            if self.measured:
                self._run = await self.suite.measured_run((), self.measured, keep_going=True)
            else:
                self._run = (await self.suite.run(keep_going=True), {})
        return self._run


@dataclass(frozen=True)
class ValidationContext:
    """One change to judge: `workspace` is the tree with it, `scratch` an empty folder outside for reports.

    `python` is the interpreter, with pytest and coverage, that runs the project's tests in the sandbox; `before`
    returns a file's bytes before the change, None where it was no file of at most 1 MiB.
    """

    task: DevTask
    workspace: Path
    changes: tuple[Change, ...]
    baseline: Baseline
    runner: CommandRunner
    scratch: Path
    python: Path
    before: Callable[[str], bytes | None]

    @cached_property
    def suite(self) -> SuiteRunner:
        """What runs tests of this workspace."""
        return SuiteRunner.of(self.task, self.workspace, self.runner, self.scratch, self.python)

    @cached_property
    def original(self) -> Path:
        """A copy of the tree as it was before the change, without `.git`; made at first use, below `scratch`."""
        copy = self.suite.new_folder() / "original"
        shutil.copytree(self.workspace, copy, symlinks=True, ignore=shutil.ignore_patterns(".git"))
        for change in self.changes:
            (copy / change.path).unlink(missing_ok=True)
            if (content := self.before(change.path)) is not None:
                (copy / change.path).parent.mkdir(parents=True, exist_ok=True)
                (copy / change.path).write_bytes(content)
        return copy

    @cached_property
    def written(self) -> tuple[str, ...]:
        """The paths that were added or modified."""
        return tuple(change.path for change in self.changes if change.status is not ChangeStatus.DELETED)

    @cached_property
    def changed_tests(self) -> ChangedTests:
        """The added and modified test files."""
        return ChangedTests(self.suite, tuple(filter(is_test_file, self.written)), self._measured)

    @cached_property
    def whole_suite(self) -> WholeSuite:
        """The project's suite, the changed tests among it."""
        return WholeSuite(self.suite, self._measured)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """The added and modified Python files that are no tests."""
        return tuple(path for path in self.written if path.endswith(".py") and not is_test_code(path))

    @cached_property
    def stamps(self) -> Mapping[str, Stamp]:
        """What tells whether a test or a written file is rewritten, as it was when this was first asked."""
        return stamps(self.workspace, self.written)

    @property
    def _measured(self) -> tuple[str, ...]:
        """What coverage measures in place of the target: where code is written, all of it."""
        return self.sources if self.task.category in _WRITING else ()

    def is_new(self, nodeid: str) -> bool:
        """Whether this test was not there before the change, or not with this code."""
        return nodeid.partition("[")[0] not in self._unchanged

    @cached_property
    def _unchanged(self) -> frozenset[str]:
        """The ids of test functions as they were; those that the syntax tree does not show, by the suite's run."""
        before = {f"{test.path}::{test.name}": test.digest for test in self.baseline.tests}
        tests = [test for path in self.changed_tests.paths for test in read_tests(self.workspace, path) or ()]
        now = {f"{test.path}::{test.name}": test.digest for test in tests}
        ran = (*self.baseline.passed, *self.baseline.failed, *self.baseline.skipped)
        inherited = {nodeid.partition("[")[0] for nodeid in ran} - before.keys()
        return frozenset({name for name, digest in before.items() if now.get(name) == digest} | inherited)
