import asyncio
from dataclasses import dataclass, field

import pytest

from devtasks.errors import AgentCrashed
from devtasks.task import TaskCategory
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome
from devtasks.validation.validator import RULES, ResultValidator


@dataclass(frozen=True)
class Scripted:
    """A rule that says what it is told to."""

    name: str
    value: float = 1
    weight: float = 1
    findings: tuple[Finding, ...] = ()
    stop: bool = False
    error: Exception | None = None
    asked: list[str] = field(default_factory=list)

    async def check(self, context):
        self.asked.append(self.name)
        if self.error:
            raise self.error
        return RuleOutcome(self.value, self.findings, self.stop)


@pytest.fixture
def validate(change):
    def run(*rules, **task):
        return asyncio.run(ResultValidator(rules).validate(change({"tests/test_more.py": ""}, **task)))

    return run


def test_the_table_has_rules_for_every_category():
    assert set(RULES) == set(TaskCategory)
    assert all(sum(rule.weight for rule in rules) > 0 for rules in RULES.values())
    assert all(len({rule.name for rule in rules}) == len(rules) for rules in RULES.values())


def test_the_score_weighs_the_rules(validate):
    verdict = validate(Scripted("a", value=1, weight=3), Scripted("b", value=0.5, weight=1))
    assert verdict.score == pytest.approx(0.875)
    assert verdict.passed


def test_a_rule_that_stops_leaves_the_later_ones_unasked_and_at_zero(validate):
    late = Scripted("late")
    verdict = validate(Scripted("early", stop=True), late)
    assert late.asked == []
    assert verdict.score == 0.5


def test_a_rule_that_raises_is_a_finding_and_the_others_are_still_asked(validate):
    late = Scripted("late")
    verdict = validate(Scripted("odd", error=KeyError("lost")), late, quality_threshold=0)
    assert not verdict.passed
    assert verdict.errors == (
        Finding("odd", ValidationLevel.ERROR, "the rule itself failed, so it says nothing good: KeyError: 'lost'"),
    )
    assert late.asked == ["late"]
    assert verdict.score == 0.5


def test_a_value_outside_0_to_1_is_the_rules_failure(validate):
    assert "ValueError" in validate(Scripted("odd", value=7)).errors[0].message


def test_a_sandbox_that_died_is_not_a_verdict(validate):
    with pytest.raises(AgentCrashed):
        validate(Scripted("odd", error=AgentCrashed("gone")))


def test_a_warning_does_not_fail_and_an_error_does_whatever_the_score(validate):
    warning, error = (Finding("a", level, "x") for level in (ValidationLevel.WARNING, ValidationLevel.ERROR))
    assert validate(Scripted("a", findings=(warning,))).passed
    assert not validate(Scripted("a", findings=(error,)), quality_threshold=0).passed


@pytest.mark.parametrize(("value", "passed"), [(0.7, True), (0.69, False)])
def test_the_threshold_itself_is_enough(validate, value, passed):
    verdict = validate(Scripted("a", value=value), quality_threshold=0.7)
    assert verdict.passed is passed
    assert [error.rule for error in verdict.errors] == ([] if passed else ["quality_threshold"])


@pytest.mark.parametrize("rules", [(), (Scripted("a", weight=0),)], ids=["none", "weightless"])
def test_rules_that_would_accept_everything_are_refused(rules):
    with pytest.raises(ValueError, match="at least one rule"):
        ResultValidator(rules)
