from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from devtasks.prompt import MAX_SAMPLE, MAX_SOURCE, RULES, repair_prompt, suggest_test_file, task_prompt
from devtasks.task import DevTask, TaskCategory
from devtasks.validation.result import Finding, ValidationLevel

PLACE = Path("/runs/7/workspace")
SOURCE = "def login(user):\n    return user is not None\n"
SAMPLE = "from src import other\n\n\ndef test_other():\n    assert other.value == 1\n"
FILES = {
    "src/auth.py": SOURCE,
    "tests/test_other.py": SAMPLE,
    "pyproject.toml": '[project]\nname = "x"\n\n[tool.pytest.ini_options]\naddopts = "-q"\n\n[tool.x]\nline-length = 9',
}


def make_task(**changes: Any) -> DevTask:
    given = {"category": "unit_test", "description": "Test the login.", "target_file": "src/auth.py"} | changes
    return DevTask.parse(**{"task_id": "t-1", "repository": "/r"} | given)


def prompt(files: Mapping[str, str] = FILES, **changes: Any) -> str:
    return task_prompt(make_task(**changes), PLACE, list(files), files.get)


def test_every_category_has_its_rules() -> None:
    assert set(RULES) == set(TaskCategory)
    assert all(RULES.values())


@pytest.mark.parametrize("category", TaskCategory)
def test_every_category_has_a_prompt_that_tells_task_place_and_rules(category: TaskCategory) -> None:
    text = prompt(category=category)
    assert text.startswith(f"Workspace: {PLACE}\n")
    assert "Test the login." in text
    assert all(rule in text for rule in RULES[category])
    assert "{{" not in text
    assert "{%" not in text


@pytest.mark.parametrize("category", [each for each in TaskCategory if each is not TaskCategory.UNIT_TEST])
def test_a_prompt_needs_neither_target_nor_tests(category: TaskCategory) -> None:
    text = prompt({}, category=category, target_file=None)
    assert "There are no tests yet." in text
    assert "None" not in text


def test_the_agent_is_given_what_it_would_have_to_look_for() -> None:
    text = prompt(context_files=("src/db.py", "src/gone.py"), files=FILES | {"src/db.py": "TABLE = 'users'\n"})
    assert SOURCE in text
    assert SAMPLE in text
    assert "- tests/test_other.py" in text
    assert '[tool.pytest.ini_options]\naddopts = "-q"' in text
    assert "line-length" not in text, "only what concerns the tests"
    assert "src/db.py\n\n```\nTABLE = 'users'" in text
    assert "src/gone.py\n\n```\n(not readable)" in text
    assert "suggestion: `tests/test_auth.py`" in text
    assert "at most 30 steps" in text


def test_an_empty_context_file_is_not_called_unreadable() -> None:
    assert "not readable" not in prompt(FILES | {"src/__init__.py": ""}, context_files=("src/__init__.py",))


def test_the_nearest_test_is_the_example() -> None:
    text = prompt(FILES | {"tests/test_auth_old.py": "def test_old_login(): ...\n"})
    assert "from tests/test_auth_old.py" in text
    assert "def test_old_login" in text


@pytest.mark.parametrize(
    ("name", "limit"), [("src/auth.py", MAX_SOURCE), ("tests/test_other.py", MAX_SAMPLE)], ids=["source", "sample"]
)
def test_a_long_file_is_cut_and_says_so(name: str, limit: int) -> None:
    text = prompt(FILES | {name: "x" * limit + "y" * 17})
    assert "x" * limit in text
    assert "yyy" not in text
    assert "… [17 characters cut; read the file for the rest]" in text


def test_of_many_tests_only_the_first_are_listed() -> None:
    many = FILES | {f"tests/test_{number:03}.py": "" for number in range(60)}
    text = prompt(many)
    assert "(61 files, the first 40)" in text
    assert text.count("\n- tests/") == 40


HOSTILE = "{{ 7 * 191 }} {% include 'task.md' %} {# gone #} {{ task.task_id }}"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(prompt(description=HOSTILE), id="description"),
        pytest.param(prompt(FILES | {"src/auth.py": HOSTILE}), id="source"),
        pytest.param(prompt(FILES | {"tests/test_other.py": HOSTILE}), id="sample"),
        pytest.param(prompt(FILES | {"pytest.ini": HOSTILE}), id="settings"),
        pytest.param(
            repair_prompt(PLACE, [Finding("rule", ValidationLevel.ERROR, HOSTILE, HOSTILE, HOSTILE)]), id="finding"
        ),
    ],
)
def test_template_syntax_in_what_others_wrote_is_only_text(text: str) -> None:
    assert HOSTILE in text
    assert "1337" not in text


def test_the_repair_prompt_tells_what_to_mend_and_nothing_else() -> None:
    findings = (
        Finding("tests-pass", ValidationLevel.ERROR, "two tests fail", "tests/test_auth.py:3", "E  assert 1 == 2"),
        Finding("score", ValidationLevel.WARNING, "few branches"),
        Finding("coverage", ValidationLevel.INFO, "80 % of the lines"),
    )
    text = repair_prompt(PLACE, findings)
    assert text.startswith(f"Workspace: {PLACE}\n")
    assert "- [ERROR] tests-pass at tests/test_auth.py:3: two tests fail\n\n```\nE  assert 1 == 2\n```" in text
    assert "- [WARNING] score: few branches" in text
    assert "coverage" not in text


@pytest.mark.parametrize(
    ("target", "tests", "expected"),
    [
        pytest.param("src/auth.py", [], "tests/test_auth.py", id="no-tests-yet"),
        pytest.param("src/auth.py", ["unit/test_a.py"], "unit/test_auth.py", id="beside-the-others"),
        pytest.param("src/auth.py", ["test_a.py"], "test_auth.py", id="in-the-root"),
        pytest.param("src/auth.py", ["t/test_auth.py"], "t/test_auth_more.py", id="taken"),
        pytest.param("src/auth.py", ["t/test_auth.py", "t/test_auth_more.py"], "t/test_auth_t_1.py", id="both-taken"),
        pytest.param("src/auth.py", ["t/a/test_x.py", "t/b/test_auth.py"], "t/a/test_auth_more.py", id="elsewhere"),
        pytest.param("src/__init__.py", [], "tests/test_src.py", id="a-package"),
        pytest.param("src/_private.py", [], "tests/test_private.py", id="private"),
        pytest.param("src/my-tool.v2.py", [], "tests/test_my_tool_v2.py", id="no-module-s-name"),
        pytest.param(None, [], "tests/test_target.py", id="no-target"),
    ],
)
def test_a_new_test_file_is_suggested(target: str | None, tests: list[str], expected: str) -> None:
    assert suggest_test_file(make_task(target_file=target), tests) == expected


def test_a_suggestion_never_meets_a_file_that_is_there() -> None:
    task, tests = make_task(), ["tests/test_auth.py"]
    for _ in range(10):
        tests.append(suggest_test_file(task, tests))
    assert len(set(tests)) == 11
