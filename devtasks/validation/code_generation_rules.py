"""The rules for written code, in the order they are asked: it is code, it can be imported, and does what was asked.

Of the weights (10 together) the acceptance has 4: with the default quality threshold of 0.7 and every other rule kept,
a quarter of it is enough for the score alone, so what must hold at least is an error, not a low value.
"""

from dataclasses import dataclass

from devtasks.validation.acceptance_rule import Acceptance
from devtasks.validation.code_comparison import first_difference
from devtasks.validation.conventions import MAX_SOURCE_BYTES, is_test_code
from devtasks.validation.docstrings import parse
from devtasks.validation.imports_rule import ImportsResolve
from devtasks.validation.quality_rules import Lint, Types
from devtasks.validation.reports import leads_outside, read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext, ValidationRule
from devtasks.validation.suite_comparison import LISTED, SuiteStays
from devtasks.validation.tampering import tampering
from devtasks.validation.tests_kept_rule import TestsKept
from devtasks.validation.unit_test_rules import Compiles
from devtasks.validation.untouched_rule import Untouched


@dataclass(frozen=True)
class Written:
    """Something was written besides tests, in plain files, and nothing that decides how tests end; value 1 or 0."""

    name: str = "written"
    weight: float = 1

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Judge each changed path by its name and by what it is, before anything of it runs."""
        outside = [path for path in context.written if leads_outside(context.workspace, path)]
        if outside:
            findings = [
                self._error(f"{path} is a link or not a plain file: write a plain file", path)
                for path in outside[:LISTED]
            ]
            return RuleOutcome(0, tuple(findings), stop=True)
        findings = [
            self._error(f"{change.path} {reason}: put it back as it was, or leave it out", change.path)
            for change in context.changes
            if (reason := tampering(context, change))
        ]
        if not any(_says_something(context, path) for path in context.written if not is_test_code(path)):
            written = "only tests, comments or empty files were" if context.written else "nothing was"
            findings.append(self._error(f"{written} written: write the code that the task asks for"))
        _ = context.stamps  # made while nothing of the change has run, for Untouched to compare with
        return RuleOutcome(0 if findings else 1, tuple(findings), stop=bool(findings))

    def _error(self, message: str, place: str | None = None) -> Finding:
        return Finding(self.name, ValidationLevel.ERROR, message, place)


def _says_something(context: ValidationContext, path: str) -> bool:
    """Whether a file holds something; of Python, other code than before, docstrings and comments aside."""
    content, before = read_bounded(context.workspace / path, MAX_SOURCE_BYTES), context.before(path) or b""
    if not path.endswith(".py"):
        return content is None or bool(content.strip())
    new, old = parse(content or b""), parse(before)
    return new is None or old is None or first_difference(old, new) is not None


CODE_GENERATION_RULES: tuple[ValidationRule, ...] = (
    Written(),
    TestsKept(weight=0),
    Compiles(),
    ImportsResolve(),
    Acceptance(),
    SuiteStays(),
    Untouched(),
    Lint(weight=0),
    Types(),
)
