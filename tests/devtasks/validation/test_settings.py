import asyncio
from dataclasses import replace

import pytest

from devtasks.errors import InvalidInput
from devtasks.validation.change_rules import Size
from devtasks.validation.settings import ValidationSettings
from devtasks.validation.stability_rule import Stable

TABLE = "[tool.devtasks.validation]\n"
NEW_TEST = "from shop.price import tax\n\n\ndef test_tax():\n    assert tax(10, 2) == 20\n"


def test_a_project_that_names_none_gets_the_defaults(tmp_path):
    assert ValidationSettings.read(tmp_path) == ValidationSettings()
    (tmp_path / "pyproject.toml").write_text("[project\n")
    assert ValidationSettings.read(tmp_path) == ValidationSettings()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        pytest.param("kill_rat = 0.5", "kill_rate", id="a misspelt name lists the names"),
        pytest.param("kill_rate = 1.5", "kill_rate", id="a value out of bounds"),
        pytest.param("mutants = '24'", "mutants", id="a value of another type"),
    ],
)
def test_what_is_not_allowed_is_refused_before_anything_is_judged(measure, lines, message):
    with pytest.raises(InvalidInput, match=message) as refused:
        measure({"a.py": "A = 1\n", "pyproject.toml": TABLE + lines}, "a.py")
    assert "[tool.devtasks.validation]" in str(refused.value)


def test_the_baseline_holds_what_the_project_asks(measure):
    files = {"a.py": "A = 1\n", "pyproject.toml": f"{TABLE}coverage_rise = 0.1\nmax_files = 2\n"}
    assert measure(files, "a.py").settings == ValidationSettings(coverage_rise=0.1, max_files=2)


def test_a_rise_below_a_project_s_own_threshold_is_refused(judge, shop_baseline):
    assert judge({"tests/test_tax.py": NEW_TEST}).passed
    stricter = replace(shop_baseline, settings=ValidationSettings(coverage_rise=0.9))
    verdict = judge({"tests/test_tax.py": NEW_TEST}, baseline=stricter)
    assert (verdict.errors[0].rule, "90% more" in verdict.errors[0].message) == ("coverage", True)


def test_size_and_number_of_runs_are_the_project_s(change, shop_baseline, runner):
    baseline = replace(shop_baseline, settings=ValidationSettings(max_files=1, max_file_kib=1, stable_runs=4))
    context = change({"tests/test_tax.py": NEW_TEST, "tests/test_b.py": "#" * 1025}, baseline=baseline)
    assert len(asyncio.run(Size().check(context)).findings) == 2
    asyncio.run(context.changed_tests.run())
    before = len(runner.commands)
    assert asyncio.run(Stable().check(context)).value == 1
    assert len(runner.commands) - before == 4
