import asyncio
import re
from dataclasses import replace

import pytest

from devtasks.validation.assertion_rule import Asserts
from devtasks.validation.baseline import SuiteState
from devtasks.validation.result import ValidationLevel
from devtasks.validation.stability_rule import Stable
from devtasks.validation.unit_test_rules import ChangedPaths, CoverageRises, Passes

GOOD = """\
import pytest

from shop.price import discount, tax


@pytest.mark.parametrize(("total", "expected"), [(200, 180), (1000, 900), (100, 100)])
def test_a_total_over_the_limit_is_reduced(total, expected):
    assert discount(total) == expected


class TestTax:
    def test_share(self):
        assert tax(200, 0.5) == 100
"""
ONE_GOOD = "from shop.price import tax\n\n\ndef test_tax():\n    assert tax(2, 3) == 6\n"


def messages(verdict, level=ValidationLevel.ERROR):
    return "\n".join(f"{item.rule}: {item.message}" for item in verdict.findings if item.level is level)


def test_good_tests_pass_and_the_score_is_the_weighted_mean(judge, shop, tree):
    before = tree(shop)
    verdict = judge({"tests/test_more.py": GOOD})
    assert verdict.passed
    assert verdict.score == 1
    assert verdict.errors == ()
    assert "rose from 66.6% to 100%" in messages(verdict, ValidationLevel.INFO)
    assert tree(shop) - before == {"tests/test_more.py"}


HOLLOW = """\
from shop.price import tax


def test_tax():
    tax(2, 3)


def test_sum():
    assert tax(2, 3) == tax(2, 3)
"""


def test_tests_that_cannot_fail_are_refused_each_by_name(judge):
    verdict = judge({"tests/test_more.py": HOLLOW}, rules=(Asserts(),), quality_threshold=0)
    assert not verdict.passed
    assert messages(verdict).splitlines() == [
        "assertions: tests/test_more.py::test_tax asserts nothing: assert what the code under test returns or does",
        "assertions: tests/test_more.py::test_sum compares a call with the same call: "
        "assert what the code under test returns or does",
    ]
    assert [error.place for error in verdict.errors] == ["tests/test_more.py:4", "tests/test_more.py:9"]


def test_one_that_cannot_fail_beside_one_that_can_is_a_warning_and_costs_its_part(change):
    context = change({"tests/test_more.py": f"{ONE_GOOD}\n\ndef test_nothing():\n    tax(1, 2)\n"})
    outcome = asyncio.run(Asserts().check(context))
    assert outcome.value == 0.5
    (finding,) = outcome.findings
    assert finding.level is ValidationLevel.WARNING
    assert "test_nothing asserts nothing" in finding.message


COPYING = """
from shop.price import tax


def expected(total, rate):
    \"\"\"Say it in other words.\"\"\"
    result = 0
    for _ in range(rate):
        result += total
    return result


def test_tax():
    assert tax(2, 3) == expected(2, 3)


def test_more():
    wanted = expected(5, 3)
    assert tax(5, 3) == wanted
"""

COPIED = """
def tax(amount, percent):
    total = 0
    for _ in range(percent):
        total += amount
    return total
"""


def test_tests_that_ask_a_copy_of_the_target_what_is_right_are_refused_each_by_name(change, shop):
    (shop / "src/shop/price.py").write_text(COPIED)
    outcome = asyncio.run(Asserts().check(change({"tests/test_more.py": COPYING})))
    assert [finding.level for finding in outcome.findings] == [ValidationLevel.ERROR] * 2
    assert "test_tax compares with a copy of the code under test" in outcome.findings[0].message
    assert "test_more compares with a copy of the code under test" in outcome.findings[1].message


