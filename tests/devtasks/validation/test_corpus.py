"""The corpus for the validator: each kind of bad result is what it says, shown on one small module."""

import ast
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from corpus.kinds import KINDS
from corpus.modules import MODULES, Module, Release
from corpus.results import Good, Result
from corpus.sources import fetch, good, lay_out, own_tests

from devtasks.validation.junit import CaseOutcome, parse_junit

SOURCE = '''\
LIMIT = 100


def discount(total):
    """What is left to pay."""
    if total < 0:
        raise ValueError("negative")
    return total - total // 10 if total > LIMIT else total


def shipping(total):
    return 5
'''
TESTS = '''\
"""Tests of prices."""

import unittest

import pytest

from shop.price import discount, shipping


def test_discount():
    assert discount(10) == 10
    assert discount(200) == 180


def test_negative():
    with pytest.raises(ValueError) as caught:
        discount(-1)
    assert "negative" in str(caught.value)
    assert discount(0) == 0


class ShippingTests(unittest.TestCase):
    def test_same(self):
        self.assertEqual(shipping(1), 5)
        with self.assertRaises(TypeError):
            shipping()
'''
NEIGHBOUR = "def test_one():\n    assert 1 + 1 == 2\n\n\ndef test_two():\n    assert 1 + 2 == 3\n"
GOOD = Good(
    target="shop/price.py",
    source=SOURCE,
    tests={"tests/test_price.py": TESTS},
    existing={"tests/test_other.py": NEIGHBOUR, "tests/conftest.py": "COLOUR = 'red'\n"},
    workspace="/somewhere/workspace",
)
WRONG = SOURCE.replace("else total", "else total + 1").replace("return 5", "return 6")
TEST = "tests/test_price.py"
type Outcomes = Mapping[str, Counter[CaseOutcome]]

BLIND = (
    *("assertions_removed", "asserts_true", "asserts_or_true", "asserts_itself", "asserts_none_or_not"),
    *("asserts_representation", "asserts_same_call", "any_number_will_do", "failure_swallowed", "raises_anything"),
    *("returns_early", "target_never_called", "over_mocked", "mock_beside", "target_patched_away", "copy_tested"),
)
"""Kinds that pass whatever the target returns."""

WATCHFUL = (
    *("copy_compared", "flaky_by_date", "flaky_by_order", "writes_home", "writes_project"),
    "changes_environment",
)
"""Kinds that pass, and would notice a wrong target."""

OUTCOMES = {
    "skipped": CaseOutcome.SKIPPED,
    "skipped_by_condition": CaseOutcome.SKIPPED,
    "skipped_inside": CaseOutcome.SKIPPED,
    "expected_to_fail": CaseOutcome.SKIPPED,
    "fails": CaseOutcome.FAILED,
}
CHEATING = ("conftest_outcome", "patches_run", "patches_outcome")


