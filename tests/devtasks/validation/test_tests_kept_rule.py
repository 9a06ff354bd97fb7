import asyncio

import pytest

from devtasks.validation.result import ValidationLevel
from devtasks.validation.tests_kept_rule import TestsKept

SMALL, ZERO = "test_small_total_stays", "test_zero_stays"


def edited(shop, old: str, new: str) -> dict[str, str]:
    text = (shop / "tests/test_price.py").read_text()
    assert old in text
    return {"tests/test_price.py": text.replace(old, new)}


WEAKER = {
    "removed": ("def test_zero_stays", "def zero_stays"),
    "skipped": ("def test_zero_stays():", "@pytest.mark.skip\ndef test_zero_stays():"),
    "checks nothing": ("assert discount(0) == 0", "discount(0)"),
    "checks what is always true": ("assert discount(0) == 0", "assert True"),
}


@pytest.mark.parametrize(("old", "new"), WEAKER.values(), ids=WEAKER)
def test_an_existing_test_that_checks_less_is_refused(change, shop, old, new):
    outcome = asyncio.run(TestsKept().check(change(edited(shop, old, new))))
    (finding,) = outcome.findings
    assert (outcome.value, outcome.stop, finding.level) == (0, True, ValidationLevel.ERROR)
    assert ZERO in finding.message
    assert SMALL not in finding.message


def test_deleting_a_file_of_tests_is_refused(change):
    outcome = asyncio.run(TestsKept().check(change({}, deleted=("tests/test_price.py",))))
    assert (outcome.value, len(outcome.findings)) == (0, 1)


@pytest.mark.parametrize(("strict", "level"), [(False, ValidationLevel.WARNING), (True, ValidationLevel.ERROR)])
def test_another_check_in_its_place_is_refused_where_all_have_to_stay(change, shop, strict, level):
    context = change(edited(shop, "discount(0) == 0", "discount(0) == -0.0"))
    outcome = asyncio.run(TestsKept(strict=strict).check(context))
    assert (outcome.value, [finding.level for finding in outcome.findings]) == (not strict, [level])


def test_a_changed_conftest_is_refused_where_all_has_to_stay(change, shop):
    (shop / "conftest.py").write_text("")
    context = change(
        {"conftest.py": "collect_ignore = ['tests']\n", "tests/test_new.py": "def test():\n    assert 1\n"}
    )
    assert asyncio.run(TestsKept(strict=True).check(context)).value == 0
    assert asyncio.run(TestsKept().check(context)).value == 1


def test_tests_that_are_added_or_moved_within_their_file_are_no_change(change, shop):
    text = (shop / "tests/test_price.py").read_text()
    head, _, rest = text.partition("\n\n\n")
    context = change({"tests/test_price.py": f"{head}\n\n\ndef test_new():\n    assert 1\n\n\n{rest}"})
    assert asyncio.run(TestsKept(strict=True).check(context)).findings == ()
