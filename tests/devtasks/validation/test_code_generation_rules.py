"""What written code is refused for: nothing that shows it works, imports that lead nowhere, tests tampered with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from devtasks.task import TaskCategory
from devtasks.validation.acceptance_rule import Acceptance
from devtasks.validation.changed_lines import changed_statements
from devtasks.validation.code_generation_rules import CODE_GENERATION_RULES, Written
from devtasks.validation.description_examples import Examples
from devtasks.validation.docstrings import parse
from devtasks.validation.imports import imports
from devtasks.validation.imports_rule import ImportsResolve
from devtasks.validation.result import ValidationLevel, ValidationResult
from devtasks.validation.untouched_rule import Untouched

VAT = "src/shop/vat.py"
TESTS = "tests/test_vat.py"
CODE = """\
from shop.price import tax


def with_vat(total, rate=0.2):
    if total < 0:
        raise ValueError(total)
    return total + tax(total, rate)
"""
CHECKS = """\
import pytest

from shop.vat import with_vat


def test_vat_is_added():
    assert with_vat(100) == 120


def test_negative_total_is_refused():
    with pytest.raises(ValueError, match="-1"):
        with_vat(-1)
"""
ASKED = """\
Write shop.vat:

```python
>>> from shop.vat import with_vat
>>> with_vat(100)
120.0
>>> with_vat(-1)
Traceback (most recent call last):
ValueError: -1

```
"""
HELPER = "def close(a, b):\n    return abs(a - b) < 1e-9\n"

Judge = Callable[..., ValidationResult]


@pytest.fixture
def verdict(judge: Judge) -> Judge:
    """The verdict on code that was written for a task without a target."""

    def run(written, **given) -> ValidationResult:
        given = {"category": TaskCategory.CODE_GENERATION, "target": None, "quality_threshold": 0.7, **given}
        return judge(written, **given)

    return run


@pytest.fixture
def accept(verdict: Judge, shop: Path) -> Judge:
    """The same for a task whose acceptance test lies in the project already."""

    def run(written, checks: str = CHECKS, **given) -> ValidationResult:
        (shop / TESTS).write_text(checks)
        (shop / "tests/support.py").write_text(HELPER)
        return verdict(written, acceptance_tests=(TESTS,), **given)

    return run


def said(result: ValidationResult, rule: str, level: ValidationLevel = ValidationLevel.ERROR) -> str:
    found = (each for each in result.findings if each.rule == rule and each.level is level)
    return "\n".join(f"{each.place} {each.message}\n{each.evidence}" for each in found)


def warned(result: ValidationResult, rule: str) -> str:
    return said(result, rule, ValidationLevel.WARNING)


def test_the_weights_sum_to_ten():
    assert sum(rule.weight for rule in CODE_GENERATION_RULES) == 10


def test_code_that_passes_the_acceptance_tests_is_accepted(accept: Judge):
    result = accept({VAT: CODE})

    assert result.passed, result.findings
    assert result.score == 1
    assert not [each for each in result.findings if each.level is not ValidationLevel.INFO]


def test_code_that_makes_the_examples_true_is_accepted(verdict: Judge):
    result = verdict({VAT: CODE}, description=ASKED)

    assert result.passed, result.findings
    assert result.score == 1


def test_code_with_new_tests_that_run_it_is_accepted_with_a_warning(verdict: Judge):
    result = verdict({VAT: CODE, TESTS: CHECKS})

    assert result.passed, result.findings
    assert "only new tests show" in warned(result, "acceptance")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({}, "nothing was written"),
        ({TESTS: CHECKS}, "only tests, comments or empty files"),
        ({"src/shop/price.py": "# prices\nLIMIT = 100\n"}, ""),
        ({VAT: '"""Nothing yet."""\n', TESTS: CHECKS}, "only tests, comments or empty files"),
        ({VAT: CODE, "conftest.py": "import shop\n"}, "is run by pytest or Python itself"),
        ({VAT: CODE, "src/sitecustomize.py": "x = 1\n"}, "is run by pytest or Python itself"),
        ({VAT: CODE, "usercustomize.py": "x = 1\n"}, "is run by pytest or Python itself"),
        ({VAT: CODE, "src/shop.pth": "import shop\n"}, "is run by pytest or Python itself"),
        ({VAT: CODE, "shop.dist-info/entry_points.txt": "[pytest11]\nx = shop.vat\n"}, "load a plugin"),
        ({VAT: CODE + "\n\ndef pytest_runtest_makereport(item, call):\n    pass\n"}, "as a plugin of pytest does"),
        ({VAT: CODE, TESTS: f'pytest_plugins = ["shop.vat"]\n{CHECKS}'}, "as a plugin of pytest does"),
        ({VAT: f"import _pytest.reports\n{CODE}"}, "is no test and imports `_pytest`"),
        ({VAT: CODE, "src/json.py": "x = 1\n"}, "takes the place of the module `json`"),
        ({VAT: CODE, "pluggy/__init__.py": "x = 1\n"}, "takes the place of the module `pluggy`"),
        ({VAT: CODE, "tests/unittest.py": "x = 1\n"}, "takes the place of the module `unittest`"),
        ({VAT: CODE, "pytest.ini": ""}, "configures pytest"),
        ({VAT: CODE, "pyproject.toml": '[tool.pytest.ini_options]\naddopts = "-k no"\n'}, "changes the settings"),
        ({VAT: CODE, "setup.cfg": "[tool:pytest]\npython_files = no.py\n"}, "changes the settings"),
    ],
    ids=[
        *("nothing", "tests alone", "code removed is a change", "docstring alone", "conftest", "sitecustomize"),
        *("usercustomize", "path file", "entry points", "pytest hook", "plugin named in a test", "pytest's insides"),
        *(
            "shadowed library",
            "shadowed plugin system",
            "shadowed beside tests",
            "pytest.ini",
            "pyproject",
            "setup.cfg",
        ),
    ],
)
def test_what_is_no_code_or_decides_how_tests_end_is_refused(verdict: Judge, written, message: str):
    result = verdict(written, rules=(Written(),))

    assert message in said(result, "written")
    assert result.passed is not bool(message)


@pytest.mark.parametrize(
    ("pattern", "passed"), [("tests/conftest.py", True), ("tests/", False)], ids=["file", "folder"]
)
def test_a_file_that_takes_part_in_test_runs_is_allowed_where_the_task_names_it(
    verdict: Judge, pattern: str, passed: bool
):
    written = {VAT: CODE, "tests/conftest.py": "x = 1\n"}

    assert verdict(written, rules=(Written(),), allowed_paths=("*.py", pattern)).passed is passed


@pytest.mark.parametrize(("tests", "passed"), [((), True), ((TESTS,), False)], ids=["without", "with"])
def test_settings_of_pytest_may_change_where_the_task_names_their_file_and_no_acceptance_test(
    verdict: Judge, tests, passed: bool
):
    written = {VAT: CODE, "pyproject.toml": "[tool.pytest.ini_options]\npython_files = 'no.py'\n"}
    given = {"allowed_paths": ("*.py", "pyproject.toml"), "acceptance_tests": tests}

    assert verdict(written, rules=(Written(),), **given).passed is passed


def test_other_settings_may_change(verdict: Judge):
    assert verdict({VAT: CODE, "pyproject.toml": '[project]\nname = "shop"\n'}, rules=(Written(),)).passed


def test_a_link_is_refused(verdict: Judge, shop: Path, tmp_path: Path):
    (tmp_path / "secret.py").write_text("x = 1\n")
    (shop / VAT).symlink_to(tmp_path / "secret.py")

    assert "is a link" in said(verdict({VAT: CODE}, rules=(Written(),)), "written")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (CODE.replace("+ tax", "- tax"), "test_vat_is_added fails"),
        ("from shop.price import tax\n", "fails"),
        (f"import os\nos._exit(0)\n{CODE}", "wrote no report"),
    ],
    ids=["wrong result", "no such function", "process ended"],
)
def test_code_that_fails_an_acceptance_test_is_refused(accept: Judge, code: str, message: str):
    result = accept({VAT: code}, rules=(Acceptance(),))

    assert message in said(result, "acceptance")
    assert not result.cut


@pytest.mark.parametrize(
    ("written", "deleted", "message"),
    [
        ({TESTS: CHECKS.replace("120", "0")}, (), "is an acceptance test and was modified"),
        ({}, (TESTS,), "is an acceptance test and was deleted"),
        ({"tests/support.py": "def close(a, b):\n    return True\n"}, (), "belongs to the tests and was modified"),
        ({"test_vat.py": "def test_vat():\n    pass\n"}, (), "has the module name of the acceptance test"),
        ({"src/test_vat/__init__.py": ""}, (), "has the module name of the acceptance test"),
    ],
    ids=["edited", "deleted", "helper edited", "module of its name", "package of its name"],
)
def test_acceptance_tests_that_are_not_what_they_were_are_refused(accept: Judge, written, deleted, message: str):
    result = accept({VAT: CODE, **written}, rules=(Acceptance(),), deleted=deleted)

    assert message in said(result, "acceptance")
    assert result.score == 0


@pytest.mark.parametrize(
    ("code", "checks", "refused"),
    [
        (f'import unittest\nraise unittest.SkipTest("later")\n{CODE}', CHECKS, True),
        (CODE, CHECKS + '\n\n@pytest.mark.skip("later")\ndef test_more():\n    pass\n', False),
        (CODE, CHECKS + '\n\n@pytest.mark.skipif("s" in os.name, reason="no")\ndef test_more():\n    pass\n', False),
        (CODE, CHECKS + '\n\n@pytest.mark.skipif(True or shop.OLD, reason="no")\ndef test_more():\n    pass\n', True),
    ],
    ids=["by the code", "by a mark", "by the platform", "by a condition on the code"],
)
def test_a_skipped_acceptance_test_counts_only_where_it_was_so_before(accept: Judge, code, checks, refused: bool):
    result = accept({VAT: code}, f"import os\nimport shop\n{checks}", rules=(Acceptance(),))

    assert result.passed is not refused, result.findings


def test_acceptance_tests_taken_out_by_the_code_are_missed(accept: Judge):
    hiding = "import sys\nsys._getframe(1)\nfor f in list(map(sys._getframe, range(1, 12))):\n"
    hiding += "    if f.f_globals.get('__name__') == 'test_vat':\n        f.f_globals['__test__'] = False\n"

    assert "passed: none ran" in said(accept({VAT: hiding + CODE}, rules=(Acceptance(),)), "acceptance")


def test_new_tests_that_fail_are_refused_though_the_acceptance_tests_pass(accept: Judge):
    written = {VAT: CODE, "tests/test_more.py": "def test_it():\n    assert 1 == 2\n"}

    assert "test_it fails" in said(accept(written, rules=(Acceptance(),)), "acceptance")


def test_lines_that_no_test_runs_are_a_warning_beside_acceptance_tests(accept: Judge):
    result = accept({VAT: f"{CODE}\n\ndef spare():\n    return 1\n"}, rules=(Acceptance(),))

    assert result.passed
    assert f"3 of 4 changed lines of {VAT} were run by tests: test what never ran, lines 11" in warned(
        result, "acceptance"
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (CODE.replace("+ tax", "- tax"), "the example `with_vat(100)` of the task does not give what it says"),
        (CODE.replace("ValueError", "KeyError"), "`with_vat(-1)`"),
        (CODE.replace("    if", "    import os\n    os._exit(0)\n    if"), "was not reached or ended the process"),
        (CODE.replace("with_vat", "vat"), "`from shop.vat import with_vat`"),
    ],
    ids=["wrong result", "another error", "process ended", "no such name"],
)
def test_code_that_fails_an_example_of_the_task_is_refused(verdict: Judge, code: str, message: str):
    result = verdict({VAT: code}, description=ASKED, rules=(Acceptance(),))

    assert message in said(result, "acceptance")


def test_a_failing_example_says_what_was_got(verdict: Judge):
    result = verdict({VAT: CODE.replace("+ tax", "- tax")}, description=ASKED, rules=(Acceptance(),))

    assert "expected:\n120.0\ngot:\n80.0" in said(result, "acceptance")


def test_examples_know_the_public_names_of_the_target_and_no_others(verdict: Judge):
    asked = ">>> with_vat(100)\n120.0\n"

    assert verdict({VAT: CODE}, description=asked, target=VAT, rules=(Acceptance(),)).passed
    assert "NameError" in said(verdict({VAT: CODE}, description=asked, rules=(Acceptance(),)), "acceptance")


def test_examples_that_never_end_are_refused(verdict: Judge):
    code = CODE.replace("    if", "    while True:\n        pass\n    if")

    result = verdict({VAT: code}, description=ASKED, rules=(Acceptance(),), seconds=3)

    assert "loops or waits" in said(result, "acceptance")


def test_a_fence_ends_what_an_example_expects():
    (example,) = Examples.of("Do:\n```\n>>> 1 + 1\n2\n```\nthe rest\n").examples

    assert example.want == "2\n"


@pytest.mark.parametrize(
    ("description", "demanding"),
    [("write it", False), (">>> import shop\n", False), (">>> 1\n1\n", True), (">>>1\n1\n", False)],
    ids=["none", "nothing expected", "a value expected", "malformed"],
)
def test_only_examples_that_expect_something_show_anything(description: str, demanding: bool):
    assert Examples.of(description).demanding is demanding


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({VAT: CODE}, "no test file was added"),
        ({VAT: CODE, TESTS: "import shop.vat\n\n\ndef test_it():\n    shop.vat.with_vat(1)\n"}, "asserts nothing"),
        ({VAT: CODE, TESTS: CHECKS.replace("120", "121")}, "test_vat_is_added fails"),
        ({VAT: CODE, TESTS: "def test_it():\n    assert len('ab') == 2\n"}, "0 of 3 changed lines"),
        (
            {
                VAT: CODE.replace("):\n", "):  # pragma: no cover\n", 1),
                TESTS: "def test_it():\n    assert max(1, 2) == 2\n",
            },
            "0 of 3 changed lines",
        ),
        ({VAT: CODE, TESTS: f"import pytest\n\npytest.skip(allow_module_level=True)\n{CHECKS}"}, "cannot collect"),
    ],
    ids=["no tests", "no assertion", "failing", "other code", "excluded from coverage", "skipped"],
)
def test_new_tests_that_show_nothing_of_the_new_code_are_refused(verdict: Judge, written, message: str):
    result = verdict(written, rules=(Acceptance(),))

    assert message in said(result, "acceptance")
    assert result.score == 0


def test_a_failing_new_test_is_not_cut_out_of_written_code(verdict: Judge):
    wrong = f"{CHECKS}\n\ndef test_wrong():\n    assert with_vat(0) == 1\n"

    result = verdict({VAT: CODE, TESTS: wrong}, rules=(Acceptance(),))

    assert not result.passed
    assert not result.cut


def test_every_written_source_has_to_run(verdict: Judge):
    other = "def spare(a):\n    b = a + 1\n    return b\n"

    result = verdict({VAT: CODE, "src/shop/spare.py": other, TESTS: CHECKS}, rules=(Acceptance(),))

    assert "src/shop/spare.py:2 0 of 2 changed lines" in said(result, "acceptance")
    assert result.score == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ("", "X = 1\n\n\ndef f(a):\n    '''Do.'''\n    return a\n", {6}),
        ("", "X = 1\nY = 2\n", {1, 2}),
        ("def f(a):\n    return g(\n        a\n    )\n", "def f(a):\n    return g(\n        a + 1\n    )\n", {2}),
        ("def f(a):\n    return a\n", "def f(a):\n    # the same\n    return a\n", set()),
        (
            "def f(a):\n    return 0\n",
            "def f(a):\n    if (\n        a\n    ):\n        return 1\n    return 0\n",
            {2, 5},
        ),
        ("", "def f(a):\n    match a:\n        case 1:\n            return 2\n", {2, 3, 4}),
        ("", "def f():\n    try:\n        g()\n    except KeyError:\n        h()\n", {2, 3, 4, 5}),
        ("", "def (", set()),
    ],
    ids=["body", "no function", "inner line", "comment", "block", "match", "handler", "broken"],
)
def test_changed_statements_are_those_that_mere_importing_does_not_run(before: str, after: str, lines: set[int]):
    assert changed_statements(before.encode(), after.encode()) == lines


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nowhere\n", f"{VAT}:1 `import nowhere` does not resolve: there is no module `nowhere`"),
        ("def f():\n    import os.nowhere\n", f"{VAT}:2 `import os.nowhere` does not resolve"),
        ("from shop.price import discounts\n", "the module `shop.price` has no `discounts`"),
        ("from .price import discounts\n", "the module `shop.price` has no `discounts`"),
        ("from . import nothing\n", "the module `shop` has no `nothing`"),
        ("from ... import shop\n", "it leads above the top package"),
        ("from collections import OrderdDict\n", "has no `OrderdDict`"),
        ("import shop.price.discount\n", "there is no module `shop.price.discount`"),
        ("1 / 0\n", "cannot be imported"),
        ("import os\nos._exit(0)\n", "the import ends the program"),
        ("raise SystemExit\n", "SystemExit"),
        ("while True:\n    pass\n", "had not ended after 3 s"),
    ],
    ids=[
        *("no module", "inside a function", "no name", "relative", "relative package", "above the top", "misspelt"),
        *("below a module", "raises", "ends the process", "exits", "loops"),
    ],
)
def test_what_cannot_be_imported_is_refused(verdict: Judge, source: str, message: str):
    result = verdict({VAT: source}, rules=(ImportsResolve(),), seconds=3)

    assert message in said(result, "imports")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (VAT, "try:\n    import nowhere\nexcept ImportError:\n    nowhere = None\n"),
        (VAT, "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import nowhere\n"),
        (VAT, "import sys\n\nif sys.version_info < (3, 0):\n    import nowhere\n"),
        (VAT, "import contextlib\n\nwith contextlib.suppress(ImportError):\n    import nowhere\n"),
        (TESTS, "import nowhere\n"),
    ],
    ids=["caught", "for types", "for another version", "suppressed", "in a test"],
)
def test_an_import_that_the_file_can_do_without_is_a_warning(verdict: Judge, path: str, source: str):
    result = verdict({path: source}, rules=(ImportsResolve(),))

    assert result.passed
    assert "`import nowhere` does not resolve" in warned(result, "imports")


def test_what_did_not_resolve_before_is_a_warning_and_what_the_change_broke_is_not(verdict: Judge, shop: Path):
    (shop / VAT).write_text("import nowhere\nimport shop.spare\n")
    (shop / "src/shop/spare.py").write_text("x = 1\n")

    result = verdict(
        {VAT: "import nowhere\nimport shop.spare\ny = 1\n"}, deleted=("src/shop/spare.py",), rules=(ImportsResolve(),)
    )

    assert "did not before the change either" in warned(result, "imports")
    assert "nowhere" not in said(result, "imports")
    assert "there is no module `shop.spare`" in said(result, "imports")


def test_good_imports_of_every_kind_are_accepted(verdict: Judge):
    source = "import os.path\nfrom . import price\nfrom .price import tax\nfrom shop import price as other\n"
    written = {VAT: source, "src/shop/__main__.py": "raise SystemExit\n", TESTS: "from shop.vat import tax\n"}

    result = verdict(written, rules=(ImportsResolve(),))

    assert result.findings == ()
    assert result.score == 1


def test_imports_are_read_with_their_lines_and_guards():
    source = b"import a.b\nfrom ..c import d as e\ntry:\n    import f\nexcept (OSError, ImportError):\n    import g\n"
    tree = parse(source)
    assert tree is not None

    found = imports(tree, "top.sub")

    assert [(each.module, each.name, each.line, each.guarded) for each in found] == [
        ("a.b", None, 1, False),
        ("top.c", "d", 2, False),
        ("f", None, 4, True),
        ("g", None, 6, True),
    ]


REWRITING = """\
from pathlib import Path

tests = Path(__file__).parents[2] / "tests/test_vat.py"
text = tests.read_text()
tests.write_text(text.replace("120", "0"))
{then}
"""


@pytest.mark.parametrize("then", ["", "tests.write_text(text)"], ids=["left so", "put back"])
def test_code_that_rewrites_the_tests_when_imported_is_refused(accept: Judge, then: str):
    result = accept({VAT: REWRITING.format(then=then) + CODE}, rules=(Written(), ImportsResolve(), Untouched()))

    assert f"rewrites {TESTS}" in said(result, "untouched")


def test_code_that_breaks_the_suite_is_refused(accept: Judge, shop: Path):
    price = (shop / "src/shop/price.py").read_text().replace("return total\n", "return total + 1\n")

    result = accept({VAT: CODE, "src/shop/price.py": price})

    assert "test_small_total_stays fails in the whole suite" in said(result, "suite")


def test_the_suite_runs_once_for_all_rules(verdict: Judge, runner):
    verdict({VAT: CODE, TESTS: CHECKS})

    whole = [each for each in runner.commands if "--continue-on-collection-errors" in each.argv]
    assert len(whole) == 1
