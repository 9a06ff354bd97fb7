"""Schedules on a real server: they fire, do not overlap, and stay as people have set them."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect_stack import SUPPORT, PrefectStack, until

from deployments.schedules import TAG
from deployments.setup import deploy
from deployments.stack import Connection

EVERY = timedelta(seconds=10)


async def runs_of(client: PrefectClient, deployment: UUID) -> list[FlowRun]:
    """Return the runs of a deployment that are not only planned, the oldest first."""
    wanted = FlowRunFilter.model_validate({"deployment_id": {"any_": [deployment]}, "start_time": {"is_null_": False}})
    return await client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.START_TIME_ASC)


def test_a_schedule_fires_and_while_its_run_goes_on_the_next_one_is_skipped(
    stack: PrefectStack, tmp_path: Path
) -> None:
    async def check() -> None:
        await stack.create_pool("scheduled", "prefork")
        async with stack.client() as client:
            flow_id = await client.create_flow_from_name("holds-alone")
            schedule = IntervalSchedule(interval=EVERY, anchor_date=datetime.now(UTC) + timedelta(seconds=3))
            deployment = await client.create_deployment(
                flow_id,
                "often",
                entrypoint="scheduled_flows.py:holds_alone",
                pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(SUPPORT)}}],
                work_pool_name="scheduled",
                parameters={"folder": str(tmp_path)},
                schedules=[DeploymentScheduleCreate(schedule=schedule)],
            )
            try:
                with stack.worker("scheduled", "--type", "prefork", "--limit", "2"):

                    async def states() -> list[str | None]:
                        return [each.state_name for each in await runs_of(client, deployment)]

                    async def skipped() -> bool:
                        return "Skipped" in await states()

                    await until(skipped, "the schedule has fired twice")
                    first, second, *_ = await runs_of(client, deployment)
                    assert first.auto_scheduled
                    assert first.state_name == "Running"
                    assert second.state
                    assert second.state.is_completed()
                    assert f"{first.name} ({first.id})" in (second.state.message or "")
                    (tmp_path / "go").touch()

                    async def ended() -> bool:
                        return (await states()).count("Completed") > 0

                    await until(ended, "the first one has gone on to its end")
            finally:
                await client.delete_deployment(deployment)

    asyncio.run(check())


def test_a_set_up_makes_one_schedule_each_and_leaves_what_a_person_has_set(server: PrefectStack) -> None:
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))

    async def scheduled(client: PrefectClient) -> dict[str, DeploymentResponse]:
        found = await client.read_deployments(deployment_filter=ours)
        return {each.name: each for each in found if each.schedules}

    async def check() -> None:
        async with server.client() as client:
            try:
                await deploy(os.environ | server.variables)
                made = await scheduled(client)
                assert {len(each.schedules) for each in made.values()} == {1}
                daily, (schedule,) = made["daily"], made["daily"].schedules
                mine = CronSchedule(cron="0 5 * * *", timezone="Europe/Berlin")
                await client.update_deployment_schedule(daily.id, schedule.id, active=False, schedule=mine)

                await deploy(os.environ | server.variables)
                again = await scheduled(client)
                assert again.keys() == made.keys()
                assert {len(each.schedules) for each in again.values()} == {1}
                (kept,) = again["daily"].schedules
                assert (kept.schedule, kept.active) == (mine, False)
                (other,) = again["hourly"].schedules
                assert other.active
            finally:
                # Their planned runs would be seen by other tests.
                for each in (await scheduled(client)).values():
                    await client.delete_deployment(each.id)

    with Connection(server.url, server.auth).settings():
        asyncio.run(check())
