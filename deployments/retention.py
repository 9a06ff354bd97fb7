"""Clearing up after runs with what the Prefect server knows of them."""

import asyncio
import time
from collections.abc import Iterable
from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound

from deployments.stack import Say
from devtasks.config import OpenHandsConfig
from devtasks.retention import DAY, Removed, Scope, Standing, collect
from devtasks.run_folder import RunFolder

GB = 1_000_000_000


def collect_all(
    config: OpenHandsConfig, standings: dict[str, Standing], *, days: float | None = None, dry_run: bool = False
) -> list[Removed]:
    """Remove in every place what the settings do not let stay; `days` takes the place of both settings of days.

    A run without a standing is one whose server cannot be asked.
    """
    scopes = [_scope(each, standings, days) for each in config.places()]
    # With OPENHANDS_WORKSPACE_ROOT all of them share the runs.
    return list(dict.fromkeys(removed for scope in scopes for removed in collect(scope, dry_run=dry_run)))


def _scope(config: OpenHandsConfig, standings: dict[str, Standing], days: float | None) -> Scope:
    return Scope(
        runs=config.runs_folder,
        caches=(config.repositories_folder, config.environments_folder),
        now=time.time(),
        run_seconds=(config.keep_runs_days if days is None else days) * DAY,
        run_bytes=int(config.keep_runs_gb * GB),
        cache_seconds=(config.keep_caches_days if days is None else days) * DAY,
        cache_bytes=int(config.keep_caches_gb * GB),
        standing=lambda flow_run_id: standings.get(flow_run_id, Standing.UNREACHABLE),
    )


async def ask_standings(client: PrefectClient, config: OpenHandsConfig) -> dict[str, Standing]:
    """Return what the server says of every run that has a folder; raises HTTPError where it does not answer."""
    folders = (folder for each in config.places() for folder in RunFolder.all(each.runs_folder))
    return await _standings(client, {folder.flow_run_id for folder in folders})


async def clear_daily(config: OpenHandsConfig, say: Say) -> None:
    """Collect now and once a day, until cancelled; a server that does not answer spares what only it can tell."""
    while True:
        standings: dict[str, Standing] = {}
        try:
            async with get_client() as client:
                standings = await ask_standings(client, config)
        except (HTTPError, OSError) as error:
            say(f"clearing up without the server, which does not answer ({type(error).__name__})")
        removed = await asyncio.to_thread(collect_all, config, standings)
        if removed:
            say(f"cleared up: {summary(removed)}")
        await asyncio.sleep(DAY)


def summary(removed: Iterable[Removed]) -> str:
    """Return what went as one line: how many of each kind, and their space."""
    removed = list(removed)
    gone = [each for each in removed if not each.error]
    kinds = {kind: sum(each.kind == kind for each in gone) for kind in dict.fromkeys(each.kind for each in gone)}
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "nothing"
    failed = f"; {len(removed) - len(gone)} could not be removed" if len(gone) < len(removed) else ""
    return f"{counted}, {sum(each.bytes for each in gone) / 1_000_000:,.1f} MB{failed}"


async def _standings(client: PrefectClient, flow_run_ids: Iterable[str]) -> dict[str, Standing]:
    found: dict[str, Standing] = {}
    for flow_run_id in flow_run_ids:
        try:
            flow_run = await client.read_flow_run(UUID(flow_run_id))
        except ObjectNotFound:
            found[flow_run_id] = Standing.UNKNOWN
        else:
            found[flow_run_id] = _standing(flow_run)
    return found


def _standing(flow_run: FlowRun) -> Standing:
    if flow_run.state_type is StateType.CRASHED:  # its folder tells whether a worker takes it up again
        return Standing.UNKNOWN
    return Standing.OVER if flow_run.state and flow_run.state.is_final() else Standing.OPEN
