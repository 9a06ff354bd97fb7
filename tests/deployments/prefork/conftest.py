"""One real Prefect server for the tests of workers."""

from collections.abc import Generator

import pytest
from prefect_stack import PrefectStack, prefect_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[PrefectStack]:
    with prefect_stack(tmp_path_factory.mktemp("prefect")) as running:
        yield running
