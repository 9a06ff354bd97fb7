"""Automations as code: what a Prefect server does by itself when runs of devtasks fail, wait or go silent.

Prefect's own command makes a second automation of the same name each time, so the set-up looks for the name first and
writes only what differs. Those that tell somebody are there only while there is a block to tell by.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.events.actions import ActionTypes, CallWebhook, RunDeployment, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from deployments.schedules import TAG
from devtasks.config import OpenHandsConfig
from devtasks.errors import InvalidInput
from devtasks.task import TaskStatus
from flows.giving_back import AWAITING_TASKS
from flows.taking_up import HEARTBEAT

NOTIFY_BLOCK = "devtasks-notify"
"""The name of the Webhook block that the set-up makes from DEVTASKS_NOTIFY_URL."""

TAKE_UP = "take-up-run/lost"

QUIET = timedelta(hours=12)
"""How long a notice of a used-up quota holds: every deferred run meets the same quota, which comes back once a day."""

_NEEDS_NO_PROCESS = (*(set(TaskStatus) - {TaskStatus.PENDING, TaskStatus.RUNNING}), AWAITING_TASKS, "Completed")
"""States after which no heartbeat is waited for; one that is missing here only costs a look."""

_FLOW = "development-task"
_RUN_URL = "{{ flow_run | ui_url }}"


@dataclass(frozen=True)
class Silence:
    """When a run counts as silent: without a heartbeat or an end for `within`; it is looked at `look_after` later.

    90 seconds are three heartbeats. The minute after that lets heartbeats come in from runs that live, when it was the
    server that was away.
    """

    within: timedelta = timedelta(seconds=90)
    look_after: timedelta = timedelta(seconds=60)


@dataclass(frozen=True)
class Channel:
    """The block that notices go out by: a Webhook, or one of Prefect's notification blocks."""

    document: UUID
    webhook: bool

    def action(self, kind: str, subject: str, body: str, **fields: str) -> ActionTypes:
        """Return the action that sends a notice; `fields` are Jinja expressions, for machines."""
        if not self.webhook:
            return SendNotification(block_document_id=self.document, subject=f"devtasks: {subject}", body=body)
        values = {"kind": f'"{kind}"', "text": _tojson(f"{subject}\n{body}"), "title": _tojson(subject)}
        values |= {name: f"{{{{ {expression} | tojson }}}}" for name, expression in fields.items()}
        payload = ",\n".join(f'  "{name}": {value}' for name, value in values.items())
        return CallWebhook(block_document_id=self.document, payload=f"{{\n{payload}\n}}")


@dataclass(frozen=True)
class Notice:
    """What of a task is told: when it enters one of these states, and not again within `quiet` for any task."""

    kind: str
    states: Sequence[str]
    about: str
    quiet: timedelta = timedelta()

    @property
    def name(self) -> str:
        """The automation's name."""
        return f"devtasks: {self.kind}"

    def automation(self, channel: Channel) -> AutomationCore:
        """Return the automation that tells by this channel."""
        return AutomationCore(
            name=self.name,
            description=self.about,
            trigger=EventTrigger(
                expect={f"prefect.flow-run.{state}" for state in self.states},
                match_related={"prefect.resource.role": "flow", "prefect.resource.name": _FLOW},  # pyright: ignore[reportArgumentType]
                for_each=set() if self.quiet else {"prefect.resource.id"},
                posture=Posture.Reactive,
                within=self.quiet,
            ),
            actions=[
                channel.action(
                    self.kind,
                    "{{ flow_run.state.name }}: {{ flow_run.name }}",
                    f"{{{{ flow_run.state.message or '' }}}}\n{_RUN_URL}",
                    state="flow_run.state.name",
                    reason="flow_run.state.message",
                    flow_run_id="(flow_run.id | string)",
                    url="(flow_run | ui_url)",
                    simulated="('(simulated)' in (flow_run.state.message or ''))",
                )
            ],
        )


NOTICES = (
    Notice(
        "task failed",
        (TaskStatus.REJECTED, TaskStatus.FAILED, TaskStatus.CRASHED),
        "Tells of each task that ended without a result: Rejected, Failed or Crashed.",
    ),
    Notice("task escalated", (TaskStatus.NEEDS_REVIEW,), "Tells of each task that waits for a person."),
    Notice(
        "quota exhausted",
        (TaskStatus.AWAITING_QUOTA,),
        "Tells that tasks wait for quota: once in twelve hours, not once for each task.",
        QUIET,
    ),
)

