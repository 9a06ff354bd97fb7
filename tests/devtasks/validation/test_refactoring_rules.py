"""What a refactoring is refused for: other behaviour, other names, other tests, and what nothing shows."""

import ast
import asyncio
import subprocess
import sys

import pytest

from devtasks.task import TaskCategory
from devtasks.validation.behaviour_rule import Behaves
from devtasks.validation.generated_calls import generated_calls
from devtasks.validation.improvement_rule import Improves
from devtasks.validation.pure_functions import PureFunctions
from devtasks.validation.result import ValidationLevel
from devtasks.validation.validator import ResultValidator

PRICE, ORDER = "shop/price.py", "shop/order.py"
LONG = """\
RATES = {"book": 7, "toy": 19}


class PriceError(ValueError):
    pass


def vat(kind: str, total: int) -> int:
    if kind == "book":
        if total > 0:
            return total * 7 // 100
        else:
            return 0
    else:
        if kind == "toy":
            if total > 0:
                return total * 19 // 100
            else:
                return 0
        else:
            raise PriceError(kind)


def names(orders):
    found = []
    for order in orders:
        found.append(order.strip().lower())
    return found
"""
SHORT = """\
RATES = {"book": 7, "toy": 19}


class PriceError(ValueError):
    pass


def vat(kind: str, total: int) -> int:
    if kind not in RATES:
        raise PriceError(kind)
    return max(total, 0) * RATES[kind] // 100


def names(orders):
    return [order.strip().lower() for order in orders]
"""
TESTS = """\
from shop.price import names, vat


def test_vat():
    assert vat("book", 100) == 7


def test_names():
    assert names([" A"]) == ["a"]
"""
PROJECT = {"shop/__init__.py": "", PRICE: LONG, "tests/test_price.py": TESTS}


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def refactored(measure, change, shop):
    """Measure a project, write a change over it and return what the validator is given."""

    def build(written, project=PROJECT):
        for path in shop.rglob("*.py"):
            path.unlink()
        write(shop, project)
        baseline = measure(project, PRICE, category=TaskCategory.REFACTORING)
        return change(written, baseline=baseline, target=PRICE, category=TaskCategory.REFACTORING)

    return build


@pytest.fixture
def judge(refactored):
    return lambda *args: asyncio.run(ResultValidator().validate(refactored(*args)))


def test_the_same_in_fewer_branches_is_accepted(judge):
    verdict = judge({PRICE: SHORT})
    assert (verdict.passed, verdict.errors) == (True, ())
    assert verdict.score > 0.9
    assert any("highest complexity 5 to 2" in finding.message for finding in verdict.findings)


def test_code_that_the_suite_never_imports_is_refactored_where_calls_show_that_it_is_the_same(judge):
    elsewhere = {"shop/__init__.py": "", PRICE: LONG.split("\n\n\ndef names", maxsplit=1)[0] + "\n"}
    verdict = judge(
        {PRICE: SHORT.split("\n\n\ndef names", maxsplit=1)[0] + "\n"},
        elsewhere | {"tests/test_shop.py": "import shop\n\n\ndef test_shop():\n    assert shop.__name__ == 'shop'\n"},
    )
    assert (verdict.passed, verdict.errors) == (True, ())


WRONG = {
    "a value at the edge that no test asks for": (("max(total, 0)", "abs(total)"), "behaviour", "vat('"),
    "another error": (("raise PriceError(kind)", "raise KeyError(kind)"), "behaviour", "raised PriceError before"),
    "a test fails": ((".lower()", ""), "suite", "test_names"),
    "a public name is gone": (("class PriceError", "class _PriceError"), "public_api", "PriceError is gone"),
    "a name that is not there": (("max(total, 0)", "maximum(total, 0)"), "lint", "F821"),
}


@pytest.mark.parametrize(("replacement", "rule", "said"), WRONG.values(), ids=WRONG)
def test_what_is_not_the_same_is_refused_and_says_how(judge, replacement, rule, said):
    verdict = judge({PRICE: SHORT.replace(*replacement)})
    assert not verdict.passed
    assert any(finding.rule == rule and said in finding.message for finding in verdict.errors), verdict.errors


def test_tests_that_are_changed_with_the_code_are_refused(judge):
    verdict = judge(
        {PRICE: SHORT, "tests/test_price.py": TESTS.replace('vat("book", 100) == 7', "vat('toy', 100) == 19")}
    )
    assert [finding.rule for finding in verdict.errors][:1] == ["tests_kept"]


MORE_TESTS = "from shop.price import vat\n\n\ndef test_more():\n    assert vat('toy', 100) == 19\n"


@pytest.mark.parametrize("written", [{}, {"tests/test_more.py": MORE_TESTS}], ids=["nothing", "only tests"])
def test_what_leaves_the_code_alone_is_no_refactoring(judge, written):
    verdict = judge(written)
    assert [finding.rule for finding in verdict.errors] == ["changed", "quality_threshold"], verdict.errors
    assert "refactor shop/price.py" in verdict.errors[0].message


def test_a_function_that_nothing_runs_and_nothing_can_compare_is_not_shown_to_be_the_same(judge):
    project = {name: text for name, text in PROJECT.items() if not name.startswith("tests")}
    verdict = judge({PRICE: LONG.replace("found = []\n    for", "found = list()\n    for")}, project)
    (finding,) = [each for each in verdict.errors if each.rule == "behaviour"]
    assert "names of shop/price.py" in finding.message


