"""The project's whole suite with the change, beside what it was before."""

from collections.abc import Sequence
from dataclasses import dataclass

from devtasks.validation.junit import Case, CaseOutcome
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext
from devtasks.validation.words import first_line, listed

LISTED = 10


async def redder(context: ValidationContext, rule: str) -> tuple[Finding, ...]:
    """Run the whole suite; return an ERROR for each test that passed before and does not, none where none did."""
    if not context.baseline.passed:
        return ()
    run = await context.whole_suite.run()
    if run.problem:
        message = f"with the change, the project's whole suite {run.problem}; it did not before"
        return (Finding(rule, ValidationLevel.ERROR, message, evidence=run.evidence or None),)
    now = {case.nodeid: case.outcome for case in run.cases}
    failing = [case for case in run.bad if case.nodeid not in context.baseline.failed]
    gone = [nodeid for nodeid in context.baseline.passed if nodeid not in now]
    skipped = [nodeid for nodeid in context.baseline.passed if now.get(nodeid) is CaseOutcome.SKIPPED]
    lost = {"are gone": gone, "are skipped now": skipped}
    return (
        *failures(failing, rule, " in the whole suite"),
        *(
            Finding(rule, ValidationLevel.ERROR, f"tests that passed before {fate}: {listed(names)}")
            for fate, names in lost.items()
            if names
        ),
    )


def failures(cases: Sequence[Case], rule: str, where: str) -> tuple[Finding, ...]:
    """Return an ERROR for each test that failed, ten at most, and one for the number of the others."""
    errors = [
        Finding(
            rule,
            ValidationLevel.ERROR,
            f"{case.nodeid} fails{where}: {first_line(case.message)}",
            case.place,
            case.detail or None,
            case.nodeid,
        )
        for case in cases[:LISTED]
    ]
    if len(cases) > LISTED:
        errors.append(Finding(rule, ValidationLevel.ERROR, f"{len(cases) - LISTED} more tests fail{where}"))
    return tuple(errors)


@dataclass(frozen=True)
class SuiteStays:
    """No test that passed before fails, is skipped or is gone; value 1 or 0."""

    name: str = "suite"
    weight: float = 2

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Run the whole suite, where there is one with tests that passed."""
        found = await redder(context, self.name)
        return RuleOutcome(0 if found else 1, found, stop=bool(found))
