"""The rules for build scripts."""

from dataclasses import dataclass

from devtasks.validation.build_file_checks import Problem, problems
from devtasks.validation.build_file_kinds import kind_of
from devtasks.validation.build_rule import Builds
from devtasks.validation.conventions import MAX_SOURCE_BYTES
from devtasks.validation.reports import read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext, ValidationRule
from devtasks.validation.suite_comparison import SuiteStays
from devtasks.validation.tests_kept_rule import TestsKept
from devtasks.validation.text_tools import NotChecked


@dataclass(frozen=True)
class Syntax:
    """Every written file is what its name or shebang says; value: the part of the files without an ERROR.

    What was wrong before in the same words, and what could not be checked, is a warning.
    """

    name: str = "syntax"
    weight: float = 3

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Read every written file by its kind."""
        if not context.written:
            message = "the agent wrote no file: write the build script asked for"
            return RuleOutcome(0, (Finding(self.name, ValidationLevel.ERROR, message),), stop=True)
        found = [await self._findings(context, path) for path in context.written]
        good = sum(all(each.level is not ValidationLevel.ERROR for each in findings) for findings in found)
        return RuleOutcome(good / len(found), tuple(each for findings in found for each in findings))

    async def _findings(self, context: ValidationContext, path: str) -> list[Finding]:
        content = read_bounded(context.workspace / path, MAX_SOURCE_BYTES)
        if content is None:
            message = f"{path} is no plain file, or over {MAX_SOURCE_BYTES // 1024} KiB: make it a smaller plain file"
            return [Finding(self.name, ValidationLevel.ERROR, message, path)]
        kind = kind_of(path, content)
        if kind is None:
            message = f"{path} was not checked, because its name and first line do not say what it is"
            return [Finding(self.name, ValidationLevel.WARNING, message, path)]
        try:
            found = await problems(context, path, kind, content)
            before = context.before(path) if found else None
            old = {each.message for each in await problems(context, path, kind, before)} if before else set[str]()
        except NotChecked as error:
            message = f"the {kind} {path} was not checked, because {error}"
            return [Finding(self.name, ValidationLevel.WARNING, message, path)]
        return [self._finding(path, each, known=each.message in old) for each in found]

    def _finding(self, path: str, problem: Problem, *, known: bool) -> Finding:
        level = ValidationLevel.WARNING if known else problem.level
        return Finding(self.name, level, f"{path} is wrong: {problem.message}", f"{path}:{problem.line}")


BUILD_SCRIPT_RULES: tuple[ValidationRule, ...] = (Syntax(), TestsKept(weight=0), Builds(), SuiteStays())
