"""The flows of the workers' benchmark."""

import asyncio
from pathlib import Path

from prefect import flow


@flow
async def trivial(folder: str) -> None:
    """Do nothing."""


@flow
async def hold(folder: str) -> None:
    """Keep what a development task imports in memory until told to go."""
    import flows.development_task  # noqa: F401

    (Path(folder) / str(asyncio.get_running_loop().time())).touch()
    while not (Path(folder).parent / "go").exists():
        await asyncio.sleep(0.2)
