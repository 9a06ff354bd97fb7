"""A plugin of pytest for the sandbox: tells coverage which test runs, so that it knows the lines of each.

It is copied beside the run's reports, because the sandbox need not see this package: pytest and coverage only.
"""

from collections.abc import Generator

import coverage
import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, None, None]:
    """Count what set-up, call and tear-down of a test run under its id."""
    measured = coverage.Coverage.current()
    if measured:
        measured.switch_context(item.nodeid)
    yield
    if measured:
        measured.switch_context("")
