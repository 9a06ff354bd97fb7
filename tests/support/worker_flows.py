"""Flows that show what their worker gives them and lets them do, in files of `folder`."""

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path

from prefect import flow, get_run_logger, pause_flow_run
from prefect.settings import get_current_settings

LINES = 200


def note(folder: str, name: str, step: str) -> None:
    """Append one line; all runs of a folder append to the same file, so its order is theirs."""
    with (Path(folder) / "steps").open("a") as file:
        file.write(f"{name}\t{step}\t{os.getpid()}\t{os.environ['PREFECT__WORKER_NAME']}\n")


@flow
async def holds(folder: str, name: str) -> None:
    """Keep a slot of the worker until the file NAME.go is there."""
    note(folder, name, "began")
    async with asyncio.timeout(300):  # no test takes so long: nobody is left to let it go
        while not (Path(folder) / f"{name}.go").exists():
            await asyncio.sleep(0.05)
    note(folder, name, "ended")


@flow
async def pauses(folder: str) -> None:
    note(folder, "pauses", "began")
    await pause_flow_run(timeout=300, poll_interval=1)
    note(folder, "pauses", "ended")


@flow
async def looks(folder: str) -> None:
    """Write down what of its surroundings a process inherits or sets up at its start."""
    settings = get_current_settings()
    found = {
        "environment": dict(os.environ),
        "heartbeat": settings.flows.heartbeat_frequency,
        "retries": settings.tasks.default_retries,
        "folder": str(Path.cwd()),
        "path": sys.path,
        "arguments": sys.argv,
        "main": sys.modules["__main__"].__name__,
        "leads": (os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()),
        "ignored": [number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "streams": [(each.encoding, each.errors, each.line_buffering) for each in (sys.stdout, sys.stderr)],
    }
    (Path(folder) / "found.json").write_text(json.dumps(found))


@flow(log_prints=True)
async def says(folder: str) -> None:
    """End with all lines still to be sent."""
    print("printed first")
    for number in range(LINES):
        get_run_logger().info("line %d.", number)
    print("printed last")


@flow
def says_and_exits(folder: str) -> None:
    """Leave without ending the flow run, once its lines are on their way."""
    for number in range(LINES):
        get_run_logger().info("line %d.", number)
    for handler in logging.getLogger("prefect.flow_runs").handlers:
        handler.flush()
    os._exit(3)
