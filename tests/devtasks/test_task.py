from typing import Any

import pytest

from devtasks.errors import InvalidInput
from devtasks.task import Complexity, Delivery, DevTask, TaskCategory, TaskLimits, TaskPriority

GIVEN: dict[str, Any] = {
    "task_id": "t-1",
    "category": "unit_test",
    "description": "write tests",
    "repository": "/home/me/project",
}


def test_a_task_has_defaults_for_all_but_its_four_facts() -> None:
    task = DevTask.parse(**GIVEN)
    assert task.category is TaskCategory.UNIT_TEST
    assert (task.base_ref, task.target_file, task.context_files, task.model) == ("HEAD", None, (), None)
    assert (task.priority, task.complexity, task.delivery) == (
        TaskPriority.NORMAL,
        Complexity.MODERATE,
        Delivery.PATCH,
    )
    assert (task.quality_threshold, task.limits, task.metadata) == (0.7, TaskLimits(), {})


REFUSED: list[Any] = [
    pytest.param({"category": "poetry"}, "category", "poetry", ["unit_test", "build_script"], id="category-unknown"),
    pytest.param({"priority": "urgent"}, "priority", "urgent", ["critical", "low"], id="priority-unknown"),
    pytest.param({"quality_threshold": 1.5}, "quality_threshold", 1.5, ["less than or equal to 1"], id="threshold-1.5"),
    pytest.param({"quality_threshold": -0.1}, "quality_threshold", -0.1, ["equal to 0"], id="threshold-negative"),
    pytest.param({"quality_threshold": "nan"}, "quality_threshold", "nan", ["equal to 1"], id="threshold-nan"),
    pytest.param({"description": ""}, "description", "", ["at least 1 character"], id="description-empty"),
    pytest.param({"description": " \n "}, "description", " \n ", ["at least 1 character"], id="description-blank"),
    pytest.param({"repository": " "}, "repository", " ", ["at least 1 character"], id="repository-blank"),
    pytest.param({"target_file": "../x.py"}, "target_file", "../x.py", ["inside the repository"], id="target-outside"),
    pytest.param({"target_file": "a/../../x.py"}, "target_file", "a/../../x.py", ["inside"], id="target-outside-deep"),
    pytest.param({"target_file": "/etc/passwd"}, "target_file", "/etc/passwd", ["relative"], id="target-absolute"),
    pytest.param({"target_file": ".git/config"}, "target_file", ".git/config", ["outside .git"], id="target-git"),
    pytest.param({"target_file": "sub/.git/config"}, "target_file", "sub/.git/config", [".git"], id="target-sub-git"),
    pytest.param(
        {"context_files": ("a.py", "../b.py")}, "context_files", ("a.py", "../b.py"), ["inside"], id="context-outside"
    ),
    pytest.param({"base_ref": "--upload-pack=x"}, "base_ref", "--upload-pack=x", ["begin with '-'"], id="ref-option"),
    pytest.param({"base_ref": " -x"}, "base_ref", "-x", ["begin with '-'"], id="ref-option-after-a-space"),
    pytest.param({"task_id": "../up"}, "task_id", "../up", ["matches"], id="id-path"),
    pytest.param({"task_id": ""}, "task_id", "", ["matches"], id="id-empty"),
    pytest.param({"task_id": "x\n"}, "task_id", "x\n", ["matches"], id="id-line-break"),
    pytest.param({"task_id": "x" * 65}, "task_id", "x" * 65, ["matches"], id="id-long"),
    pytest.param({"limits": {"seconds": 0}}, "limits.seconds", 0, ["greater than 0"], id="no-seconds"),
    pytest.param({"limits": {"attempts": 21}}, "limits.attempts", 21, ["equal to 20"], id="too-many-attempts"),
    pytest.param({"limits": {"cost_usd": "inf"}}, "limits.cost_usd", "inf", ["finite number"], id="cost-infinite"),
    pytest.param({"limits": {"cost_usd": "nan"}}, "limits.cost_usd", "nan", ["finite number"], id="cost-nan"),
    pytest.param(
        {"limits": {"batch_cost_usd": "inf"}}, "limits.batch_cost_usd", "inf", ["finite"], id="batch-infinite"
    ),
    pytest.param({"limits": {"batch_cost_usd": 1}}, "batch", None, ["name of the batch"], id="batch-limit-alone"),
    pytest.param({"prority": "low"}, "parameter", "prority", ["one of", "priority"], id="parameter-unknown"),
    pytest.param(
        {"limits": {"secs": 1}}, "parameter", "limits.secs", ["one of seconds, llm_calls"], id="limit-unknown"
    ),
]


@pytest.mark.parametrize(("change", "field", "value", "allowed"), REFUSED)
def test_a_bad_value_is_refused_with_its_field_and_what_is_allowed(
    change: dict[str, Any], field: str, value: Any, allowed: list[str]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        DevTask.parse(**GIVEN | change)
    assert refused.value.field == field
    assert str(refused.value.value).strip() == str(value).strip()
    assert all(words in refused.value.allowed for words in allowed), refused.value.allowed
    assert "\n" not in str(refused.value), "one line, no traceback"
    assert not refused.value.allowed.startswith(("Value error", "Input should", "String should"))


@pytest.mark.parametrize("field", GIVEN)
def test_a_missing_value_is_asked_for_by_name(field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        DevTask.parse(**{name: value for name, value in GIVEN.items() if name != field})
    assert str(refused.value) == f"{field}: None is not allowed; expected a value: it is required"


def test_a_refused_value_that_is_long_is_shown_in_part() -> None:
    with pytest.raises(InvalidInput, match="at most 20000 characters") as refused:
        DevTask.parse(**GIVEN | {"description": "x" * 20_001})
    assert len(str(refused.value)) < 500
    assert refused.value.value == "x" * 20_001


@pytest.mark.parametrize(
    ("change", "title"),
    [
        pytest.param({"target_file": "src/auth.py"}, "unit_test src/auth.py", id="with-target"),
        pytest.param({}, "unit_test project", id="the-repository's-name"),
        pytest.param({"repository": "https://host/me/shop.git/"}, "unit_test shop.git", id="a-url's-last-part"),
        pytest.param({"repository": "."}, "unit_test .", id="here"),
    ],
)
def test_a_title_says_what_is_done_to_what(change: dict[str, Any], title: str) -> None:
    assert DevTask.parse(**GIVEN | change).title == title


@pytest.mark.parametrize("limit", [None, 0, 0.5])
def test_a_task_may_cost_nothing_something_or_anything(limit: float | None) -> None:
    assert DevTask.parse(**GIVEN | {"limits": {"cost_usd": limit}}).limits.cost_usd == limit


def test_a_task_cannot_be_changed() -> None:
    task = DevTask.parse(**GIVEN)
    with pytest.raises(ValueError, match="frozen"):
        task.description = "something else"  # pyright: ignore[reportAttributeAccessIssue]
