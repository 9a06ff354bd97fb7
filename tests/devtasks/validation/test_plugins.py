import asyncio
from itertools import count

import pytest

from devtasks.task import TaskCategory
from devtasks.validation.plugins import plugin_rules
from devtasks.validation.result import ValidationLevel
from devtasks.validation.validator import ResultValidator

NAMES = count()
RULE = """\
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome

class Licence:
    name, weight, categories = "licence", 1, ["unit_test"]

    async def check(self, context):
        bad = [p for p in context.written if "Copyright" not in (context.workspace / p).read_text()]
        findings = [Finding(self.name, ValidationLevel.ERROR, f"{p} has none") for p in bad]
        return RuleOutcome(0 if bad else 1, tuple(findings))

READY = Licence()
NOTHING = 3
MAPPING = dict
"""
TEST = "from shop.price import tax\n\n\ndef test_tax():\n    assert tax(10, 2) == 20\n"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package with this entry point where this process finds it."""

    def run(value: str) -> None:
        module = f"licences{next(NAMES)}"
        (tmp_path / f"{module}.py").write_text(RULE)
        folder = tmp_path / f"{module}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[devtasks.validation_rules]\nlicence = {module}:{value}\n")
        monkeypatch.syspath_prepend(tmp_path)

    return run


@pytest.mark.parametrize("value", ["Licence", "READY"])
def test_a_rule_of_another_package_is_asked_after_our_own(install, judge, value):
    install(value)
    refused = judge({"tests/test_tax.py": TEST})
    (finding,) = refused.errors
    assert (finding.rule, finding.message) == ("licence", "tests/test_tax.py has none")
    assert judge({"tests/test_tax.py": f"# Copyright\n{TEST}"}).passed


def test_it_is_asked_for_its_categories_alone(install):
    install("Licence")
    assert [rule.name for rule in plugin_rules(TaskCategory.UNIT_TEST)] == ["licence"]
    assert plugin_rules(TaskCategory.ANALYSIS) == ()


@pytest.mark.parametrize(
    ("value", "said"), [("NOTHING", "cannot be loaded"), ("gone", "cannot be loaded"), ("MAPPING", "is no rule")]
)
def test_what_is_no_rule_lets_nothing_pass(install, change, value, said):
    install(value)
    verdict = asyncio.run(ResultValidator().validate(change({"tests/test_tax.py": TEST})))
    (finding,) = verdict.errors
    assert (finding.rule, finding.level) == ("licence", ValidationLevel.ERROR)
    assert said in finding.message
