"""The demo's parts: a fresh copy of the example project, and the simulator its model answers come from."""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import SecretStr

from blocks import OpenRouterCredentials
from deployments.setup import PROJECT
from devtasks.simulator import Scenario, Simulator
from devtasks.task import DevTask
from devtasks.workspace.git import Git

EXAMPLE = PROJECT / "examples" / "shop"
SCENARIO = PROJECT / "examples" / "demo.yaml"

SIMULATED = "simulated"
"""The name of the credentials block that leads to the simulator."""


def demo_task(repository: Path) -> DevTask:
    """Return the task on a copy of the example project."""
    return DevTask.parse(
        task_id="demo",
        category="unit_test",
        description="Write unit tests for the prices: discounts, codes, shipping and totals.",
        repository=str(repository),
        target_file="shop/pricing.py",
        delivery="branch",
    )


def fresh_example(folder: Path) -> Path:
    """Return a new git repository with the example project, in place of an earlier demo's."""
    repository = folder / "repository"
    shutil.rmtree(repository, ignore_errors=True)
    shutil.copytree(EXAMPLE, repository, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    commit_everything(repository, "The example project")
    return repository


def commit_everything(folder: Path, message: str) -> None:
    """Make a git repository of a folder, with all its files in one commit on `main`."""
    git = Git.at(folder)
    git.run("init", "--quiet", "--initial-branch=main")
    git.run("add", "--all")
    identity = ("-c", "user.name=devtasks", "-c", "user.email=devtasks@localhost")
    git.run(*identity, "commit", "--quiet", "-m", message)


@asynccontextmanager
async def simulated_models(scenario: Path, block: str) -> AsyncGenerator[Simulator]:
    """Play a scenario, and lead the credentials block of this name on the active server to it."""
    async with Simulator(Scenario.load(scenario)) as simulator:
        credentials = OpenRouterCredentials(api_key=SecretStr("sk-or-simulated"), base_url=simulator.base_url)
        await credentials.asave(block, overwrite=True)
        yield simulator
