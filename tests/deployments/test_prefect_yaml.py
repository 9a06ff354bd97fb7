"""What prefect.yaml declares is true: Prefect itself ignores keys that it does not know."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.utilities.callables import parameter_schema

from deployments.automations import TAKE_UP
from deployments.schedules import TAG
from deployments.setup import POOL, PROJECT, QUEUE_PRIORITIES
from devtasks.task import TaskPriority

DECLARED = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
DEPLOYMENTS: list[Mapping[str, Any]] = DECLARED["deployments"]
TASKS = [each for each in DEPLOYMENTS if each["name"] in set(TaskPriority)]
SCHEDULED = [each for each in DEPLOYMENTS if "schedules" in each]
SPENDS_MONEY = {"test-generation/nightly", "documentation/weekly"}
KNOWN = {"name", "entrypoint", "enforce_parameter_schema", "tags", "work_pool", "schedules"}
KNOWN_OF_SCHEDULES = {"slug", "cron", "timezone", "active"}


def load(entrypoint: str) -> Flow[..., Any]:
    module, _, name = entrypoint.rpartition(".")
    return getattr(import_module(module), name)


def path(deployment: Mapping[str, Any]) -> str:
    return f"{load(deployment['entrypoint']).name}/{deployment['name']}"


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=path)
def test_a_deployment_has_only_keys_that_prefect_reads(deployment: Mapping[str, Any]) -> None:
    assert deployment.keys() <= KNOWN


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=path)
def test_a_deployment_loads_its_flow_and_waits_in_a_queue_that_has_a_priority(deployment: Mapping[str, Any]) -> None:
    assert load(deployment["entrypoint"]).description
    assert deployment["tags"] == [TAG]
    assert deployment["work_pool"]["name"] == POOL
    assert deployment["work_pool"]["work_queue_name"] in QUEUE_PRIORITIES


def test_no_two_deployments_have_the_same_path_and_the_automation_s_is_there() -> None:
    paths = [path(each) for each in DEPLOYMENTS]
    assert len(set(paths)) == len(paths)
    assert TAKE_UP in paths


def test_each_priority_has_the_deployment_of_its_queue() -> None:
    queues = {each["name"]: each["work_pool"]["work_queue_name"] for each in TASKS}
    assert queues == {str(each): str(each) for each in TaskPriority}
    assert {load(each["entrypoint"]).name for each in TASKS} == {"development-task"}


@pytest.mark.parametrize("deployment", SCHEDULED, ids=path)
def test_a_schedule_has_a_slug_a_cron_and_a_time_zone_and_is_paused_where_it_would_spend_money(
    deployment: Mapping[str, Any],
) -> None:
    (schedule,) = deployment["schedules"]
    assert schedule.keys() <= KNOWN_OF_SCHEDULES
    # A deployment's schedules are told apart by their slugs: without one each deploy would make another.
    assert schedule["slug"] == deployment["name"]
    assert CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
    assert ZoneInfo(schedule["timezone"])
    assert schedule.get("active", True) is (path(deployment) not in SPENDS_MONEY)


def test_every_queue_of_the_pool_has_a_priority_of_its_own() -> None:
    assert QUEUE_PRIORITIES.keys() == {*map(str, TaskPriority), "default"}
    assert [QUEUE_PRIORITIES[each] for each in TaskPriority] == [1, 2, 3, 4]
    assert len(set(QUEUE_PRIORITIES.values())) == len(QUEUE_PRIORITIES)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=path)
def test_every_parameter_is_described_in_the_form(deployment: Mapping[str, Any]) -> None:
    schema = parameter_schema(load(deployment["entrypoint"]))
    assert [name for name, field in schema.properties.items() if not field.get("description")] == []


def test_a_task_needs_its_category_a_description_and_a_repository() -> None:
    schema = parameter_schema(load(TASKS[0]["entrypoint"]))
    assert schema.required == ["category", "description", "repository"]


@pytest.mark.parametrize("name", ["category", "complexity", "delivery"])
def test_a_choice_is_a_drop_down_in_the_form(name: str) -> None:
    schema = parameter_schema(load(TASKS[0]["entrypoint"]))
    reference = schema.properties[name]["$ref"].rsplit("/", 1)[-1]
    assert len(schema.definitions[reference]["enum"]) > 1
