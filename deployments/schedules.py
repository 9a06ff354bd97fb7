"""What people have set on scheduled deployments: `prefect deploy` writes over it, and the set-up puts it back."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse

TAG = "devtasks"
"""The tag that prefect.yaml gives every deployment, and Prefect every run of one."""


@asynccontextmanager
async def keeping_schedules() -> AsyncGenerator[None]:
    """Deploy inside: schedules that exist already, and the parameters of their deployments, stay as they are.

    So the cron, the time zone, whether it is active and what it runs with are the user's once it is there; a schedule
    that was deleted is made anew as prefect.yaml has it.
    """
    async with get_client() as client:
        before = await _scheduled(client)
        yield
        after = {each.id: each for each in await _scheduled(client)}
        for deployment in before:
            if deployment.id in after:
                await _restore(client, deployment, after[deployment.id])


async def _scheduled(client: PrefectClient) -> Iterable[DeploymentResponse]:
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    return [each for each in await client.read_deployments(deployment_filter=ours) if each.schedules]


async def _restore(client: PrefectClient, was: DeploymentResponse, now: DeploymentResponse) -> None:
    if was.parameters != now.parameters:
        await client.update_deployment(was.id, DeploymentUpdate(parameters=was.parameters))
    known = {each.slug: each for each in now.schedules}
    for schedule in was.schedules:
        if (new := known.get(schedule.slug)) and _set(schedule) != _set(new):
            await client.update_deployment_schedule(
                was.id, new.id, schedule.active, schedule.schedule, parameters=schedule.parameters
            )


def _set(schedule: DeploymentSchedule) -> tuple[object, ...]:
    return schedule.active, schedule.schedule, schedule.parameters
