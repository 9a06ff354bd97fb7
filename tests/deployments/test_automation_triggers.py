"""Which events the automations cover, and what they say, by the rules of Prefect's server but without one."""

import asyncio
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.events.schemas.automations import AutomationCore
from prefect.server.events.actions import LabelDiver
from prefect.server.events.schemas.automations import Automation
from prefect.server.events.schemas.automations import AutomationCore as StoredCore
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.server.utilities.user_templates import render_user_template

from deployments.automations import BATCH, NOTICES, SILENT, Channel, Silence, finished_batches, silent_runs

RUN = uuid4()
WEBHOOK = Channel(uuid4(), webhook=True)
AUTOMATIONS = [
    silent_runs(uuid4(), Silence()),
    finished_batches(WEBHOOK),
    *(each.automation(WEBHOOK) for each in NOTICES),
]
TASK, OTHER = "development-task", "refresh"


def stored(automation: AutomationCore) -> StoredCore:
    return StoredCore.model_validate(automation.model_dump(mode="json"))


def event(name: str, flow: str, resource: str = f"prefect.flow-run.{RUN}") -> ReceivedEvent:
    related = [
        {
            "prefect.resource.id": f"prefect.flow.{uuid4()}",
            "prefect.resource.role": "flow",
            "prefect.resource.name": flow,
        },
        {"prefect.resource.id": "prefect.tag.devtasks", "prefect.resource.role": "tag"},
    ]
    return ReceivedEvent.model_validate(
        {
            "id": uuid4(),
            "occurred": datetime.now(UTC),
            "event": name,
            "resource": {"prefect.resource.id": resource, "prefect.resource.name": "nightly"},
            "related": related,
        }
    )


@pytest.mark.parametrize(
    ("what", "names"),
    [
        (event("prefect.flow-run.Rejected", TASK), {"devtasks: task failed", SILENT}),
        (event("prefect.flow-run.Failed", TASK), {"devtasks: task failed", SILENT}),
        (event("prefect.flow-run.Crashed", TASK), {"devtasks: task failed", SILENT}),
        (event("prefect.flow-run.Failed", OTHER), {SILENT}),
        (event("prefect.flow-run.Accepted", TASK), {SILENT}),
        (event("prefect.flow-run.NeedsReview", TASK), {"devtasks: task escalated", SILENT}),
        (event("prefect.flow-run.AwaitingQuota", TASK), {"devtasks: quota exhausted", SILENT}),
        (event("prefect.flow-run.heartbeat", OTHER), {SILENT}),
        (event("prefect.flow-run.Running", TASK), set()),
        (event("devtasks.batch.finished", TASK, "devtasks.batch.1"), {BATCH}),
    ],
    ids=lambda value: value.event if isinstance(value, ReceivedEvent) else "",
)
def test_each_event_concerns_these_automations(what: ReceivedEvent, names: set[str]) -> None:
    concerned: set[str] = set()
    for each in AUTOMATIONS:
        trigger: Any = Automation(id=uuid4(), **stored(each).model_dump()).trigger
        if trigger.covers(what) and trigger.expects(what.event):
            concerned.add(each.name)
    assert concerned == names


@pytest.mark.parametrize("automation", AUTOMATIONS, ids=lambda each: each.name)
def test_what_the_server_gives_back_is_what_was_sent_so_that_nothing_differs(automation: AutomationCore) -> None:
    assert AutomationCore.model_validate_json(stored(automation).model_dump_json()) == automation


@pytest.mark.parametrize("message", ['no "result" <passed>\n(simulated)', "", None])
def test_a_notice_is_json_whatever_a_state_s_message_holds(message: str | None) -> None:
    (action,) = NOTICES[0].automation(WEBHOOK).actions
    state = SimpleNamespace(name="Rejected", message=message)
    known = {"flow_run": SimpleNamespace(name="unit_test a.py", id=RUN, state=state)}
    payload = json.loads(asyncio.run(render_user_template(action.payload.replace("ui_url", "string"), known)))
    assert (payload["state"], payload["reason"], payload["flow_run_id"]) == ("Rejected", message, str(RUN))
    assert payload["simulated"] is bool(message)
    assert payload["text"].startswith(f"Rejected: unit_test a.py\n{message or ''}\n")


def test_a_notification_block_gets_the_same_as_text() -> None:
    (action,) = NOTICES[0].automation(Channel(uuid4(), webhook=False)).actions
    assert action.type == "send-notification"
    assert "flow_run.state.message" in action.body


def test_the_silent_run_s_id_is_what_the_flow_is_asked_for() -> None:
    (action,) = AUTOMATIONS[0].actions
    labels = {"labels": LabelDiver({"prefect.resource.id": f"prefect.flow-run.{RUN}"})}
    assert {name: asyncio.run(render_user_template(value, labels)) for name, value in action.parameters.items()} == {
        "run": str(RUN)
    }
