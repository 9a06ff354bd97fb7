"""The rule that asks whether new tests would notice a mistake in the target: it makes some, and runs the tests."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from devtasks.validation.conventions import MAX_SOURCE_BYTES
from devtasks.validation.junit import CaseOutcome
from devtasks.validation.mutants import Mutant, make_mutants
from devtasks.validation.reports import read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext
from devtasks.validation.suite_runner import MutationRun

MANY = 10
"""Of fewer mistakes one has to be noticed, whatever rate is asked: that few say little of a rate."""

_LISTED = 5
_FAILED, _NOT_COLLECTED, _PASSED = 1, 2, 0


@dataclass(frozen=True)
class NoticesMistakes:
    """The new tests fail when the lines that they run hold a mistake; value: the part of the mistakes they notice.

    One mistake at least has to make a test fail, and not only run for ever.

    Mistakes are made on lines that new tests run and that importing does not, and only these tests are run. Where it
    cannot be tried, that is a warning and the value 0.
    """

    name: str = "mutation"
    weight: float = 2

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Make mutants of the target and run the new tests that passed against them."""
        tests = await _tests_by_line(context)
        source = read_bounded(context.workspace / (context.suite.target or ""), MAX_SOURCE_BYTES) or b""
        settings = context.baseline.settings
        mutants = make_mutants(source, tests, settings.mutants)
        if not mutants:
            message = "the new tests run no line on which a mistake could be made"
            return RuleOutcome(0, (Finding(self.name, ValidationLevel.INFO, message),))
        run = await context.suite.run_mutants(mutants, [tests[mutant.line] for mutant in mutants])
        return self._judge(context.suite.target or "", mutants, run, settings.kill_rate)

    def _judge(self, target: str, mutants: tuple[Mutant, ...], run: MutationRun, kill_rate: float) -> RuleOutcome:
        ends = dict(zip(mutants, run.mutants, strict=False))
        survived = [mutant for mutant, end in ends.items() if end == _PASSED]
        killed = [mutant for mutant, end in ends.items() if _killed(end)]
        tried = len(survived) + len(killed)
        if not tried:
            message = f"the new tests could not be run against mistakes in {target} (without one: {run.plain})"
            return RuleOutcome(0, (Finding(self.name, ValidationLevel.WARNING, message, target),))
        rate = len(killed) / tried
        least = kill_rate if tried >= MANY else min(kill_rate, 1 / tried)
        # A mistake that only makes the tests endless shows that they run the line, and not that they check anything.
        failed = any(end == _FAILED for end in ends.values())
        bad = rate < least or not failed
        level = ValidationLevel.ERROR if bad else ValidationLevel.WARNING if survived else ValidationLevel.INFO
        asked = f"; at least {math.ceil(least * tried)} have to be" if rate < least else ""
        if not failed:
            asked += "; no check of theirs failed"
        message = f"{len(killed)} of {tried} mistakes made in {target} were noticed by the new tests{asked}"
        unnoticed = "\n".join(f"{target}:{mutant.line}: {mutant.change}" for mutant in survived[:_LISTED])
        if survived:
            message += "; assert what would differ with the others"
        return RuleOutcome(rate, (Finding(self.name, level, message, target, unnoticed or None),))


async def _tests_by_line(context: ValidationContext) -> Mapping[int, tuple[str, ...]]:
    """Return for each line of the target the new tests that passed and ran it."""
    run, ran = await context.changed_tests.run(), await context.changed_tests.coverage()
    passed = {case.nodeid for case in run.cases if case.outcome is CaseOutcome.PASSED and context.is_new(case.nodeid)}
    if ran is None:
        return {}
    by_line = {line: tuple(filter(passed.__contains__, tests)) for line, tests in ran.tests.items()}
    return {line: tests for line, tests in by_line.items() if tests}


def _killed(end: int | str | None) -> bool:
    """Whether tests failed, did not end, or died; what pytest itself could not do says nothing."""
    return end == "timeout" or (isinstance(end, int) and (end < 0 or end in (_FAILED, _NOT_COLLECTED)))
