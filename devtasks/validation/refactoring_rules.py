"""The rules for refactorings, in the order they are asked: the tests stay and stay green, so do API and behaviour.

Of the weights (10 together) what shows that the code still does the same has 8: a refactoring that no measure shows to
be one can pass, one whose behaviour nothing shows cannot.
"""

from dataclasses import dataclass

from devtasks.validation.behaviour_rule import Behaves
from devtasks.validation.conventions import is_test_code
from devtasks.validation.improvement_rule import Improves
from devtasks.validation.public_api_rule import PublicApi
from devtasks.validation.quality_rules import Lint, Types
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext, ValidationRule
from devtasks.validation.suite_comparison import SuiteStays
from devtasks.validation.target_coverage import TargetCoverage
from devtasks.validation.tests_kept_rule import TestsKept
from devtasks.validation.unit_test_rules import Compiles

_LEFT_OUT = b"pragma: no cover"


@dataclass(frozen=True)
class CodeChanged:
    """Something besides tests was changed; value 1 or 0."""

    name: str = "changed"
    weight: float = 0

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Look for a change of the target or of another file that is none of the tests'."""
        target = context.suite.target
        if any(change.path == target or not is_test_code(change.path) for change in context.changes):
            return RuleOutcome(1)
        changed = "nothing but tests" if context.changes else "nothing"
        message = f"the agent changed {changed}: refactor {target or 'the code'}"
        return RuleOutcome(0, (Finding(self.name, ValidationLevel.ERROR, message),), stop=True)


@dataclass(frozen=True)
class CoverageStays:
    """The suite runs no smaller part of the target than before; value 1 or 0.

    As in the baseline, what a mere import runs counts. Less is refused only where more lines and branches are missed as
    well: code that was run and is gone costs nothing.
    A file with lines that coverage.py is told to leave out is not compared.
    """

    name: str = "coverage"
    weight: float = 1

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Compare the target's coverage by the suite with the baseline's."""
        target, before = context.suite.target, context.baseline.coverage
        if not before or not context.baseline.passed or target is None or target not in context.written:
            return RuleOutcome(1)
        if _LEFT_OUT in (context.before(target) or b""):
            message = f"coverage of {target} is not compared, as lines of it are left out of coverage"
            return RuleOutcome(1, (Finding(self.name, ValidationLevel.INFO, message, target),))
        now, missed = await _coverage(context, target), before.total - before.executed
        if now is None or (now.fraction < before.fraction and now.total - now.executed > missed):
            after = now.percent if now else "0%"
            missing = f": nothing runs {now.uncovered()}" if now else ""
            message = f"the suite runs {after} of {target}, and ran {before.percent} before{missing}"
            return RuleOutcome(0, (Finding(self.name, ValidationLevel.ERROR, message, target),))
        return RuleOutcome(1)


async def _coverage(context: ValidationContext, target: str) -> TargetCoverage | None:
    """Return what the suite and a mere import of the target run of it."""
    data = context.suite.new_folder() / "coverage.db"
    await context.suite.import_target(data)
    imported = (await context.suite.coverages(data, (target,))).get(target)
    ran = (await context.whole_suite.coverages()).get(target)
    return ran.union(imported) if ran and imported else ran or imported


REFACTORING_RULES: tuple[ValidationRule, ...] = (
    CodeChanged(),
    TestsKept(strict=True),
    Compiles(),
    PublicApi(),
    Lint(weight=0),
    Types(),
    SuiteStays(),
    CoverageStays(),
    Behaves(),
    Improves(),
)
