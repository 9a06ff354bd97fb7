"""The rule that the written code was shown to do what was asked: by the task's tests, its examples, or new tests."""

from dataclasses import dataclass

from devtasks.validation.acceptance_tests import acceptance_paths, shown_by_tests
from devtasks.validation.assertion_rule import Asserts
from devtasks.validation.changed_lines import ChangedLines, changed_lines
from devtasks.validation.description_examples import Examples, shown_by_examples
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext
from devtasks.validation.shown import Shown
from devtasks.validation.suite_comparison import failures
from devtasks.validation.unit_test_rules import Collected, Passes

CHANGED_LINES_RUN = 0.6
"""The part of each file's changed lines that has to run where nothing but new tests shows what the code does."""


@dataclass(frozen=True)
class Acceptance:
    """The code does what was asked, as the task's acceptance tests or examples show, or else as new tests do.

    Value: the part of the acceptance tests or examples that passes, the lesser of both; with new tests alone, the part
    of the changed lines that ran.
    """

    name: str = "acceptance"
    weight: float = 4

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Run what the task itself gives; where it gives nothing, the new tests."""
        examples = Examples.of(context.task.description)
        shown: list[Shown] = []
        if context.task.acceptance_tests:
            shown.append(await shown_by_tests(context, self.name))
        if examples.demanding:
            shown.append(await shown_by_examples(context, examples, self.name))
        findings = [*self._unreadable(examples), *(finding for each in shown for finding in each.findings)]
        if not shown:
            outcome = await self._shown_by_new_tests(context)
            return RuleOutcome(outcome.value, (*findings, *outcome.findings), outcome.stop)
        if any(each.failed for each in shown):
            return RuleOutcome(min(each.value for each in shown), tuple(findings))
        findings += await self._new_tests_fail(context)
        findings += [self._never_ran(each, ValidationLevel.WARNING) for each in await self._missed(context, shown)]
        return RuleOutcome(min(each.value for each in shown), tuple(findings))

    def _unreadable(self, examples: Examples) -> list[Finding]:
        if not examples.problem:
            return []
        message = f"the examples in the task's description cannot be read, so none was run: {examples.problem}"
        return [Finding(self.name, ValidationLevel.WARNING, message)]

    async def _new_tests_fail(self, context: ValidationContext) -> tuple[Finding, ...]:
        """Return what fails of the changed test files; a failing test is no better for others that pass."""
        if not set(context.changed_tests.paths) - set(acceptance_paths(context)):
            return ()
        run = await context.changed_tests.run()
        if run.problem:
            message = f"the run of the new tests {run.problem}"
            return (Finding(self.name, ValidationLevel.ERROR, message, evidence=run.evidence or None),)
        return failures([each for each in run.bad if each.nodeid not in context.baseline.failed], self.name, "")

    async def _missed(self, context: ValidationContext, shown: list[Shown]) -> list[ChangedLines]:
        """Return the files with changed lines that nothing ran; the suite is asked only where that may help."""
        runs = [each.ran for each in shown]
        if context.changed_tests.paths:
            runs.append(await context.changed_tests.coverages())
        if any(each.fraction < 1 for each in changed_lines(context, runs)):
            runs.append(await context.whole_suite.coverages())
        return [each for each in changed_lines(context, runs) if each.fraction < 1]

    async def _shown_by_new_tests(self, context: ValidationContext) -> RuleOutcome:
        findings: list[Finding] = []
        for rule in (Collected(self.name), Asserts(self.name), Passes(self.name)):
            outcome = await rule.check(context)
            findings += outcome.findings
            if any(each.level is ValidationLevel.ERROR for each in outcome.findings):
                return RuleOutcome(0, tuple(findings), stop=True)
        message = "only new tests show that the code does what was asked: check that they ask what the task does"
        findings.append(Finding(self.name, ValidationLevel.WARNING, message))
        lines = changed_lines(context, [await context.changed_tests.coverages()])
        if any(each.fraction < 1 for each in lines):
            lines = changed_lines(
                context, [await context.changed_tests.coverages(), await context.whole_suite.coverages()]
            )
        for each in (each for each in lines if each.fraction < 1):
            enough = each.fraction >= CHANGED_LINES_RUN
            findings.append(self._never_ran(each, ValidationLevel.WARNING if enough else ValidationLevel.ERROR))
        total, ran = sum(len(each.lines) for each in lines), sum(len(each.ran) for each in lines)
        return RuleOutcome(ran / total if total else 1, tuple(findings))

    def _never_ran(self, each: ChangedLines, level: ValidationLevel) -> Finding:
        asked = f", at least {CHANGED_LINES_RUN:.0%} have to" if level is ValidationLevel.ERROR else ""
        message = (
            f"{len(each.ran)} of {len(each.lines)} changed lines of {each.path} were run by tests{asked}: "
            f"test what never ran, lines {each.missed}"
        )
        return Finding(self.name, level, message, f"{each.path}:{min(each.lines - each.ran)}")