@pytest.mark.parametrize(
    "copied",
    [
        pytest.param(COPIED.replace("total += amount", "total = total + amount"), id="another way"),
        pytest.param(COPIED.replace("total = 0", "total = 1"), id="another constant"),
        pytest.param("def tax(amount, percent):\n    return amount * percent\n", id="another body"),
    ],
)
def test_a_helper_that_computes_it_in_its_own_way_is_no_copy(change, shop, copied):
    (shop / "src/shop/price.py").write_text(copied)
    assert asyncio.run(Asserts().check(change({"tests/test_more.py": COPYING}))).findings == ()


def test_a_helper_that_is_one_short_line_in_both_is_no_copy(change, shop):
    (shop / "src/shop/price.py").write_text("def same(value):\n    return value\n")
    text = (
        "from shop.price import same\n\ndef plain(x):\n    return x\n\ndef test_it():\n    assert same(1) == plain(1)\n"
    )
    assert asyncio.run(Asserts().check(change({"tests/test_more.py": text}))).findings == ()


UNSTABLE = {
    "by order": (
        "seen = []\n\n\ndef test_tax():\n    seen.append(tax(2, 3))\n    assert seen == [6]\n\n\n"
        "def test_after_it():\n    assert seen == [6]\n",
        "test_after_it passed, and does not when run last to first",
    ),
    "by chance": (
        "import pathlib\n\n\ndef test_tax():\n    assert tax(2, 3) == 6\n"
        "    runs = pathlib.Path(MARK)\n    runs.write_text(runs.read_text() + 'x' if runs.exists() else 'x')\n"
        "    assert len(runs.read_text()) < 3\n",
        "test_tax passed, and does not when run in random order",
    ),
}


@pytest.mark.parametrize(("body", "said"), UNSTABLE.values(), ids=UNSTABLE)
def test_a_test_that_passes_by_luck_is_refused_by_name(change, tmp_path, body, said):
    text = f"from shop.price import tax\n{body}".replace("MARK", repr(str(tmp_path / "mark")))
    outcome = asyncio.run(Stable().check(change({"tests/test_more.py": text})))
    (finding,) = outcome.findings
    assert (outcome.value, finding.level) == (0, ValidationLevel.ERROR)
    assert said in finding.message


def test_tests_that_were_there_before_are_not_asked_what_they_prove(judge):
    before = "from shop.price import discount\n\n\ndef test_small_total_stays():\n    assert discount(10) == 10\n\n\n"
    before += "def test_zero_stays():\n    assert discount(0) == 0\n"
    verdict = judge({"tests/test_price.py": f"{before}\n\n{ONE_GOOD}"}, rules=(Asserts(),))
    assert (verdict.passed, verdict.score) == (True, 1)


def test_the_threshold_refuses_a_score_below_it(judge):
    verdict = judge({"tests/test_more.py": ONE_GOOD}, quality_threshold=0.9, rules=(CoverageRises(),))
    assert not verdict.passed
    assert [item.rule for item in verdict.errors] == ["quality_threshold"]
    assert "0.778 is below the quality threshold 0.900" in verdict.errors[0].message
    assert "coverage 0.78" in (verdict.errors[0].evidence or "")


HOOK = """
import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    outcome.get_result().outcome = "passed"
"""

