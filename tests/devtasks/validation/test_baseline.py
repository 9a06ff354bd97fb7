import json
from dataclasses import asdict

import pytest
from pydantic import TypeAdapter

from devtasks.errors import InvalidInput
from devtasks.task import TaskCategory
from devtasks.validation.baseline import Baseline, SuiteState
from devtasks.validation.result import ValidationLevel

CODE = "import os\n\n\ndef one():\n    return 1\n\n\ndef two():\n    return 2\n"


def test_a_green_suite_is_recorded_and_says_nothing(shop_baseline):
    assert shop_baseline.suite is SuiteState.GREEN
    assert shop_baseline.passed == (
        "tests/test_price.py::test_small_total_stays",
        "tests/test_price.py::test_zero_stays",
    )
    assert [test.name for test in shop_baseline.tests] == ["test_small_total_stays", "test_zero_stays"]
    assert shop_baseline.findings() == ()


def test_it_holds_what_the_suite_runs_of_the_target_alone(shop_baseline):
    assert shop_baseline.coverage.executed_lines == (1, 4, 5, 7, 10)
    assert shop_baseline.coverage.missing_lines == (6, 11)
    assert shop_baseline.coverage.executed_branches == ((5, 7),)
    assert shop_baseline.coverage.missing_branches == ((5, 6),)


def test_it_survives_json(shop_baseline):
    text = json.dumps(asdict(shop_baseline))
    assert TypeAdapter(Baseline).validate_json(text) == shop_baseline


def test_a_red_suite_without_the_projects_plugins_is_counted(measure, tmp_path, tree):
    files = {
        "pyproject.toml": '[tool.pytest.ini_options]\naddopts = "--cov=pkg -n 4"\nrequired_plugins = ["pytest-cov"]\n'
        '[tool.coverage.run]\nsource = ["elsewhere"]\nparallel = true\n',
        "pkg/__init__.py": "",
        "pkg/a.py": CODE,
        "tests/test_a.py": "import pytest\nfrom pkg.a import one\n\n\ndef test_one():\n    assert one() == 1\n\n\n"
        "def test_bad():\n    assert one() == 2\n\n\ndef test_skip():\n    pytest.skip()\n",
        "tests/test_broken.py": "import nowhere\n",
    }
    baseline = measure(files, "pkg/a.py")
    assert baseline.suite is SuiteState.RED
    assert baseline.passed == ("tests/test_a.py::test_one",)
    assert baseline.failed == ("tests.test_broken", "tests/test_a.py::test_bad")
    assert baseline.skipped == ("tests/test_a.py::test_skip",)
    assert baseline.coverage.missing_lines == (9,)
    (finding,) = baseline.findings()
    assert finding.level is ValidationLevel.WARNING
    assert "No module named 'nowhere'" in (finding.evidence or "")
    kept = {name for name in tree(tmp_path / "project") if not (tmp_path / "project" / name).is_dir()}
    assert kept == set(files)


def test_without_tests_the_import_alone_is_the_baseline(measure):
    baseline = measure({"mod.py": CODE}, "mod.py")
    assert baseline.suite is SuiteState.ABSENT
    assert baseline.coverage.executed_lines == (1, 4, 8)
    (finding,) = baseline.findings()
    assert (finding.level, finding.message) == (ValidationLevel.INFO, "the project had no tests before the change")


def test_a_target_that_cannot_be_imported_is_told_with_its_error(measure):
    baseline = measure({"mod.py": f"import nowhere\n{CODE}"}, "mod.py")
    assert baseline.import_error == "ModuleNotFoundError: No module named 'nowhere'"
    assert baseline.coverage.executed_lines == (1,)
    assert "could not be imported: ModuleNotFoundError" in baseline.findings()[1].message


def test_a_suite_without_end_is_stopped_and_the_import_still_measured(measure):
    files = {"mod.py": CODE, "test_mod.py": "def test_loop():\n    while True:\n        pass\n"}
    baseline = measure(files, "mod.py", seconds=3)
    assert baseline.suite is SuiteState.TIMED_OUT
    assert baseline.passed == ()
    assert baseline.coverage.executed_lines == (1, 4, 8)
    assert "did not end in time" in baseline.findings()[0].message


@pytest.mark.parametrize("target", [None, "missing.py", "readme.md", "pkg"])
def test_unit_tests_for_what_is_no_python_file_are_refused_before_anything_runs(measure, runner, target):
    with pytest.raises(InvalidInput, match="target_file"):
        measure({"readme.md": "x", "pkg/__init__.py": ""}, target)
    assert runner.commands == []


def test_another_category_needs_no_target(measure):
    baseline = measure({"readme.md": "x"}, None, category=TaskCategory.ANALYSIS)
    assert baseline.suite is SuiteState.ABSENT
    assert baseline.coverage is None
