import pytest

from devtasks.task import TaskCategory
from devtasks.validation.cutting import without_tests
from devtasks.validation.mutation_rule import NoticesMistakes
from devtasks.validation.result import ValidationLevel
from devtasks.validation.validator import RULES

GOOD = "from shop.price import discount, tax\n\n\ndef test_tax():\n    assert tax(2, 3) == 6\n"
FILE = """\
import pytest


def test_one():
    assert 1


@pytest.mark.parametrize(
    "n", [1, 2]
)
def test_two(n):
    assert n


class TestThree:
    \"\"\"About three.\"\"\"

    def test_a(self):
        assert 3

    async def test_b(self):
        assert 4
"""

LEFT = {
    "a function": (["test_one"], ["def test_one"], ["test_two", "test_a", "test_b"]),
    "with its decorators": (["test_two"], ["parametrize", '"n", [1, 2]'], ["test_one", "test_a"]),
    "a method": (["TestThree::test_a"], ["test_a"], ["About three", "async def test_b"]),
    "a whole class": (["TestThree::test_a", "TestThree::test_b"], ["TestThree", "About three"], ["test_two"]),
}


@pytest.mark.parametrize(("names", "gone", "left"), LEFT.values(), ids=LEFT)
def test_what_is_taken_out_and_what_is_left(names, gone, left):
    text = (without_tests(FILE.encode(), names) or b"").decode()
    assert all(word not in text for word in gone)
    assert all(word in text for word in left)


REFUSED = {
    "an unknown name": (FILE, ["test_nine"]),
    "no name": (FILE, []),
    "the last test": ("def test_one():\n    assert 1\n", ["test_one"]),
    "what shares its line with another": ("def test_a(): x = 1\ndef test_b(): y = 2; \\\n  z = 3\n", ["test_c"]),
    "no Python": ("def test_one(:\n", ["test_one"]),
    "of two of one name": ("def test_a(): pass\ndef test_a(): pass\ndef test_b(): pass\n", ["test_a"]),
}


@pytest.mark.parametrize(("source", "names"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_taken_out_is_left(source, names):
    assert without_tests(source.encode(), names) is None


BAD = {
    "fails": "def test_bad():\n    assert tax(1, 1) == 2\n",
    "proves nothing": "def test_bad():\n    tax(1, 2)\n",
    "has no end": "def test_bad():\n    while True:\n        pass\n",
    "ends pytest": "def test_bad():\n    import os\n    os._exit(0)\n",
    "depends on order": "seen = []\n\n\ndef test_bad():\n    assert not seen\n    assert tax(1, 1) == 1\n\n\n"
    "def test_good():\n    seen.append(1)\n    assert tax(1, 4) == 4\n",
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_one_bad_test_does_not_sink_the_good_one_beside_it(judge, shop, body):
    verdict = judge({"tests/test_more.py": f"{GOOD}\n\n{body}"}, seconds=6)
    assert verdict.passed, verdict.findings
    assert verdict.cut == ("tests/test_more.py::test_bad",)
    text = (shop / "tests/test_more.py").read_text()
    assert "def test_tax" in text
    assert "test_bad" not in text
    (finding,) = (each for each in verdict.findings if each.rule == "cut")
    assert finding.level is ValidationLevel.WARNING
    assert finding.message.startswith("left out of the result: ")


def test_where_the_rest_does_not_pass_either_the_verdict_and_the_files_are_as_they_were(judge, shop):
    text = "from shop.price import discount\n\n\ndef test_known():\n    assert discount(1) == 1\n"
    text += "\n\ndef test_bad():\n    assert discount(200) == 7\n"
    verdict = judge({"tests/test_more.py": text})
    assert not verdict.passed
    assert not verdict.cut
    assert [error.test for error in verdict.errors] == ["tests/test_more.py::test_bad"]
    assert (shop / "tests/test_more.py").read_text() == text


def test_coverage_of_tests_that_prove_nothing_does_not_carry_those_that_do(judge, shop):
    text = "from shop.price import discount, tax\n\n\ndef test_known():\n    assert discount(1) == 1\n"
    text += "\n\ndef test_nothing():\n    tax(1, 2)\n    discount(200)\n"
    rules = tuple(rule for rule in RULES[TaskCategory.UNIT_TEST] if not isinstance(rule, NoticesMistakes))
    verdict = judge({"tests/test_more.py": text}, rules=rules)
    assert not verdict.passed
    assert "run nothing of src/shop/price.py" in verdict.errors[0].message
    assert (shop / "tests/test_more.py").read_text() == text


def test_a_test_on_which_the_code_breaks_down_may_have_found_a_bug_and_says_where(judge):
    verdict = judge({"tests/test_more.py": f"{GOOD}\n\ndef test_none():\n    assert discount(None) is None\n"})
    assert verdict.passed
    (found,) = (each for each in verdict.findings if each.rule == "possible_bug")
    assert (found.level, found.place) == (ValidationLevel.WARNING, "src/shop/price.py:5")
    assert "TypeError" in found.message
    assert "test_none" in (found.evidence or "")


def test_a_wrong_expectation_is_no_bug(judge):
    verdict = judge({"tests/test_more.py": f"{GOOD}\n\ndef test_bad():\n    assert tax(1, 1) == 2\n"})
    assert all(each.rule != "possible_bug" for each in verdict.findings)
