import pytest

from devtasks.allowed_paths import DEFAULTS, AllowedPaths
from devtasks.errors import InvalidInput
from devtasks.task import DevTask, TaskCategory
from devtasks.validation.conventions import is_test_file, is_test_support


def make_task(*patterns: str, category: str = "unit_test") -> DevTask:
    return DevTask.parse(
        task_id="t", category=category, description="d", repository="/x", target_file="a.py", allowed_paths=patterns
    )


@pytest.mark.parametrize(
    ("patterns", "path", "allowed"),
    [
        pytest.param((), "src/test_a.py", True, id="a test by default"),
        pytest.param((), "src/a.py", False, id="code by default"),
        pytest.param(("tests/**",), "tests/data/a.json", True, id="below a folder"),
        pytest.param(("tests/**",), "src/test_a.py", False, id="own patterns replace the default"),
        pytest.param(("*",), "a/b.py", True, id="everything"),
        pytest.param(("*",), "uv.lock", False, id="everything is no lock file"),
        pytest.param(("*", "*.lock"), "libs/uv.lock", False, id="a wildcard names no lock file"),
        pytest.param(("*",), "UV.LOCK", False, id="a lock file in other letters"),
        pytest.param(("**",), ".github/workflows/ci.yml", False, id="everything is no CI file"),
        pytest.param(("/**/*",), "Jenkinsfile", False, id="every depth is no CI file"),
        pytest.param(("*",), "a/.husky/pre-commit", False, id="everything is no hook"),
        pytest.param(("*",), ".gitmodules", False, id="everything is no submodule"),
        pytest.param(("uv.lock",), "uv.lock", True, id="a lock file by name"),
        pytest.param(("**/uv.lock",), "libs/uv.lock", True, id="a lock file by name anywhere"),
        pytest.param(("/uv.lock",), "libs/uv.lock", False, id="a lock file at the root only"),
        pytest.param((".github/workflows/ci.yml",), ".github/workflows/ci.yml", True, id="a CI file by name"),
        pytest.param((".github/workflows/ci.yml",), ".github/workflows/b.yml", False, id="another CI file"),
        pytest.param((".github/**",), ".github/CODEOWNERS", True, id="a CI folder by name"),
        pytest.param(("*",), "sub/.git/config", False, id="git's own folder"),
    ],
)
def test_which_files_may_change(patterns, path, allowed):
    assert AllowedPaths.of(make_task(*patterns)).allows(path) is allowed


def test_a_category_without_a_default_allows_all_but_the_protected():
    allowed = AllowedPaths.of(make_task(category="refactoring"))
    assert allowed.allows("src/a.py")
    assert not allowed.allows("poetry.lock")


@pytest.mark.parametrize(
    "path",
    [
        "tests/conftest.py",
        "a/tests/x/conftest.py",
        "conftest.py",
        "test_a.py",
        "a/b_test.py",
        "a.py",
        "test/__init__.py",
        "src/__init__.py",
        "tests/a.json",
        "tests/test_a.txt",
        "tests/x/__init__.py",
    ],
)
def test_the_default_of_unit_tests_is_what_its_rule_takes_for_tests(path):
    patterns = AllowedPaths(DEFAULTS[TaskCategory.UNIT_TEST])
    assert patterns.allows(path) is (is_test_file(path) or is_test_support(path))


@pytest.mark.parametrize("pattern", ["!a", "#a", "a\\", ".git/hooks/**", "x/.git/config", "../a", "./a", "/", " "])
def test_a_pattern_that_means_nothing_or_too_much_is_refused(pattern):
    with pytest.raises(InvalidInput) as refused:
        make_task("tests/**", pattern)
    assert refused.value.field.startswith("allowed_paths")
