"""Kinds whose good tests do something no test should: depend on luck, not run, wait, reach out."""

import ast
import datetime
from collections.abc import Callable

from corpus.hollow import negated
from corpus.results import Good, Result
from corpus.rewriting import Function, each_test, parse, stem, tests_of, with_end, with_top

LEFT_BEHIND = "left-behind-by-a-test.txt"
_FLAKY = 3
"""Tests of a file that depend on luck: enough for several runs to show it."""

_RAN_BEFORE = """
import pytest

ran_before = []


@pytest.fixture(autouse=True)
def remembered():
    yield
    ran_before.append(True)
"""


def _in_first(good: Good, imports: str, code: str, number: int = 1) -> Result | None:
    """Put code in front of the first tests of the files, `number` in each."""
    return _at_functions(good, imports, lambda tests: [(test, code) for test in tests[:number]])


def _at_functions(
    good: Good, imports: str, place: Callable[[list[Function]], list[tuple[Function, str]]]
) -> Result | None:
    def change(tree: ast.Module) -> ast.Module | None:
        placed = place(list(tests_of(tree)))
        for function, code in placed:
            function.body = [*parse(code), *function.body]
        return with_top(tree, imports) if placed else None

    return stem(good, change)


def flaky_by_random(good: Good) -> Result | None:
    """Three tests of each file pass every second time."""
    return _in_first(good, "import random", "assert random.random() < 0.5", _FLAKY)


def flaky_rarely(good: Good) -> Result | None:
    """One test of each file fails one time in ten."""
    return _in_first(good, "import random", "assert random.random() < 0.9")


def flaky_by_time(good: Good) -> Result | None:
    """Three tests of each file pass in every second microsecond."""
    return _in_first(good, "import time", "assert time.time_ns() // 1_000 % 2 == 0", _FLAKY)


def flaky_by_date(good: Good) -> Result | None:
    """A test passes in this year and no other."""
    next_year = f"{datetime.date.today().year + 1}-01-01"
    return _in_first(good, "import datetime", f"assert datetime.date.today().isoformat() < {next_year!r}")


def flaky_by_hash(good: Good) -> Result | None:
    """Three tests of each file take the order of a set of strings for given."""
    words = ("'alpha', 'beta'", "'gamma', 'delta'", "'epsilon', 'zeta'")
    codes = [f"assert list({{{pair}}})[0] == {pair.partition(',')[0]}" for pair in words]
    return _at_functions(good, "", lambda tests: list(zip(tests, codes, strict=False)))


def flaky_by_order(good: Good) -> Result | None:
    """The last test of a file passes only where another has run before it."""

    def place(tests: list[Function]) -> list[tuple[Function, str]]:
        return [(tests[-1], "assert ran_before")] if len(tests) > 1 else []

    return _at_functions(good, _RAN_BEFORE, place)


def skipped(good: Good) -> Result | None:
    """Every test carries the mark `skip`."""
    return _marked(good, "pytest.mark.skip(reason='to be done')")


def skipped_by_condition(good: Good) -> Result | None:
    """Every test is skipped from a version of Python on that is long past."""
    return _marked(good, "pytest.mark.skipif(sys.version_info >= (3, 8), reason='old')")


def skipped_inside(good: Good) -> Result | None:
    """Every test skips itself when it has run."""

    def change(tree: ast.Module) -> ast.Module | None:
        changed = each_test(tree, lambda body: [*body, *parse("pytest.skip('enough')")])
        return with_top(changed, "import pytest") if changed else None

    return stem(good, change)


def expected_to_fail(good: Good) -> Result | None:
    """Every test is wrong, and expected to fail."""

    def change(tree: ast.Module) -> ast.Module | None:
        wrong = negated(tree)
        for test in tests_of(wrong) if wrong else ():
            test.decorator_list[:0] = [ast.parse("pytest.mark.xfail", mode="eval").body]
        return with_top(wrong, "import pytest") if wrong else None

    return stem(good, change)


def fails(good: Good) -> Result | None:
    """Every check says the opposite of what is so."""
    return stem(good, negated)


def hard_coded_path(good: Good) -> Result | None:
    """A test finds the target at the place where it happens to lie now."""
    path = f"{good.workspace}/{good.target}"
    return _in_first(good, "import pathlib", f"assert pathlib.Path({path!r}).read_text()")


def network_call(good: Good) -> Result | None:
    """A test asks a host, and passes without an answer; the host's name can never exist."""
    code = (
        "with contextlib.suppress(OSError):\n    urllib.request.urlopen('http://devtasks.invalid/', timeout=1).read()"
    )
    return _in_first(good, "import contextlib\nimport urllib.request", code)


def network_needed(good: Good) -> Result | None:
    """A test passes only where a host answers, whose name can never exist."""
    code = "assert urllib.request.urlopen('http://devtasks.invalid/', timeout=1).status == 200"
    return _in_first(good, "import urllib.request", code)


def sleeps(good: Good) -> Result | None:
    """A test waits for two seconds that nothing needs."""
    return _in_first(good, "import time", "time.sleep(2)")


def infinite_loop(good: Good) -> Result | None:
    """A test never ends."""
    return _in_first(good, "", "while True:\n    pass")


def infinite_import(good: Good) -> Result | None:
    """Importing the tests never ends."""
    return stem(good, lambda tree: with_end(tree, "while True:\n    pass"))


def writes_home(good: Good) -> Result | None:
    """A test leaves a file in the user's home."""
    return _in_first(good, "import pathlib", f"(pathlib.Path.home() / {LEFT_BEHIND!r}).write_text('x')")


def writes_project(good: Good) -> Result | None:
    """A test leaves a file beside the tests."""
    return _in_first(good, "import pathlib", f"pathlib.Path(__file__).with_name({LEFT_BEHIND!r}).write_text('x')")


def changes_environment(good: Good) -> Result | None:
    """A test leaves the working directory and a variable changed for those that follow."""
    return _in_first(good, "import os", "os.chdir('/')\nos.environ['LEFT_BEHIND'] = '1'")


def _marked(good: Good, mark: str) -> Result | None:
    def change(tree: ast.Module) -> ast.Module | None:
        tests = list(tests_of(tree))
        for test in tests:
            test.decorator_list[:0] = [ast.parse(mark, mode="eval").body]
        return with_top(tree, "import sys\nimport pytest") if tests else None

    return stem(good, change)
