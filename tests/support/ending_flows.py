"""Flows that end in every way a flow run can, for the workers' tests. Each writes its process number to `folder`."""

import asyncio
import json
import os
import subprocess
import time
from pathlib import Path

from prefect import flow, get_run_logger, suspend_flow_run, task
from prefect.logging.loggers import flow_run_logger


def tell(flow, flow_run, state) -> None:
    """Say in the run's log that a hook was called, and with which state."""
    flow_run_logger(flow_run, flow).info("hook: %s", state.name)


HOOKS = {"on_completion": [tell], "on_failure": [tell], "on_cancellation": [tell], "on_crashed": [tell]}


def announce(folder: str, *children: subprocess.Popen[bytes]) -> None:
    path = Path(folder) / "pids"
    path.with_suffix(".new").write_text(json.dumps([os.getpid(), *(child.pid for child in children)]))
    path.with_suffix(".new").rename(path)


@flow(**HOOKS, log_prints=True)
async def succeeds(folder: str) -> None:
    announce(folder)
    for number in range(50):
        get_run_logger().info("line %d", number)
    print("printed")


@flow(**HOOKS)
def succeeds_in_sync(folder: str) -> int:
    announce(folder)
    get_run_logger().info("at work")
    return 7


@flow(**HOOKS)
async def fails(folder: str) -> None:
    announce(folder)
    raise ValueError("on purpose")


@task
async def broken() -> None:
    raise ValueError("in a task")


@flow(**HOOKS)
async def task_fails(folder: str) -> None:
    announce(folder)
    await broken()


@flow(**HOOKS)
async def waits_for_tool(folder: str) -> None:
    tool = await asyncio.create_subprocess_exec("sleep", "3333", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    announce(folder, tool)
    await tool.wait()


@flow(**HOOKS)
def has_child(folder: str) -> None:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    announce(folder, subprocess.Popen(["sh", "-c", "sleep 3333 & wait"], **quiet), subprocess.Popen(["sleep", "3333"]))
    time.sleep(3333)


@flow(**HOOKS)
async def exits(folder: str) -> None:
    announce(folder)
    os._exit(3)


@flow(**HOOKS)
async def is_killed(folder: str) -> None:
    announce(folder)
    await asyncio.sleep(3333)


@flow(**HOOKS)
async def is_terminated(folder: str) -> None:
    announce(folder)
    await asyncio.sleep(3333)


@flow(**HOOKS, timeout_seconds=0.5)
async def times_out(folder: str) -> None:
    announce(folder)
    await asyncio.sleep(3333)


@flow(**HOOKS)
async def suspends(folder: str) -> None:
    announce(folder)
    await suspend_flow_run(timeout=300, key="once")


@flow(**HOOKS)
async def outlives_worker(folder: str) -> None:
    announce(folder)
    while not (Path(folder) / "go").exists():
        await asyncio.sleep(0.1)


@flow(**HOOKS)
async def grows(folder: str) -> None:
    announce(folder)
    held = []
    while True:
        held.append(os.urandom(8_000_000))
        await asyncio.sleep(0.05)
