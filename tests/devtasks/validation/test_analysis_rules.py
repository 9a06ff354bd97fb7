"""What an analysis is refused for: no report, more than a report, and citations of what is not there."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from devtasks.task import TaskCategory
from devtasks.validation.analysis_rules import ANALYSIS_RULES, REPORT_SECTIONS
from devtasks.validation.baseline import Baseline, SuiteState
from devtasks.validation.result import ValidationResult
from devtasks.validation.rule import ValidationContext
from devtasks.validation.validator import ResultValidator
from devtasks.workspace import Change, ChangeStatus

PROMPT = Path(__file__).parents[3] / "devtasks/prompts/analysis.md"
CODE = """\
import os

LIMIT = 100


class Order:
    size = 1

    def __init__(self):
        self.lines = []

    def total(self):
        return sum(self.lines)


def discount(total):
    return total * 0.9
"""
CODE += "# a hundred lines\n" * (100 - CODE.count("\n"))
PROJECT = {"src/shop/__init__.py": "", "src/shop/price.py": CODE, "pyproject.toml": "[project]\n", "README.md": "# A\n"}
PROJECT["src/shop/api.py"] = "from shop.price import *\n"

Judge = Callable[..., ValidationResult]


def report(findings: str) -> str:
    return f"""\
# How prices are made

## Summary

All is in `src/shop/price.py`.

## Findings

{findings}

## 3. Recommendations

Add a file tests/test_price.py.

## Limits:

