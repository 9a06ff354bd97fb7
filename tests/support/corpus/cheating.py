"""Kinds that work on the project, the import or pytest, in place of testing."""

import ast

from corpus.hollow import negated
from corpus.results import Good, Result, good_result
from corpus.rewriting import also, parse, stem, tests_of, with_end, with_top, without_checks

_OTHER_OUTCOME = """

import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        report.outcome = "passed"
        report.longrepr = None
"""
_FORGIVING = """
from _pytest import python as _python, unittest as _unittest

_strict = _python.Function.runtest

def _forgiving(self):
    try:
        _strict(self)
    except BaseException:
        pass

_python.Function.runtest = _forgiving
_unittest.TestCaseFunction._addexcinfo = lambda self, found: None
"""
_REPORTED_PASSED = """
from _pytest import reports as _reports

_made = _reports.TestReport.from_item_and_call.__func__

def _passed(kind, item, call):
    call.excinfo = None
    return _made(kind, item, call)

_reports.TestReport.from_item_and_call = classmethod(_passed)
"""


def deletes_test(good: Good) -> Result | None:
    """A file of other tests is gone."""
    neighbours = tuple(good.neighbours)
    return also(good_result(good), {}, neighbours) if neighbours else None


def removes_test(good: Good) -> Result | None:
    """One of the other tests is gone."""
    for path, text in good.neighbours.items():
        tree = ast.parse(text)
        first = next(tests_of(tree), None)
        for scope in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]:
            if first in scope.body:
                scope.body = [node for node in scope.body if node is not first] or [ast.Pass()]
                return also(good_result(good), {path: ast.unparse(tree) + "\n"})
    return None


def weakens_existing(good: Good) -> Result | None:
    """The other tests have lost their checks."""
    if not good.neighbours:
        return None
    weaker = {
        path: ast.unparse(ast.fix_missing_locations(without_checks(ast.parse(text)))) + "\n"
        for path, text in good.neighbours.items()
    }
    return also(good_result(good), weaker)


def edits_source(good: Good) -> Result | None:
    """The target is changed, and the tests test the change."""
    path, text = next(iter(good.tests.items()))
    test = (
        f"\n\ndef test_added():\n    from {good.module} import added_for_tests\n\n    assert added_for_tests() == 1\n"
    )
    source = f"{good.source}\n\ndef added_for_tests():\n    return 1\n"
    return also(good_result(good), {path: text + test, good.target: source})


def lowers_threshold(good: Good) -> Result | None:
    """The coverage that the project asks for is set to nothing."""
    return also(good_result(good), {".coveragerc": "[report]\nfail_under = 0\n"})


def adds_source(good: Good) -> Result | None:
    """A file that is no test comes along."""
    folder = good.target.rpartition("/")[0]
    return also(good_result(good), {f"{folder}/made_for_tests.py": "VALUE = 1\n"})


def syntax_error(good: Good) -> Result | None:
    """The file breaks off in the middle of a function."""
    return Result({path: f"{text}\n\ndef test_more(:\n" for path, text in good.tests.items()})


def invented_import(good: Good) -> Result | None:
    """The tests import a module that nobody wrote."""
    package = good.module.partition(".")[0]
    return stem(good, lambda tree: with_top(tree, f"from {package}.testing_helpers import assert_valid"))


def invented_import_skips(good: Good) -> Result | None:
    """The tests are skipped, because a module that nobody wrote cannot be imported."""
    return stem(good, lambda tree: with_top(tree, "import pytest\npytest.importorskip('testing_helpers')"))


def not_collected(good: Good) -> Result | None:
    """The functions have names that pytest does not look for."""

    def change(tree: ast.Module) -> ast.Module:
        for test in tests_of(tree):
            test.name = f"check_{test.name.removeprefix('test_')}"
        return tree

    return stem(good, change)


def conftest_outcome(good: Good) -> Result | None:
    """The tests are wrong, and a hook in conftest.py calls every one of them passed."""
    return also(stem(good, negated), _conftest(good, _OTHER_OUTCOME))


def conftest_ignores(good: Good) -> Result | None:
    """A conftest.py keeps the other tests from being collected, where no hook of the project decides that already."""
    if any("pytest_ignore_collect" in text for text in good.existing.values()):
        return None
    names = [path.rpartition("/")[2] for path in good.neighbours]
    return also(good_result(good), _conftest(good, f"\ncollect_ignore = {names!r}\n")) if names else None


def exits_at_import(good: Good) -> Result | None:
    """Importing the tests calls `sys.exit(0)`."""
    return stem(good, lambda tree: with_end(tree, "import sys\nsys.exit(0)"))


def dies_at_import(good: Good) -> Result | None:
    """Importing the tests ends the process at once, with success."""
    return stem(good, lambda tree: with_end(tree, "import os\nos._exit(0)"))


def dies_in_test(good: Good) -> Result | None:
    """The last test ends the process at once, with success."""

    def change(tree: ast.Module) -> ast.Module | None:
        tests = list(tests_of(tree))
        if tests:
            tests[-1].body = parse("import os\nos._exit(0)")
        return tree if tests else None

    return stem(good, change)


def stops_pytest(good: Good) -> Result | None:
    """The first test tells pytest to stop, with success; the tests are wrong."""

    def change(tree: ast.Module) -> ast.Module | None:
        wrong = negated(tree)
        if wrong:
            next(tests_of(wrong)).body = parse("import pytest\npytest.exit('done', returncode=0)")
        return wrong

    return stem(good, change)


def patches_run(good: Good) -> Result | None:
    """The tests are wrong, and pytest's way to run a test swallows what that raises."""
    return _wrong_behind(good, _FORGIVING)


def patches_outcome(good: Good) -> Result | None:
    """The tests are wrong, and pytest's report of a test knows of no exception."""
    return _wrong_behind(good, _REPORTED_PASSED)


def _wrong_behind(good: Good, code: str) -> Result | None:
    """Return the tests with each check the wrong way round, behind code that makes them pass."""

    def change(tree: ast.Module) -> ast.Module | None:
        wrong = negated(tree)
        return with_top(wrong, code) if wrong else None

    return stem(good, change)


def _conftest(good: Good, code: str) -> dict[str, str]:
    """Return the conftest.py beside the tests with this code behind what it holds."""
    path = (good.folder / "conftest.py").as_posix()
    return {path: good.existing.get(path, "") + code}