def make(kind: str, known: Good = GOOD) -> Result:
    result = KINDS[kind](known)
    assert result is not None
    return result


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run_pytest(folder: Path, source: str, *arguments: str) -> tuple[int, str]:
    write(folder, {"shop/__init__.py": "", "shop/price.py": source})
    environment = {
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    options = ("-c", os.devnull, "--rootdir=.", "-p", "no:cacheprovider", "--import-mode=importlib", "-o")
    report = ("junit_family=xunit1", f"--junitxml={folder / 'report.xml'}")
    command = (sys.executable, "-m", "pytest", *options, *report, *arguments)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout


def outcomes(folder: Path) -> Outcomes:
    """Return how the tests of each kind's folder ended."""
    found: dict[str, Counter[CaseOutcome]] = {}
    for case in parse_junit((folder / "report.xml").read_bytes()):
        found.setdefault(case.nodeid.partition("/")[0], Counter())[case.outcome] += 1
    return found


@pytest.fixture(scope="module")
def run_together(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Outcomes]:
    """Run the results of many kinds in one process, each in a folder of its own, over a target."""

    def run(source: str) -> Outcomes:
        folder = tmp_path_factory.mktemp("kinds")
        kinds = {kind: make(kind).written for kind in (*BLIND, *WATCHFUL, *OUTCOMES)}
        write(folder, {f"{kind}/{path}": text for kind, files in kinds.items() for path, text in files.items()})
        run_pytest(folder, source)
        return outcomes(folder)

    return run


@pytest.fixture(scope="module")
def over_right(run_together) -> Outcomes:
    return run_together(SOURCE)


@pytest.fixture(scope="module")
def over_wrong(run_together) -> Outcomes:
    return run_together(WRONG)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_writes_files_that_compile_and_are_not_the_good_ones(kind: str):
    result = make(kind)

    assert result != Result(GOOD.tests)
    texts = [text for path, text in result.written.items() if path.endswith(".py")]
    assert texts
    if kind == "syntax_error":
        with pytest.raises(SyntaxError):
            ast.parse(texts[0])
    else:
        for text in texts:
            compile(text, "test.py", "exec", dont_inherit=True)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_says_what_it_is(kind: str):
    assert re.fullmatch(r"[A-Z`].*\.", (KINDS[kind].__doc__ or "").splitlines()[0])


@pytest.mark.parametrize("kind", BLIND)
def test_a_blind_kind_passes_whatever_the_target_returns(kind: str, over_right: Outcomes, over_wrong: Outcomes):
    if kind == "copy_tested":  # its copy is made of the right target
        assert "return 5" in make(kind).written[TEST]
    assert set(over_right[kind]) == set(over_wrong[kind]) == {CaseOutcome.PASSED}


@pytest.mark.parametrize("kind", WATCHFUL)
def test_a_kind_with_good_checks_passes_and_would_notice(kind: str, over_right: Outcomes, over_wrong: Outcomes):
    assert set(over_right[kind]) == {CaseOutcome.PASSED}
    assert over_wrong[kind][CaseOutcome.FAILED]


@pytest.mark.parametrize(("kind", "outcome"), OUTCOMES.items())
def test_a_kind_that_does_not_pass_ends_as_it_says(kind: str, outcome: CaseOutcome, over_right: Outcomes):
    assert set(over_right[kind]) == {outcome}


@pytest.mark.parametrize("kind", CHEATING)
def test_a_cheating_kind_passes_although_each_of_its_tests_is_wrong(kind: str, tmp_path: Path):
    write(tmp_path, make(kind).written)

    exit_code, said = run_pytest(tmp_path, SOURCE, "tests/test_price.py")

    assert (exit_code, "3 passed" in said) == (0, True), said


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    {"dies_at_import": 0, "dies_in_test": 0, "stops_pytest": 0, "exits_at_import": 3, "not_collected": 5}.items(),
)
def test_a_kind_that_keeps_tests_from_running_ends_so(kind: str, exit_code: int, tmp_path: Path):
    write(tmp_path, make(kind).written)

    ended, said = run_pytest(tmp_path, SOURCE, "tests/test_price.py")

    assert ended == exit_code, said
    assert "passed" not in said


def test_the_last_of_tests_that_depend_on_order_fails_by_itself(tmp_path: Path):
    write(tmp_path, make("flaky_by_order").written)

    exit_code, said = run_pytest(tmp_path, SOURCE, "tests/test_price.py::ShippingTests::test_same")

    assert exit_code == 1, said


def test_kinds_that_harm_other_tests_leave_the_good_ones_as_they_are():
    harmful = {kind: make(kind) for kind in ("deletes_test", "removes_test", "weakens_existing", "conftest_ignores")}

    assert all(result.written[TEST] == TESTS for result in harmful.values())
    assert harmful["deletes_test"].deleted == ("tests/test_other.py",)
    removed = harmful["removes_test"].written["tests/test_other.py"]
    assert ("test_one" in removed, "test_two" in removed) == (False, True)
    assert "assert" not in harmful["weakens_existing"].written["tests/test_other.py"]
    conftest = harmful["conftest_ignores"].written["tests/conftest.py"]
    assert conftest.startswith("COLOUR")
    assert "test_other.py" in conftest