BATCH = "devtasks: batch finished"
SILENT = "devtasks: run without heartbeat"
NAMES = (SILENT, BATCH, *(each.name for each in NOTICES))
"""Every automation that the set-up makes, and takes away where it is not wanted."""


def silent_runs(take_up: UUID, silence: Silence) -> AutomationCore:
    """Return the automation that has each run looked at whose heartbeats stay away."""
    look: ActionTypes = RunDeployment(
        source="selected",
        deployment_id=take_up,
        job_variables=None,
        parameters={"run": "{{ labels.prefect.resource.id | replace('prefect.flow-run.', '') }}"},
        schedule_after=silence.look_after,
    )
    return AutomationCore(
        name=SILENT,
        description="Looks at each run that sends no heartbeats any more; one that lost its worker is queued again.",
        trigger=EventTrigger(
            after={HEARTBEAT},
            expect={HEARTBEAT, *(f"prefect.flow-run.{state}" for state in _NEEDS_NO_PROCESS)},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"},  # pyright: ignore[reportArgumentType]
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            within=silence.within,
        ),
        actions=[look],
    )


def finished_batches(channel: Channel) -> AutomationCore:
    """Return the automation that tells of each batch that has ended."""
    return AutomationCore(
        name=BATCH,
        description="Tells of each batch that has ended, with its counts.",
        trigger=EventTrigger(
            expect={"devtasks.batch.finished"},
            match={"prefect.resource.id": "devtasks.batch.*"},  # pyright: ignore[reportArgumentType]
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
        ),
        actions=[
            channel.action(
                "batch finished",
                "Batch {{ event.resource.name }}: {{ event.payload.state }}"
                "{% if event.payload.simulated %} (simulated){% endif %}",
                "{{ event.payload.reason }}\n"
                "{% for standing, number in event.payload.counts.items() %}{{ standing }}: {{ number }}  {% endfor %}\n"
                f"{_RUN_URL}",
                batch="event.payload",
                flow_run_id="(flow_run.id | string)",
                url="(flow_run | ui_url)",
                simulated="event.payload.simulated",
            )
        ],
    )


async def set_up_automations(client: PrefectClient, config: OpenHandsConfig, silence: Silence | None = None) -> None:
    """Bring the server's automations to what is wanted: make, change and remove only where something differs.

    One that a person has switched off stays off. Raises InvalidInput where DEVTASKS_NOTIFY_BLOCK names no block that
    can tell anybody.
    """
    channel = await find_channel(client, config.notify_block)
    take_up = await client.read_deployment_by_name(TAKE_UP)
    wanted = [silent_runs(take_up.id, silence or Silence())]
    if channel:
        wanted += [finished_batches(channel), *(each.automation(channel) for each in NOTICES)]
    by_name = {each.name: each for each in wanted}
    for name in NAMES:
        await _bring(client, name, by_name.get(name))


async def find_channel(client: PrefectClient, block: str | None) -> Channel | None:
    """Return the block of this name (TYPE/NAME), by default the one made from DEVTASKS_NOTIFY_URL; None without one."""
    slug, _, name = (block or f"webhook/{NOTIFY_BLOCK}").partition("/")
    try:
        document = await client.read_block_document_by_name(name, slug, include_secrets=False)
    except ObjectNotFound:
        if block is None:
            return None
        allowed = "TYPE/NAME of a block of this server, such as slack-webhook/team; make it in the UI first"
        raise InvalidInput("DEVTASKS_NOTIFY_BLOCK", block, allowed) from None
    capabilities = document.block_schema.capabilities if document.block_schema else []
    if slug != "webhook" and "notify" not in capabilities:
        raise InvalidInput("DEVTASKS_NOTIFY_BLOCK", block, "a Webhook block, or one of Prefect's notification blocks")
    return Channel(document.id, webhook=slug == "webhook")


async def _bring(client: PrefectClient, name: str, wanted: AutomationCore | None) -> None:
    kept, *others = [*await client.read_automations_by_name(name), None]
    for other in (each for each in others if each):
        await client.delete_automation(other.id)
    if kept is None:
        if wanted:
            await client.create_automation(wanted)
    elif wanted is None:
        await client.delete_automation(kept.id)
    elif _said(kept) != _said(wanted):
        await client.update_automation(kept.id, wanted.model_copy(update={"enabled": kept.enabled}))


def _said(automation: AutomationCore) -> dict[str, object]:
    return automation.model_dump(include={"description", "trigger", "actions"})


def _tojson(template: str) -> str:
    """Return a template that renders another one as a JSON string."""
    return f"{{% filter tojson %}}{template}{{% endfilter %}}"
