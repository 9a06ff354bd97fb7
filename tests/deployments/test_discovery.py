import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from harness import commit_files, git

from devtasks.batch.coverage_files import read_coverage
from devtasks.batch.discovery import changed, complex_functions, modules, uncovered, undocumented
from devtasks.batch.selection import Rule
from devtasks.errors import InvalidInput
from tasks.discovery import Options, discover_tasks

BRANCHES = "".join(f"    if value == {number}:\n        return {number}\n" for number in range(6))
FILES = {
    "shop/__init__.py": "",
    "shop/prices.py": f'"""Prices."""\n\n\ndef price(value):\n{BRANCHES}\n\ndef _hidden():\n    return 1\n',
    "shop/names.py": '"""Names."""\n\n\ndef name():\n    """Return a name."""\n    return "a"\n',
    "shop/broken.py": "def (\n",
    "shop/bare.py": "def one():\n    return 1\n\n\nclass Two:\n    def three(self):\n        return 3\n",
    "tests/test_names.py": "from shop.names import name\n\n\ndef test_name():\n    assert name() == 'a'\n",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return commit_files(tmp_path_factory.mktemp("shop") / "shop", FILES)


def test_modules_are_what_git_knows_without_tests(shop: Path) -> None:
    (shop / "shop" / "new.py").write_text("x = 1\n")
    try:
        assert modules(shop) == tuple(sorted(name for name in FILES if name.startswith("shop/")))
    finally:
        (shop / "shop" / "new.py").unlink()


def test_least_covered_come_first() -> None:
    found = uncovered({"a.py": 0.5, "b.py": 0.0, "c.py": 0.8, "d.py": 0.1}, 0.8)
    assert [each.path for each in found] == ["b.py", "d.py", "a.py"]
    assert {each.category for each in found} == {"unit_test"}
    assert "50 %" in found[-1].description


def test_undocumented_lists_public_names_alone(shop: Path) -> None:
    found = {each.path: each.description for each in undocumented(shop)}
    assert list(found) == ["shop/bare.py", "shop/prices.py"]
    assert found["shop/bare.py"].endswith("lacks: `the module`, `one`, `Two`, `Two.three`.")
    assert found["shop/prices.py"].endswith("lacks: `price`.")


def test_complex_functions_are_named_with_their_number(shop: Path) -> None:
    (found,) = asyncio.run(complex_functions(shop, 5))
    assert (found.path, found.category) == ("shop/prices.py", "refactoring")
    assert "`price` (7)" in found.description
    assert asyncio.run(complex_functions(shop, 7)) == ()


def test_changed_are_modules_whose_tests_were_not(tmp_path: Path) -> None:
    root = commit_files(tmp_path / "shop", FILES)
    first = git(root, "rev-parse", "HEAD")
    commit_files(
        root,
        {"shop/prices.py": "PRICE = 1\n", "shop/names.py": "NAME = 1\n", "tests/test_names.py": "def test_it(): ...\n"},
    )
    assert [each.path for each in changed(root, first)] == ["shop/prices.py"]
    assert [each.path for each in changed(root, "HEAD")] == []
    with pytest.raises(InvalidInput, match="--since"):
        changed(root, "no-such-ref")


@pytest.fixture(scope="module")
def reports(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three reports that coverage.py writes of the shop's own suite."""
    folder = tmp_path_factory.mktemp("reports")
    data = f"--data-file={folder / '.coverage'}"
    for words in (
        ("run", data, "--source=shop", "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        ("json", data, "-q", "--ignore-errors", "-o", str(folder / "coverage.json")),
        ("xml", data, "-q", "--ignore-errors", "-o", str(folder / "coverage.xml")),
    ):
        subprocess.run([sys.executable, "-m", "coverage", *words], cwd=shop, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("name", ["coverage.json", "coverage.xml", ".coverage"])
def test_every_kind_of_report_is_read(shop: Path, reports: Path, name: str) -> None:
    found = read_coverage(reports / name, shop)
    assert (found["shop/names.py"], found["shop/prices.py"]) == (1.0, 0.0)
    tasks = asyncio.run(discover_tasks(Rule.UNCOVERED, shop, Options(coverage=reports / name)))
    assert [task.target_file for task in tasks] == ["shop/bare.py", "shop/prices.py"]
    assert [task.task_id for task in tasks] == ["1", "2"]


@pytest.mark.parametrize(("name", "text"), [("x.json", "{}"), ("x.xml", "<x"), (".coverage", "none"), ("x.json", None)])
def test_file_that_is_no_report_is_refused(tmp_path: Path, shop: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInput, match="--coverage"):
        read_coverage(tmp_path / name, shop)


@pytest.mark.parametrize(
    ("options", "message"),
    [(Options(threshold=1.5), "--threshold"), (Options(complexity=0), "--complexity")],
)
def test_option_that_is_not_allowed_is_refused(shop: Path, options: Options, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        asyncio.run(discover_tasks(Rule.COMPLEX, shop, options))


def test_coverage_is_measured_where_there_is_no_report(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVTASKS_HOME", str(tmp_path / "home"))
    said: list[str] = []
    tasks = asyncio.run(discover_tasks(Rule.UNCOVERED, shop, Options(), say=said.append))
    assert [task.target_file for task in tasks] == ["shop/bare.py", "shop/prices.py"]
    assert any("measuring what the tests cover" in each for each in said)
    assert json.dumps(tasks[0].model_dump(mode="json"))
