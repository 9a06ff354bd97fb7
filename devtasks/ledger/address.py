"""The ledger's address: which URLs are accepted, and how one is shown."""

import re

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from devtasks.errors import InvalidInput

_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+aiosqlite": "sqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


def parse(raw: str) -> URL:
    """Return the URL with this project's driver; raise InvalidInput where the ledger cannot be kept there."""
    refusal = InvalidInput(
        "DEVTASKS_DATABASE_URL",
        without_password(raw),
        "sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME, with special characters percent-encoded",
    )
    try:
        url = make_url(raw)
    except (ArgumentError, ValueError):
        raise refusal from None
    if url.drivername not in _DRIVERS or "@" in (url.host or ""):
        raise refusal
    if url.get_backend_name() == "sqlite" and (
        url.host or not url.database or re.match(":memory:|file:", url.database)
    ):
        raise refusal
    if "sslmode" in url.query:  # libpq's name, as hosting services print it; asyncpg's is `ssl`
        url = url.update_query_dict({"ssl": url.query["sslmode"]}).difference_update_query(["sslmode"])
    return url.set(drivername=_DRIVERS[url.drivername])


def without_password(raw: str) -> str:
    """Return the URL as it may be shown, also one that cannot be parsed."""
    shown = re.sub(r"//([^:/@]*):.*@", r"//\1:***@", raw) if "//" in raw else re.sub(r".*@", "***@", raw)
    return re.sub(r"(password=)[^&]*", r"\1***", shown)
