"""The rules for unit tests, in the order they are asked: only tests changed, they run, they pass, they add coverage.

Of the weights (10 together) coverage has half: with the default quality threshold of 0.7, a change that keeps every
other rule must leave the target covered at 40 % or more.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

from devtasks.allowed_paths import AllowedPaths
from devtasks.validation.conventions import (
    MAX_SOURCE_BYTES,
    TEST_PATTERNS,
)
from devtasks.validation.junit import Case, CaseOutcome
from devtasks.validation.possible_bug import possible_bug
from devtasks.validation.reports import leads_outside, read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext
from devtasks.validation.suite_comparison import LISTED, failures, redder
from devtasks.validation.tampering import new_hooks
from devtasks.validation.tests_kept_rule import look
from devtasks.validation.words import listed
from devtasks.workspace import Change, ChangeStatus


@dataclass(frozen=True)
class ChangedPaths:
    """Only what the task allows is changed, no hook of pytest is written, no existing test taken away; value 1 or 0."""

    name: str = "changed_paths"
    weight: float = 1

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Judge each changed path by its name, and modified test files by the tests they held before."""
        if not context.changes:
            message = f"the agent changed nothing: write a test file ({' or '.join(TEST_PATTERNS)})"
            return RuleOutcome(0, (_error(self.name, message),), stop=True)
        outside = [path for path in context.written if leads_outside(context.workspace, path)]
        target = context.suite.target
        allowed = AllowedPaths.of(context.task)
        forbidden = [each for each in context.changes if each.path == target or not allowed.allows(each.path)]
        hooks = [
            _error(self.name, f"{each.path} defines `{name}`, which decides how tests run: use fixtures", each.path)
            for each in context.changes
            for name in new_hooks(context, each)
        ]
        findings = [
            *(_error(self.name, f"{path} is a link or not a plain file: write a plain file", path) for path in outside),
            *(_error(self.name, _forbidden(each, target, allowed), each.path) for each in forbidden[:LISTED]),
            *hooks,
            *(finding for change in context.changes for finding in look(context, change, self.name, strict=False)),
        ]
        failed = any(finding.level is ValidationLevel.ERROR for finding in findings)
        stop = bool(outside or hooks) or any(change.path == target for change in forbidden)
        return RuleOutcome(0 if failed else 1, tuple(findings), stop)


@dataclass(frozen=True)
class Compiles:
    """Every changed Python file compiles; value: the part of them that does."""

    name: str = "compiles"
    weight: float = 1

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Compile each changed file without running it."""
        files = [path for path in context.written if path.endswith(".py")]
        findings = [finding for path in files if (finding := self._compile(context.workspace, path))]
        value = 1 - len(findings) / len(files) if files else 1
        return RuleOutcome(value, tuple(findings), stop=bool(findings))

    def _compile(self, workspace: Path, path: str) -> Finding | None:
        source = read_bounded(workspace / path, MAX_SOURCE_BYTES)
        if source is None:
            return _error(self.name, f"{path} cannot be read, or is over {MAX_SOURCE_BYTES // 1024} KiB", path)
        try:
            with warnings.catch_warnings(action="ignore"):
                compile(source, path, "exec", dont_inherit=True)
        except SyntaxError as error:
            message = f"{path} does not compile: {type(error).__name__}: {error.msg}"
            return _error(self.name, message, f"{path}:{error.lineno or 1}", (error.text or "").rstrip() or None)
        except (ValueError, RecursionError, MemoryError) as error:
            return _error(self.name, f"{path} does not compile: {type(error).__name__}: {error}", path)
        return None


@dataclass(frozen=True)
class Collected:
    """pytest collects at least one new test from the changed files; value 1 or 0."""

    name: str = "collected"
    weight: float = 1

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Collect the changed test files."""
        paths = context.changed_tests.paths
        if not paths:
            message = f"no test file was added or changed: write one named {' or '.join(TEST_PATTERNS)}"
            return RuleOutcome(0, (_error(self.name, message),), stop=True)
        collection = await context.changed_tests.collection()
        if collection.problem:
            message = f"pytest cannot collect {listed(paths)}: {collection.problem}"
            return RuleOutcome(0, (_error(self.name, message, paths[0], collection.evidence),), stop=True)
        new = [nodeid for nodeid in collection.nodeids if context.is_new(nodeid)]
        if not new:
            message = f"{listed(paths)} holds no test that was not there before: add one"
            return RuleOutcome(0, (_error(self.name, message, paths[0]),), stop=True)
        return RuleOutcome(1, (Finding(self.name, ValidationLevel.INFO, f"{len(new)} new tests collected"),))


