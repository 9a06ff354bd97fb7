"""When a refused call may be made again, as far as the refusal tells.

Upstream limits carry `Retry-After` (or `availability.retry_after`) in seconds. The account's own carry instead
`X-RateLimit-Reset`, in epoch milliseconds, as a header or in `metadata.headers`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, cast

LONGEST = timedelta(hours=25)
"""No hint reaches further: the day's reset is the farthest there is, and clocks differ."""


def until(headers: Mapping[str, str], error: Mapping[str, Any], now: datetime) -> datetime | None:
    """Return when to ask again, None where nothing usable is said; `headers` are asked by lower-case names."""
    named = {name.lower(): value for name, value in headers.items()}
    metadata = _mapping(error.get("metadata"))
    copied = {str(name).lower(): str(value) for name, value in _mapping(metadata.get("headers")).items()}
    said = (
        _after(named.get("retry-after"), now),
        _after(_mapping(error.get("availability")).get("retry_after"), now),
        _reset(named.get("x-ratelimit-reset")),
        _reset(copied.get("x-ratelimit-reset")),
    )
    return next((moment for moment in said if moment and now <= moment <= now + LONGEST), None)


def _after(value: Any, now: datetime) -> datetime | None:
    try:
        return now + timedelta(seconds=float(value))
    except (TypeError, ValueError, OverflowError):
        pass
    try:
        moment = parsedate_to_datetime(str(value))
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _reset(value: str | None) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(value or "") / 1_000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}
