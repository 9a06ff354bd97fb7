"""One real Prefect server for the tests of what speaks to one."""

import asyncio
from collections.abc import Generator
from pathlib import Path

import pytest
from prefect_stack import PrefectStack, prefect_stack
from queues import deploy_tasks, make_repository


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[PrefectStack]:
    with prefect_stack(tmp_path_factory.mktemp("prefect")) as running:
        yield running


@pytest.fixture(scope="session")
def server(stack: PrefectStack) -> PrefectStack:
    """The server with the deployments of our flow; nobody works for them."""
    asyncio.run(deploy_tasks(stack))
    return stack


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("repository"))
