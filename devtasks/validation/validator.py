"""The verdict: a category's rules in order, their weighted mean, and no acceptance without validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from devtasks.errors import AgentCrashed, InvalidInput
from devtasks.task import TaskCategory
from devtasks.validation.result import Finding, ValidationLevel, ValidationResult
from devtasks.validation.rule import RuleOutcome, ValidationContext, ValidationRule
from devtasks.validation.unit_test_rules import ChangedPaths, Collected, Compiles, CoverageRises, Passes


@dataclass(frozen=True)
class NoRulesYet:
    """Refuses a result of a category that has no rules."""

    category: TaskCategory
    name: str = "no_rules"
    weight: float = 1

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Return the refusal, whatever the change."""
        message = f"no validation rules exist yet for {self.category}, so the result cannot be called good"
        return RuleOutcome(0, (Finding(self.name, ValidationLevel.ERROR, message),), stop=True)


RULES: Mapping[TaskCategory, tuple[ValidationRule, ...]] = {
    TaskCategory.UNIT_TEST: (ChangedPaths(), Compiles(), Collected(), Passes(), CoverageRises()),
    TaskCategory.REFACTORING: (NoRulesYet(TaskCategory.REFACTORING),),
    TaskCategory.DOCUMENTATION: (NoRulesYet(TaskCategory.DOCUMENTATION),),
    TaskCategory.CODE_GENERATION: (NoRulesYet(TaskCategory.CODE_GENERATION),),
    TaskCategory.ANALYSIS: (NoRulesYet(TaskCategory.ANALYSIS),),
    TaskCategory.BUILD_SCRIPT: (NoRulesYet(TaskCategory.BUILD_SCRIPT),),
}


def require_rules(category: TaskCategory) -> None:
    """Raise InvalidInput for a category whose results nothing can judge, before a model call is spent on one."""
    judged = [each.value for each, rules in RULES.items() if not isinstance(rules[0], NoRulesYet)]
    if category not in judged:
        raise InvalidInput.unknown("category", category.value, judged)


class ResultValidator:
    """Judges a change by these rules in their order, or by its category's own."""

    def __init__(self, rules: Sequence[ValidationRule] | None = None) -> None:
        """Take the rules; raise ValueError for rules without any weight, which would accept everything."""
        if rules is not None and sum(rule.weight for rule in rules) <= 0:
            raise ValueError("a validator needs at least one rule with a weight")
        self._rules = rules

    async def validate(self, context: ValidationContext) -> ValidationResult:
        """Return the verdict: passed with no ERROR finding and a score of at least the task's quality threshold.

        The score is the mean of the rules' values weighted by their weights, where a rule that was not reached or
        that raised counts 0. The baseline's own findings come first. Raises AgentCrashed when the sandbox dies.
        """
        rules = self._rules or RULES[context.task.category]
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
    return Finding("quality_threshold", ValidationLevel.ERROR, message, evidence=evidence)