@pytest.mark.parametrize(
    ("kind", "path", "text"),
    [
        ("edits_source", "shop/price.py", "added_for_tests"),
        ("lowers_threshold", ".coveragerc", "fail_under = 0"),
        ("adds_source", "shop/made_for_tests.py", "VALUE"),
        ("hard_coded_path", TEST, "/somewhere/workspace/shop/price.py"),
        ("invented_import", TEST, "from shop.testing_helpers import"),
        ("invented_import_skips", TEST, "importorskip"),
        ("flaky_by_random", TEST, "random.random() < 0.5"),
        ("flaky_by_time", TEST, "time.time_ns()"),
        ("flaky_by_hash", TEST, "list({"),
        ("infinite_loop", TEST, "while True"),
        ("sleeps", TEST, "time.sleep(2)"),
        ("network_call", TEST, "urlopen("),
    ],
)
def test_a_kind_writes_what_it_says(kind: str, path: str, text: str):
    assert text in make(kind).written[path]


def test_checks_of_exceptions_and_those_that_ask_them_are_gone():
    text = make("assertions_removed").written[TEST]

    assert not any(word in text for word in ("assert", "pytest.raises", "caught"))
    assert "discount(-1)" in text
    assert "shipping(1) == 5" in text


def test_a_kind_that_cannot_be_made_of_a_module_makes_nothing():
    plain = replace(GOOD, source="LIMIT = 100\n", existing={})

    not_made = {kind for kind, make_bad in KINDS.items() if make_bad(plain) is None}

    assert not_made == {
        *("target_never_called", "over_mocked", "target_patched_away", "copy_compared"),
        *("deletes_test", "removes_test", "weakens_existing", "conftest_ignores"),
    }


def test_the_corpus_is_as_large_as_it_has_to_be():
    assert len({(each.release.name, each.target) for each in MODULES}) == len(MODULES) >= 30
    assert len(KINDS) >= 22
    assert all(re.fullmatch("[0-9a-f]{64}", each.release.sha256) for each in MODULES)
    assert all(each.release.neighbour not in each.tests for each in MODULES)


def test_a_project_is_laid_out_without_its_tests_but_for_the_neighbour(tmp_path: Path):
    files = {"shop/price.py": SOURCE, TEST: TESTS, **GOOD.existing, "tests/test_more.py": "", "docs/index.md": ""}
    module = Module(_sdist(tmp_path, files), "shop/price.py", (TEST,))
    sdist = fetch(module.release, tmp_path)

    root = lay_out(module, sdist, tmp_path / "original")

    assert {path.relative_to(root).as_posix() for path in root.rglob("*.*")} == {"shop/price.py", *GOOD.existing}
    assert good(module, sdist, root, Path("/somewhere/workspace")) == GOOD


def _sdist(folder: Path, files: Mapping[str, str]) -> Release:
    """Write a source distribution, and return it pinned."""
    with tarfile.open(folder / "my_shop-1.0.tar.gz", "w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"my_shop-1.0/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    digest = hashlib.sha256((folder / "my_shop-1.0.tar.gz").read_bytes()).hexdigest()
    return Release("my-shop", "1.0", digest, "tests/test_other.py")


def test_tests_that_another_file_defines_are_not_the_results_own():
    own = "import sys\n\n\ndef test_a():\n    assert 1 + 1 == 2\n\n\n"
    imported = "if sys.version_info >= (3, 8):\n    from .py38 import test_a  # noqa\n"
    assert own_tests(f"{own}{imported}from os import path\n") == f"{own}from os import path\n"