def test_code_that_runs_no_longer_lowers_coverage(judge):
    unused = "".join(f"    total = total + {number}\n" for number in range(9))
    added = f"{SHORT}\n\ndef _unused(total):\n{unused}    return total\n"
    verdict = judge({PRICE: added}, PROJECT | {PRICE: SHORT})
    assert "coverage" in {finding.rule for finding in verdict.errors}


def test_lines_that_are_left_out_of_coverage_are_not_taken_for_lost(judge):
    left_out = SHORT.replace("        raise PriceError(kind)", "        raise PriceError(kind)  # pragma: no cover")
    verdict = judge({PRICE: left_out.replace("orders]", "orders or ()]")}, PROJECT | {PRICE: left_out})
    assert "coverage" not in {finding.rule for finding in verdict.errors}


def test_more_of_the_same_is_no_improvement(refactored):
    outcome = asyncio.run(Improves().check(refactored({PRICE: LONG.replace("found = []", "found = []\n    pass")})))
    assert outcome.value == 0
    assert outcome.findings[0].level is ValidationLevel.WARNING


PURE = """\
import json, os
import math as m
from re import sub
from pathlib import Path

LIMIT = 3
STATE = []
SEEN = set()

def a(x): return m.floor(x) + LIMIT
def b(x): return a(x) + len([y for y in range(x)])
def c(x): return os.remove(x)
def d(x): return c(x)
def e(x): return open(x)
def f(x): return Path(x).unlink()
def g(x): return STATE + [x]
def h(x):
    global LIMIT
    LIMIT = x
def i(x): return sub("a", "b", json.dumps(x))
def j(x): return eval(x)
def k(x): return __import__("os").remove(x)
"""


def test_functions_that_touch_anything_but_their_arguments_are_never_called():
    tree = ast.parse(PURE)
    # LIMIT is set by h, so what reads it does not depend on its arguments alone.
    assert set(PureFunctions(tree).found) == {"g", "i"}
    assert set(PureFunctions(ast.parse(PURE.replace("    LIMIT = x\n", "    pass\n"))).found) == {"a", "b", "g", "i"}


ANNOTATIONS = (
    *("list[int]", "dict[str, float | None]", "Optional[set[bytes]]", "tuple[int, ...]", "Literal['a', 'b']"),
    *("'bool'", "Sequence[str]", "tuple[int, str]"),
)


@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_calls_are_the_same_ones_each_time_and_can_be_read_back(annotation):
    tree = ast.parse(f"def f(x: {annotation}, *, y: str = ''): pass")
    calls = generated_calls(tree.body[0], {})
    assert len(calls) > 1
    assert calls == generated_calls(tree.body[0], {})
    for call in calls:
        args, kwargs = ast.literal_eval(call)
        assert (len(args), list(kwargs)) == (1, ["y"])


@pytest.mark.parametrize("parameter", ["x", "x: Order", "x: list[Order]", "*, x: Callable[[], int]", ""])
def test_a_function_of_other_arguments_is_not_called(parameter):
    assert generated_calls(ast.parse(f"def f({parameter}): pass").body[0], {}) == []


SAME = {
    "sets come in any order": (
        "def f(x: int) -> set: return {str(x), 'b', 'c'}",
        "def f(x: int): return {'c', 'b', str(x)}",
    ),
    "a generator and a list of the same": (
        "def f(x: int):\n    for y in range(x % 5):\n        yield y",
        "def f(x: int):\n    yield from range(x % 5)",
    ),
    "chance": ("import random\ndef f(x: int): return x", "import random\ndef f(x: int): return +x"),
}


@pytest.mark.parametrize(("before", "after"), SAME.values(), ids=SAME)
def test_what_comes_to_the_same_is_no_difference(refactored, before, after):
    context = refactored({PRICE: after}, {PRICE: before})
    outcome = asyncio.run(Behaves().check(context))
    assert (outcome.value, outcome.findings) == (1, ())


OTHER = {
    "it changes its argument": (
        "def f(x: list[int]): return sorted(x)",
        "def f(x: list[int]):\n    x.sort()\n    return x",
    ),
    "it never ends": ("def f(x: int): return x", "def f(x: int):\n    while x > 5: pass\n    return x"),
    "it ends the process": ("def f(x: int): return x", "def f(x: int):\n    raise SystemExit"),
}


@pytest.mark.parametrize(("before", "after"), OTHER.values(), ids=OTHER)
def test_what_comes_to_something_else_is_refused(refactored, before, after):
    outcome = asyncio.run(Behaves().check(refactored({PRICE: after}, {PRICE: before})))
    assert (outcome.value, outcome.findings[0].level) == (0, ValidationLevel.ERROR)
    assert "f of shop/price.py does not do what it did: f(" in outcome.findings[0].message


MAKES_CALLS = """
import ast
from devtasks.validation.generated_calls import generated_calls
assert generated_calls(ast.parse("def f(a: int, b: str) -> int: return a").body[0], {})
"""


def test_making_calls_writes_nothing_into_the_folder_one_is_in(tmp_path):
    subprocess.run([sys.executable, "-c", MAKES_CALLS], cwd=tmp_path, check=True)
    assert list(tmp_path.iterdir()) == []
