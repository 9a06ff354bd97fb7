"""A plugin of pytest for the sandbox: writes each test's id into the report, which names only its file and class.

It is copied beside the run's reports, because the sandbox need not see this package.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

NODEID = "devtasks-nodeid"


def pytest_itemcollected(item: "pytest.Item") -> None:
    """Keep the id with what pytest reports of the test."""
    item.user_properties.append((NODEID, item.nodeid))