@dataclass(frozen=True)
class Passes:
    """Every test of the changed files passes, and the whole suite is no redder than before.

    Value: the part of the changed files' tests that passed, 0 where the suite got redder. A test that failed
    before the change in the same way is not held against it.
    """

    name: str = "passes"
    weight: float = 1

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Run the changed files alone; when they pass, the whole suite."""
        run = await context.changed_tests.run()
        if run.problem:
            message = f"the run of {listed(context.changed_tests.paths)} {run.problem}"
            finding = Finding(
                self.name, ValidationLevel.ERROR, message, evidence=run.evidence or None, test=run.broken_by
            )
            return RuleOutcome(0, (finding,), stop=True)
        collected = set((await context.changed_tests.collection()).nodeids)
        errors = self._run_errors(context, run.cases, len(collected))
        passed = sum(case.outcome is CaseOutcome.PASSED for case in run.cases)
        if errors:
            return RuleOutcome(min(1.0, passed / max(len(collected), len(run.cases))), errors, stop=not passed)
        worse = await redder(context, self.name)
        return RuleOutcome(0 if worse else 1, worse + self._skipped(context, run.cases))

    def _run_errors(self, context: ValidationContext, cases: tuple[Case, ...], collected: int) -> tuple[Finding, ...]:
        failing = [case for case in cases if case.bad and case.nodeid not in context.baseline.failed]
        errors = failures(failing, self.name, "") + self._possible_bugs(context, failing)
        if len(cases) < collected:
            message = f"only {len(cases)} of {collected} collected tests ran: let pytest run every one to its end"
            errors += (_error(self.name, message),)
        if not any(case.outcome is CaseOutcome.PASSED and context.is_new(case.nodeid) for case in cases) and not errors:
            errors = (_error(self.name, "no new test passed: a skipped or expected failure proves nothing"),)
        return errors

    def _possible_bugs(self, context: ValidationContext, failing: list[Case]) -> tuple[Finding, ...]:
        target = context.suite.target or ""
        found = (possible_bug(case, target) for case in failing[:LISTED] if context.is_new(case.nodeid))
        return tuple(finding for finding in found if finding)

    def _skipped(self, context: ValidationContext, cases: tuple[Case, ...]) -> tuple[Finding, ...]:
        names = [case.nodeid for case in cases if case.outcome is CaseOutcome.SKIPPED and context.is_new(case.nodeid)]
        message = f"skipped or expected to fail, so they prove nothing: {listed(names)}"
        return (Finding(self.name, ValidationLevel.WARNING, message),) if names else ()


@dataclass(frozen=True)
class CoverageRises:
    """The new tests run lines or branches of the target that nothing ran before.

    Value: the target's covered part of lines and branches with the new tests, 0 where it did not rise.
    """

    name: str = "coverage"
    weight: float = 5

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Compare what the changed files' tests alone ran with the baseline, which holds the mere import."""
        target, before = context.suite.target, context.baseline.coverage
        if before and before.executed == before.total:
            message = f"{target} was fully covered before the change: there is nothing to raise, choose another target"
            return RuleOutcome(0, (_error(self.name, message, target),))
        ran = await context.changed_tests.coverage()
        if ran is None:
            missing = f"; uncovered are {before.uncovered()}" if before else ""
            message = f"the new tests never run {target}: import it and call its code{missing}"
            return RuleOutcome(0, (_error(self.name, message, target),))
        before = before or ran.without_executed()
        if ran.lines != before.lines:
            message = f"{target} is not the file it was: a test, or what it runs, rewrites it"
            return RuleOutcome(0, (_error(self.name, message, target),))
        after = before.union(ran)
        if after.executed == before.executed:
            message = (
                f"the new tests run nothing of {target} that did not run before: coverage stays at {before.percent}; "
                f"call what is uncovered: {after.uncovered()}"
            )
            return RuleOutcome(0, (_error(self.name, message, target),))
        least = context.baseline.settings.coverage_rise
        if after.fraction - before.fraction < least:
            message = (
                f"coverage of {target} rose from {before.percent} to {after.percent}, the project asks for "
                f"{least:.0%} more: call what is uncovered: {after.uncovered()}"
            )
            return RuleOutcome(0, (_error(self.name, message, target),))
        left = f"; still uncovered: {after.uncovered()}" if after.executed < after.total else ""
        message = f"coverage of {target} rose from {before.percent} to {after.percent}{left}"
        return RuleOutcome(after.fraction, (Finding(self.name, ValidationLevel.INFO, message, target),))


def _error(rule: str, message: str, place: str | None = None, evidence: str | None = None) -> Finding:
    return Finding(rule, ValidationLevel.ERROR, message, place, evidence or None)


def _forbidden(change: Change, target: str | None, allowed: AllowedPaths) -> str:
    reason = "is the code under test" if change.path == target else "is not a path that may change"
    undo = "remove it" if change.status is ChangeStatus.ADDED else "put it back as it was"
    return f"{change.path} {reason}: {undo}; allowed: {allowed}"
