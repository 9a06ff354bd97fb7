"""What prefect.yaml declares is true: Prefect itself ignores keys that it does not know."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.utilities.callables import parameter_schema

from deployments.setup import POOL, PROJECT, QUEUE_PRIORITIES
from devtasks.task import TaskPriority

DECLARED = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
DEPLOYMENTS: list[Mapping[str, Any]] = DECLARED["deployments"]
KNOWN = {"name", "entrypoint", "enforce_parameter_schema", "tags", "work_pool"}


def load(entrypoint: str) -> Flow[..., Any]:
    module, _, name = entrypoint.rpartition(".")
    return getattr(import_module(module), name)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda each: each["name"])
def test_a_deployment_has_only_keys_that_prefect_reads(deployment: Mapping[str, Any]) -> None:
    assert deployment.keys() <= KNOWN


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda each: each["name"])
def test_an_entrypoint_loads_the_flow_of_that_name(deployment: Mapping[str, Any]) -> None:
    name = "batch" if deployment["name"] == "batch" else "development-task"
    assert load(deployment["entrypoint"]).name == name


def test_each_priority_has_the_deployment_of_its_queue() -> None:
    queues = {each["name"]: each["work_pool"] for each in DEPLOYMENTS if each["name"] != "batch"}
    assert queues == {str(each): {"name": POOL, "work_queue_name": str(each)} for each in TaskPriority}


def test_every_queue_of_the_pool_has_a_priority_of_its_own() -> None:
    assert QUEUE_PRIORITIES.keys() == {*map(str, TaskPriority), "default"}
    assert [QUEUE_PRIORITIES[each] for each in TaskPriority] == [1, 2, 3, 4]
    assert len(set(QUEUE_PRIORITIES.values())) == len(QUEUE_PRIORITIES)


@pytest.mark.parametrize(
    ("deployment", "required"),
    [(DEPLOYMENTS[0], ["category", "description", "repository"]), (DEPLOYMENTS[-1], ["name", "tasks"])],
    ids=["task", "batch"],
)
def test_every_parameter_is_described_in_the_form(deployment: Mapping[str, Any], required: list[str]) -> None:
    schema = parameter_schema(load(deployment["entrypoint"]))
    bare = [name for name, field in schema.properties.items() if not field.get("description")]
    assert bare == []
    assert schema.required == required


@pytest.mark.parametrize("name", ["category", "complexity", "delivery"])
def test_a_choice_is_a_drop_down_in_the_form(name: str) -> None:
    schema = parameter_schema(load(DEPLOYMENTS[0]["entrypoint"]))
    reference = schema.properties[name]["$ref"].rsplit("/", 1)[-1]
    assert len(schema.definitions[reference]["enum"]) > 1
