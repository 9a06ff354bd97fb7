"""The rule that asks of new tests whether they pass every time, and in another order."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from devtasks.validation.junit import CaseOutcome
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext
from devtasks.validation.suite_runner import SuiteRun

MAX_NAMED = 1_000
"""Tests that are named on one command line; more of them are run again in their own order."""


@dataclass(frozen=True)
class Stable:
    """The changed files' tests that passed pass again: last to first, then in random order; value 1 or 0.

    Each run is a process of its own, with other hashes and other random numbers where nothing seeds them.
    """

    name: str = "stable"
    weight: float = 0

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Run them as often again as the project's settings say."""
        first = await context.changed_tests.run()
        passed = [case.nodeid for case in first.cases if case.outcome is CaseOutcome.PASSED]
        new = [nodeid for nodeid in passed if context.is_new(nodeid)]
        if not new:
            return RuleOutcome(1)
        named = tuple(passed) if len(passed) <= MAX_NAMED else context.changed_tests.paths
        for how, paths in _orders(named, context.baseline.settings.stable_runs):
            if findings := self._compare(new, await context.suite.run(paths), how):
                return RuleOutcome(0, tuple(findings))
        return RuleOutcome(1)

    def _compare(self, new: list[str], run: SuiteRun, how: str) -> list[Finding]:
        if run.problem:
            message = f"the new tests passed, but run {how} pytest {run.problem}"
            return [
                Finding(self.name, ValidationLevel.ERROR, message, evidence=run.evidence or None, test=run.broken_by)
            ]
        cases = {case.nodeid: case for case in run.cases}
        unlike = [nodeid for nodeid in new if nodeid not in cases or cases[nodeid].outcome is not CaseOutcome.PASSED]
        return [self._flaky(nodeid, how, cases[nodeid].message if nodeid in cases else "") for nodeid in unlike]

    def _flaky(self, nodeid: str, how: str, said: str) -> Finding:
        message = f"{nodeid} passed, and does not when run {how}: make it depend on no order, time or chance"
        return Finding(self.name, ValidationLevel.ERROR, message, evidence=said or None, test=nodeid)


def _orders(names: tuple[str, ...], runs: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield how the tests are run, and in which order: the same orders each time this is asked."""
    yield "last to first", tuple(reversed(names))
    for seed in range(1, runs):
        yield "in random order", tuple(Random(seed).sample(names, len(names)))  # noqa: S311 - no secret
