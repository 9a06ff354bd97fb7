import json
from pathlib import Path
from typing import Any

import pytest

from devtasks.batch.manifest import check_repositories, read_manifest
from devtasks.batch.order import MAX_BYTES, BatchLimits, BatchOrder
from devtasks.errors import InvalidEntries, InvalidInput
from devtasks.task import DevTask

ENTRY = {"category": "unit_test", "description": "Test it.", "repository": "shop", "target_file": "a.py"}
FORMS = {
    "list.yaml": "- {category: unit_test, description: Test it., repository: shop, target_file: a.py}\n",
    "defaults.yml": (
        "defaults: {category: unit_test, repository: shop, limits: {attempts: 2}}\n"
        "tasks:\n- {description: Test it., target_file: a.py, limits: {cost_usd: 1}}\n"
    ),
    "list.json": json.dumps([ENTRY]),
    "defaults.json": json.dumps({"defaults": {"repository": "shop"}, "tasks": [ENTRY]}),
    "lines.jsonl": f"{json.dumps(ENTRY)}\n\n",
    "table.csv": "category,description,repository,target_file,limits.attempts,context_files\n"
    "unit_test,Test it.,shop,a.py,2,b.py; c.py\n",
}


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_read_and_repositories_are_beside_it(tmp_path: Path, name: str) -> None:
    (task,) = read_manifest(written(tmp_path, name, FORMS[name]))
    assert (task.task_id, task.category, task.description) == ("1", "unit_test", "Test it.")
    assert (task.repository, task.target_file) == (str(tmp_path / "shop"), "a.py")


def test_limits_of_an_entry_complete_those_of_the_defaults(tmp_path: Path) -> None:
    (task,) = read_manifest(written(tmp_path, "m.yml", FORMS["defaults.yml"]))
    assert (task.limits.attempts, task.limits.cost_usd) == (2, 1)


def test_cell_of_a_table_holds_several_files(tmp_path: Path) -> None:
    (task,) = read_manifest(written(tmp_path, "m.csv", FORMS["table.csv"]))
    assert (task.context_files, task.limits.attempts) == (("b.py", "c.py"), 2)


def test_url_is_no_path_beside_the_manifest(tmp_path: Path) -> None:
    url = "https://example.org/shop.git"
    (task,) = read_manifest(written(tmp_path, "m.json", json.dumps([ENTRY | {"repository": url}])))
    assert task.repository == url


def test_all_mistakes_are_told_at_once_with_their_places(tmp_path: Path) -> None:
    lines: list[Any] = [
        ENTRY | {"category": "tests", "prio": "high"},
        ENTRY,
        ENTRY | {"limits": {"attempts": 0, "euros": 3}},
        [1],
        ENTRY | {"priority": "low"},
        ENTRY | {"task_id": "2", "description": "Other."},
        ENTRY | {"environment": "none", "setup_command": "make"},
    ]
    path = written(tmp_path, "m.jsonl", "\n".join(map(json.dumps, lines)))
    with pytest.raises(InvalidEntries) as refused:
        read_manifest(path)
    told = str(refused.value)
    assert told.startswith(f"{path}: not allowed, and nothing was submitted\n")
    for part in (
        "line 1: category: 'tests' is not allowed; expected 'unit_test', ",
        "line 1: parameter: 'prio' is not allowed; expected one of task_id",
        "line 3: limits.attempts: 0 is not allowed; expected greater than or equal to 1",
        "line 3: parameter: 'limits.euros' is not allowed; expected one of seconds",
        "line 4: entry: [1] is not allowed; expected a mapping",
        "line 5: the same work as line 2",
        "line 6: the same task_id as line 2",
        "line 7: setup_command: 'make' is not allowed",
    ):
        assert part in told
    assert refused.value.exit_code == 2


def test_unknown_default_is_told_once(tmp_path: Path) -> None:
    text = json.dumps({"defaults": {"prio": "low"}, "tasks": [ENTRY, ENTRY | {"target_file": "b.py"}]})
    with pytest.raises(InvalidEntries) as refused:
        read_manifest(written(tmp_path, "m.json", text))
    assert len(refused.value.mistakes) == 1
    assert refused.value.mistakes[0].startswith("defaults: parameter: 'prio' is not allowed")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.toml", "", ".yaml, .yml, .json, .jsonl, .ndjson, .csv"),
        ("m.yaml", "a: [", "a well-formed file"),
        ("m.yaml", "tasks: 3", "tasks: Input should be a valid list"),
        ("m.yaml", "jobs: []", "the mapping `defaults`"),
        ("m.yaml", "[]", "at least one entry"),
        ("m.json", "[{]", "a well-formed file"),
        ("m.jsonl", "{}\n{", "line 2: "),
        ("m.csv", 'category,description\nunit_test,"x', "a well-formed file"),
        ("m.csv", "category,description\nunit_test\n", "line 2: entry: 'a row with more or fewer cells"),
    ],
)
def test_file_that_is_no_manifest_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_manifest(written(tmp_path, name, text))
    assert message in str(refused.value)


def test_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        read_manifest(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="text in UTF-8"):
        read_manifest(tmp_path / "bytes.yaml")


def test_every_task_whose_repository_is_not_there_is_told(tmp_path: Path) -> None:
    text = json.dumps([ENTRY, ENTRY | {"repository": "other"}])
    tasks = read_manifest(written(tmp_path, "m.json", text))
    with pytest.raises(InvalidEntries) as refused:
        check_repositories("m.json", tasks)
    assert [each.partition(":")[0] for each in refused.value.mistakes] == [
        "task 1, unit_test a.py",
        "task 2, unit_test a.py",
    ]


def make_order(*tasks: DevTask, **changes: Any) -> BatchOrder:
    return BatchOrder.parse(**{"name": "night", "tasks": tasks} | changes)


def make_tasks(number: int, description: str = "Test it.") -> list[DevTask]:
    return [
        DevTask.parse(**ENTRY | {"task_id": str(each), "description": description}) for each in range(1, number + 1)
    ]


def test_order_comes_back_from_its_parameters() -> None:
    order = make_order(*make_tasks(2), limits=BatchLimits(cost_usd=1.5, in_flight=3), one_branch="night")
    assert BatchOrder.of(order.parameters()) == order
    assert (order.parameters()["max_cost_usd"], order.parameters()["max_in_flight"]) == (1.5, 3)


def test_order_that_is_too_large_for_a_flow_run_is_refused() -> None:
    order = make_order(*make_tasks(30, "x" * (MAX_BYTES // 30)))
    with pytest.raises(InvalidInput, match="split the batch"):
        order.parameters()


def test_order_of_a_pull_request_names_its_branch() -> None:
    with pytest.raises(InvalidInput, match="one_branch"):
        make_order(*make_tasks(1), pull_request=True)


def test_order_has_no_two_tasks_of_a_name() -> None:
    with pytest.raises(InvalidInput, match="no other task"):
        make_order(*make_tasks(1), *make_tasks(1))


@pytest.mark.parametrize("limits", [{"tasks": 0}, {"hours": 0}, {"cost_usd": -1}, {"in_flight": 0}, {"failures": 0}])
def test_limit_that_cannot_be_met_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match=f"max_{next(iter(limits))}"):
        BatchLimits.parse(**limits)
