"""A flow with the overlap guard, for the tests of schedules."""

import asyncio
from pathlib import Path

from prefect import flow

from flows.overlap import skip_if_running


@flow
async def holds_alone(folder: str):
    """Keep a slot of the worker until the file `go` is there, unless another run of the deployment does so."""
    if skipped := await skip_if_running():
        return skipped
    async with asyncio.timeout(300):  # no test takes so long: nobody is left to let it go
        while not (Path(folder) / "go").exists():
            await asyncio.sleep(0.05)