REFUSED_UNRUN = {
    "nothing changed": ({}, "changed_paths: the agent changed nothing"),
    "the source edited": (
        {"src/shop/price.py": "LIMIT = 0\n", "tests/test_more.py": GOOD},
        "changed_paths: src/shop/price.py is the code under test: put it back",
    ),
    "the source replaced by one that is not a test": (
        {"src/shop/__init__.py": "x = 1\n"},
        "changed_paths: src/shop/__init__.py is not a path that may change: put it back",
    ),
    "a stray file": ({"notes.md": "hi"}, "changed_paths: notes.md is not a path that may change: remove it"),
    "a hook in a conftest.py": (
        {"tests/conftest.py": HOOK, "tests/test_more.py": ONE_GOOD},
        "changed_paths: tests/conftest.py defines `pytest_runtest_makereport`, which decides how tests run",
    ),
    "a hook by another name": (
        {"tests/conftest.py": HOOK.replace("def pytest_runtest_makereport", "def other")},
        "changed_paths: tests/conftest.py defines `other`, which decides how tests run",
    ),
    "a hook in a test file": (
        {"tests/test_more.py": ONE_GOOD + "\n\npytest_plugins = ['shop.price']\n"},
        "changed_paths: tests/test_more.py defines `pytest_plugins`, which decides how tests run",
    ),
    "tests that pytest is to leave out": (
        {"tests/conftest.py": "if True:\n    collect_ignore = ['test_price.py']\n"},
        "changed_paths: tests/conftest.py defines `collect_ignore`, which decides how tests run",
    ),
    "a conftest.py outside the tests": (
        {"conftest.py": ""},
        "changed_paths: conftest.py is not a path that may change",
    ),
    "a syntax error": (
        {"tests/test_more.py": "x = 1\ndef test_a(:\n    pass\n"},
        "compiles: tests/test_more.py does not compile: SyntaxError",
    ),
    "a return outside a function": ({"tests/test_more.py": "return 1\n"}, "compiles: tests/test_more.py does not"),
    "a null byte": ({"tests/test_more.py": "x = '\0'\n"}, "compiles: tests/test_more.py does not compile"),
    "only support files": ({"tests/conftest.py": ""}, "collected: no test file was added or changed"),
}


@pytest.mark.parametrize(("written", "expected"), REFUSED_UNRUN.values(), ids=REFUSED_UNRUN)
def test_refused_before_any_of_its_tests_run(judge, runner, written, expected):
    verdict = judge(written)
    assert not verdict.passed
    assert expected in messages(verdict)
    assert not any("--junitxml" in part for command in runner.commands for part in command.argv)


def test_a_syntax_error_is_placed_at_its_line(judge):
    verdict = judge({"tests/test_more.py": "x = 1\ndef test_a(:\n    pass\n"})
    assert verdict.errors[0].place == "tests/test_more.py:2"
    assert verdict.errors[0].evidence == "def test_a(:"


def test_a_deleted_test_file_is_refused_however_good_the_rest(judge):
    verdict = judge({"tests/test_more.py": GOOD}, deleted=("tests/test_price.py",), rules=(ChangedPaths(),))
    assert "the existing file tests/test_price.py was deleted: put it back" in messages(verdict)
    assert not verdict.passed


def test_the_target_is_not_changed_even_where_its_name_is_a_tests(judge):
    written = {"tests/test_price.py": GOOD}
    verdict = judge(written, target="tests/test_price.py", rules=(ChangedPaths(),))
    assert "tests/test_price.py is the code under test" in messages(verdict)


def test_a_removed_test_is_named(judge):
    verdict = judge({"tests/test_price.py": "def test_zero_stays():\n    assert 1\n"}, rules=(ChangedPaths(),))
    assert "existing tests were removed, put them back: test_small_total_stays" in messages(verdict)


def test_a_link_is_never_followed(change, shop, tmp_path, judge):
    secret = tmp_path / "secret.py"
    secret.write_text("not python at all, and private")
    (shop / "tests/test_link.py").symlink_to(secret)
    verdict = judge({"tests/test_link.py": secret.read_text()})
    assert "tests/test_link.py is a link" in messages(verdict)
    assert "private" not in str(verdict)


def test_adding_to_an_existing_file_is_allowed_and_a_rewritten_test_is_named(judge, shop):
    text = (shop / "tests/test_price.py").read_text().replace("discount(0) == 0", "discount(1) == 1")
    verdict = judge({"tests/test_price.py": f"{text}\n\n{ONE_GOOD}"})
    assert verdict.passed
    assert "existing tests were rewritten: test_zero_stays" in messages(verdict, ValidationLevel.WARNING)


REFUSED_AT_COLLECTION = {
    "an invented module": ("import shop.invented\n", "importing them fails (exit code 2)", "No module named 'shop.inv"),
    "no test in the file": ("from shop.price import tax\n", "it finds no test: name the functions test_*", "no tests"),
    "sys.exit at import": ("import sys\nsys.exit(0)\n", "importing them fails (exit code 3)", "SystemExit: 0"),
    "os._exit(0) at import": ("import os\nos._exit(0)\n", "the process ended early with exit code 0", ""),
}


