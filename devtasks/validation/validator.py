"""The verdict: a category's rules in order, their weighted mean, and no acceptance without validation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from devtasks.errors import AgentCrashed
from devtasks.task import TaskCategory
from devtasks.validation.analysis_rules import ANALYSIS_RULES
from devtasks.validation.assertion_rule import Asserts
from devtasks.validation.build_script_rules import BUILD_SCRIPT_RULES
from devtasks.validation.change_rules import NoSecrets, Size
from devtasks.validation.code_generation_rules import CODE_GENERATION_RULES
from devtasks.validation.cutting import THRESHOLD, Cutting
from devtasks.validation.documentation_rules import DOCUMENTATION_RULES
from devtasks.validation.mutation_rule import NoticesMistakes
from devtasks.validation.plugins import plugin_rules
from devtasks.validation.quality_rules import Formatted
from devtasks.validation.refactoring_rules import REFACTORING_RULES
from devtasks.validation.result import Finding, ValidationLevel, ValidationResult
from devtasks.validation.rule import RuleOutcome, ValidationContext, ValidationRule
from devtasks.validation.self_contained_rule import SelfContained
from devtasks.validation.stability_rule import Stable
from devtasks.validation.unit_test_rules import ChangedPaths, Collected, Compiles, CoverageRises, Passes

EVERY_CATEGORY: tuple[ValidationRule, ...] = (Size(), NoSecrets(), Formatted())

RULES: Mapping[TaskCategory, tuple[ValidationRule, ...]] = {
    TaskCategory.UNIT_TEST: (
        ChangedPaths(),
        *EVERY_CATEGORY,
        Compiles(),
        Collected(),
        Asserts(),
        Passes(),
        SelfContained(),
        Stable(),
        CoverageRises(),
        NoticesMistakes(),
    ),
    TaskCategory.REFACTORING: (*EVERY_CATEGORY, *REFACTORING_RULES),
    TaskCategory.DOCUMENTATION: (*EVERY_CATEGORY, *DOCUMENTATION_RULES),
    TaskCategory.CODE_GENERATION: (*EVERY_CATEGORY, *CODE_GENERATION_RULES),
    TaskCategory.ANALYSIS: (*EVERY_CATEGORY, *ANALYSIS_RULES),
    TaskCategory.BUILD_SCRIPT: (*EVERY_CATEGORY, *BUILD_SCRIPT_RULES),
}


class ResultValidator:
    """Judges a change by these rules in their order, or by its category's own and those of installed packages."""

    def __init__(self, rules: Sequence[ValidationRule] | None = None) -> None:
        """Take the rules; raise ValueError for rules without any weight, which would accept everything."""
        if rules is not None and sum(rule.weight for rule in rules) <= 0:
            raise ValueError("a validator needs at least one rule with a weight")
        self._rules = rules

    async def validate(self, context: ValidationContext, *, cut: bool = True) -> ValidationResult:
        """Return the verdict: passed with no ERROR finding and a score of at least the task's quality threshold.

        The score is the mean of the rules' values weighted by their weights, where a rule that was not reached or
        that raised counts 0. The baseline's own findings come first. Where unit tests were asked for and nothing but
        single new ones is at fault, they are cut out of their files in the workspace, unless `cut` is off, and what is
        left is judged; if that does not pass either, the files are as they were. In any other category a test that
        fails may show that the code is wrong, so none is cut. Raises AgentCrashed when the sandbox dies.
        """
        verdict = left = await self._judge(context)
        if not cut or context.task.category is not TaskCategory.UNIT_TEST:
            return verdict
        with Cutting(context.workspace) as cutting:
            while cutting.cut(context, left.findings):
                left = await self._judge(replace(context))
                left = replace(left, findings=(*cutting.findings, *left.findings))
            if left.passed:
                cutting.keep()
                return replace(left, cut=cutting.tests)
        # What passes only with tests that prove nothing does not pass.
        return left if verdict.passed else verdict

    async def _judge(self, context: ValidationContext) -> ValidationResult:
        category = context.task.category
        rules = self._rules or (*RULES[category], *plugin_rules(category))
        findings = list(context.baseline.findings())
        values = {rule.name: 0.0 for rule in rules}
        earned = 0.0
        for rule in rules:
            outcome = await _checked(rule, context)
            values[rule.name] = outcome.value
            earned += outcome.value * rule.weight
            findings.extend(outcome.findings)
            if outcome.stop:
                break
        score = earned / sum(rule.weight for rule in rules)
        if score < context.task.quality_threshold:
            findings.append(_below_threshold(score, context.task.quality_threshold, values))
        passed = all(finding.level is not ValidationLevel.ERROR for finding in findings)
        return ValidationResult(passed, score, tuple(findings))


async def _checked(rule: ValidationRule, context: ValidationContext) -> RuleOutcome:
    try:
        return await rule.check(context)
    except AgentCrashed:
        raise
    except Exception as error:
        message = f"the rule itself failed, so it says nothing good: {type(error).__name__}: {error}"
        return RuleOutcome(0, (Finding(rule.name, ValidationLevel.ERROR, message),))


def _below_threshold(score: float, threshold: float, values: Mapping[str, float]) -> Finding:
    message = f"score {score:.3f} is below the quality threshold {threshold:.3f}"
    evidence = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
    return Finding(THRESHOLD, ValidationLevel.ERROR, message, evidence=evidence)
