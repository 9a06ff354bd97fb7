"""The real stack, shared by the end-to-end tests."""

from collections.abc import Generator

import pytest
from harness import Up, running_up


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Generator[Up]:
    with running_up(tmp_path_factory.mktemp("up")) as stack:
        yield stack