@pytest.mark.parametrize(("text", "problem", "evidence"), REFUSED_AT_COLLECTION.values(), ids=REFUSED_AT_COLLECTION)
def test_refused_when_it_cannot_be_collected(judge, text, problem, evidence):
    verdict = judge({"tests/test_more.py": text})
    assert f"collected: pytest cannot collect tests/test_more.py: {problem}" in messages(verdict)
    assert evidence in (verdict.errors[0].evidence or "")
    assert len((verdict.errors[0].evidence or "").splitlines()) <= 30


def test_a_changed_file_without_a_new_test_is_refused(judge, shop):
    verdict = judge({"tests/test_price.py": "# a remark\n" + (shop / "tests/test_price.py").read_text()})
    assert "tests/test_price.py holds no test that was not there before" in messages(verdict)


REFUSED_WHEN_RUN = {
    "a failing test": (
        "from shop.price import tax\n\n\nclass TestTax:\n    def test_a(self):\n        assert tax(2, 3) == 7\n",
        "passes: tests/test_more.py::TestTax::test_a fails: assert 6 == 7",
    ),
    "a failing set-up": (
        "import pytest\n\n\n@pytest.fixture\ndef bad():\n    raise OSError('x')\n\n\ndef test_a(bad):\n    pass\n",
        'passes: tests/test_more.py::test_a fails: failed on setup with "OSError: x"',
    ),
    "os._exit(0) in a test": ("import os\n\n\ndef test_a():\n    os._exit(0)\n", "wrote no report (exit code 0)"),
    "pytest.exit with code 0": (
        f"{ONE_GOOD}\n\ndef test_exit():\n    import pytest\n    pytest.exit('x', returncode=0)\n\n\n"
        "def test_never():\n    assert False\n",
        "passes: only 1 of 3 collected tests ran",
    ),
    "all skipped or expected to fail": (
        "import pytest\n\n\ndef test_a():\n    pytest.skip()\n\n\n@pytest.mark.xfail\ndef test_b():\n    assert 0\n",
        "passes: no new test passed",
    ),
}


@pytest.mark.parametrize(("text", "expected"), REFUSED_WHEN_RUN.values(), ids=REFUSED_WHEN_RUN)
def test_refused_when_it_runs(judge, text, expected):
    verdict = judge({"tests/test_more.py": text}, rules=(Passes(),))
    assert not verdict.passed
    assert expected in messages(verdict)


def test_a_failing_test_is_placed_and_quoted(change):
    context = change({"tests/test_more.py": f"{ONE_GOOD}\n\ndef test_bad():\n    assert tax(1, 1) == 2\n"})
    (error,) = asyncio.run(Passes().check(context)).findings
    assert (error.place, error.test) == ("tests/test_more.py:8", "tests/test_more.py::test_bad")
    assert "tests/test_more.py:9: in test_bad" in (error.evidence or "")


def test_an_endless_loop_ends_in_a_finding_that_shows_where(judge):
    verdict = judge(
        {"tests/test_more.py": "def test_loop():\n    while True:\n        pass\n"}, seconds=12, rules=(Passes(),)
    )
    assert "passes: the run of tests/test_more.py did not end within 12 s" in messages(verdict)
    assert re.search(r'tests/test_more.py", line [23] in test_loop', verdict.errors[0].evidence or "")


DEARER = {
    "breaks a test that passed": (
        "import shop.price\n\nshop.price.discount = lambda total: 7\n",
        "tests/test_price.py::test_small_total_stays fails in the whole suite: assert 7 == 10",
    ),
    "skips tests that passed": (
        "import pytest\n\n\ndef pytest_collection_modifyitems(items):\n    for item in items:\n"
        "        if item.path.name == 'test_price.py':\n            item.add_marker(pytest.mark.skip)\n",
        "tests that passed before are skipped now: tests/test_price.py::test_small_total_stays",
    ),
    "hides tests that passed": (
        "collect_ignore = ['test_price.py']\n",
        "tests that passed before are gone: tests/test_price.py::test_small_total_stays",
    ),
}