Nothing was run.
"""


@pytest.fixture
def judge(tmp_path: Path, runner, make_task) -> Judge:
    """Write a change over the project and return the verdict; None deletes a file."""

    def run(written: Mapping[str, str | None], **task: object) -> ValidationResult:
        root = tmp_path / "project"
        for name, text in {**PROJECT, **written}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is not None:
                path.write_text(text)
        there = {name: ChangeStatus.MODIFIED if name in PROJECT else ChangeStatus.ADDED for name in written}
        statuses = {name: there[name] if text is not None else ChangeStatus.DELETED for name, text in written.items()}
        context = ValidationContext(
            task=make_task(None, category=TaskCategory.ANALYSIS, **task),
            workspace=root,
            changes=tuple(Change(name, status) for name, status in statuses.items()),
            baseline=Baseline(SuiteState.GREEN),
            runner=runner,
            scratch=tmp_path,
            python=Path(sys.executable),
            before={name: text.encode() for name, text in PROJECT.items()}.get,
        )
        return asyncio.run(ResultValidator(ANALYSIS_RULES).validate(context))

    return run


def errors(result: ValidationResult, rule: str) -> str:
    return "\n".join(f"{each.place} {each.message}" for each in result.errors if each.rule == rule)


@pytest.mark.parametrize(
    "findings",
    [
        "`src/shop/price.py:3` and `src/shop/price.py:100` and `src/shop/price.py:1-100`",
        "`price.py:3`, `shop/price.py`, `src/shop/`, `src` and src/shop/price.py:7 in the text",
        "[prices](../src/shop/price.py#L3-L9) and `../src/shop/price.py`",
        "`src/shop/price.py::Order.total`, `src/shop/price.py:discount` and `src/shop/price.py::Order::total`",
        "`shop.price.discount`, `src.shop.price.Order.size`, `Order.lines`, `Order.total()` and `shop.api.LIMIT`",
        "`discount` in `src/shop/price.py` calls `total` (`src/shop/price.py:12`)",
        "`os.path.join`, `and/or`, `application/json`, `x = 1`, `unknown`, `self.lines`, `a.b()`, https://a.example/b.py:9",
        "```python\nimport missing.module\n```",
        "`response.json`, `self.lock`, `library/postgres:16`, `localhost:8080` and `limit`, `src/shop/price.py`",
        "`src/shop/price.py` imports `os.path`, and `shop.price.os.sep` is used",
    ],
    ids=[
        "lines",
        "shortened",
        "link",
        "in a file",
        "dotted",
        "qualified",
        "other words",
        "blocks",
        "no files",
        "imports",
    ],
)
def test_a_report_that_cites_what_is_there_is_accepted(judge: Judge, findings: str):
    result = judge({"docs/prices.md": report(findings)})

    assert result.passed, result.findings
    assert result.score == 1


@pytest.mark.parametrize(
    ("findings", "said"),
    [
        ("`src/shop/price.py:900` is wrong", "names lines that are not there: src/shop/price.py has 100"),
        ("`src/shop/price.py:90-101` is wrong", "names lines that are not there"),
        ("`src/shop/price.py:20-10` is wrong", "names lines that are not there"),
        ("see src/shop/price.py:900", "names lines that are not there"),
        ("see [it](../src/shop/price.py#L900)", "names lines that are not there"),
        ("`src/shop/tax.py` is wrong", "`src/shop/tax.py` is no file of the project"),
        ("`tax.py:3` is wrong", "`tax.py:3` is no file of the project"),
        ("`src/tax` is wrong", "`src/tax` is no file of the project"),
        ("`../../etc/passwd.txt` is wrong", "is no file of the project"),
        ("see [it](../src/shop/tax.py)", "leads to no file"),
        ("`src/shop/price.py::tax` is wrong", "names a symbol that src/shop/price.py does not have"),
        ("`src/shop/price.py::Order.tax` is wrong", "names a symbol that"),
        ("`tax` in `src/shop/price.py` is wrong", "names a symbol that"),
        ("`tax()` (`src/shop/price.py:3`) is wrong", "names a symbol that"),
        ("`shop.price.tax` is wrong", "`shop.price.tax` names what the project does not define"),
        ("`shop.taxes` is wrong", "`shop.taxes` names what the project does not define"),
        ("`src.taxes` is wrong", "`src.taxes` names what the project does not define"),
        ("`Order.tax` is wrong", "`Order.tax` names what the project does not define"),
    ],
)
def test_a_citation_of_what_is_not_there_is_refused(judge: Judge, findings: str, said: str):
    shown = errors(judge({"docs/prices.md": report(f"- one\n- {findings}")}), "citations")

    assert said in shown
    assert shown.startswith("docs/prices.md:10 ")
    assert "\n" not in shown


def test_a_report_that_cites_nothing_is_refused(judge: Judge):
    text = report("All is well.").replace("`src/shop/price.py`", "the shop")

    assert "cites no file" in errors(judge({"docs/prices.md": text}), "citations")


@pytest.mark.parametrize("section", REPORT_SECTIONS)
def test_a_report_without_one_of_its_sections_is_refused(judge: Judge, section: str):
    text = report("`price.py:3`").replace(section, "Other")

    assert f"section `{section}` is missing" in errors(judge({"a.md": text}), "report")


def test_an_empty_section_is_refused(judge: Judge):
    assert "`Findings` is empty" in errors(judge({"a.md": report("### Of prices")}), "report")


@pytest.mark.parametrize(
    ("written", "said"),
    [({}, "there is none"), ({"a.md": report(""), "b.md": report("")}, "there are 2: a.md, b.md")],
    ids=["none", "two"],
)
def test_there_is_exactly_one_report(judge: Judge, written: Mapping[str, str], said: str):
    assert said in errors(judge(written), "report")


def test_a_report_where_the_task_allows_none_is_refused(judge: Judge):
    result = judge({"a.md": report("`price.py:3`")}, allowed_paths=("docs/*.md",))

    assert "a.md is not a path that may change" in errors(result, "report")


@pytest.mark.parametrize(
    ("path", "text"),
    [("src/shop/price.py", CODE + "\n"), ("notes.txt", "x"), ("README.md", None)],
    ids=["code", "other file", "deleted document"],
)
def test_any_other_change_is_refused(judge: Judge, path: str, text: str | None):
    result = judge({"a.md": report("`price.py:3`"), path: text})

    assert path in errors(result, "nothing_else")


def test_the_prompt_asks_for_the_sections_the_rule_wants():
    *first, last = REPORT_SECTIONS

    assert f"headings {', '.join(first)} and {last}" in PROMPT.read_text()