@pytest.mark.parametrize(("conftest", "expected"), DEARER.values(), ids=DEARER)
def test_a_change_that_makes_the_suite_redder_is_refused(judge, conftest, expected):
    verdict = judge({"tests/conftest.py": conftest, "tests/test_more.py": ONE_GOOD}, rules=(Passes(),))
    assert expected in messages(verdict)


def test_what_was_red_before_is_reported_and_not_blamed(judge, shop_baseline):
    red = replace(
        shop_baseline,
        suite=SuiteState.RED,
        failed=("tests/test_more.py::test_old",),
        tests=(),
    )
    verdict = judge({"tests/test_more.py": f"{ONE_GOOD}\n\ndef test_old():\n    assert 0\n"}, baseline=red)
    assert verdict.passed
    assert "red before the change (1 failed, 2 passed, 0 skipped" in messages(verdict, ValidationLevel.WARNING)


NOT_RAISING = {
    "a mere import": "import shop.price\n\n\ndef test_import():\n    assert shop.price\n",
    "what is covered already": "from shop.price import discount\n\n\ndef test_two():\n    assert discount(2) == 2\n",
}


@pytest.mark.parametrize("text", NOT_RAISING.values(), ids=NOT_RAISING)
def test_tests_that_run_nothing_new_are_refused_with_what_to_call(judge, text):
    verdict = judge({"tests/test_more.py": text}, rules=(CoverageRises(),))
    expected = (
        "coverage: the new tests run nothing of src/shop/price.py that did not run before: coverage stays at 66.6%; "
        "call what is uncovered: functions never run: `tax`; lines not run: 6, 11; "
        "branches not taken (from line to line): 5 to 6"
    )
    assert expected in messages(verdict)


def test_a_mere_import_raises_nothing_where_the_project_had_no_tests(judge, shop, shop_baseline, measure):
    untested = {path: (shop / path).read_text() for path in ("src/shop/__init__.py", "src/shop/price.py")}
    baseline = measure(untested, "src/shop/price.py")
    verdict = judge({"tests/test_more.py": NOT_RAISING["a mere import"]}, baseline=baseline, rules=(CoverageRises(),))
    assert "that did not run before: coverage stays at 33.3%" in messages(verdict)


def test_tests_that_never_touch_the_target_are_refused(judge):
    verdict = judge({"tests/test_more.py": "def test_a():\n    assert 1\n"}, rules=(CoverageRises(),))
    assert "coverage: the new tests never run src/shop/price.py: import it and call its code" in messages(verdict)


def test_a_test_that_rewrites_the_target_while_it_runs_is_refused(judge):
    text = f"""{ONE_GOOD}

def test_rewrite():
    with open("src/shop/price.py", "w") as file:
        file.write("LIMIT = 1")
"""
    verdict = judge({"tests/test_more.py": text}, rules=(CoverageRises(),))
    assert "src/shop/price.py is not the file it was" in messages(verdict)


def test_a_folder_named_like_an_option_is_only_a_folder(judge):
    assert judge({"-k none/test_more.py": ONE_GOOD}, rules=(Passes(),)).passed


def test_a_fully_covered_target_leaves_nothing_to_raise(judge, shop_baseline):
    ran = shop_baseline.coverage
    full = replace(ran, executed_lines=ran.executed_lines + ran.missing_lines, missing_lines=())
    full = replace(full, executed_branches=full.executed_branches + full.missing_branches, missing_branches=())
    baseline = replace(shop_baseline, coverage=full)
    verdict = judge({"tests/test_more.py": ONE_GOOD}, baseline=baseline, rules=(CoverageRises(),))
    assert "was fully covered before the change: there is nothing to raise" in messages(verdict)
