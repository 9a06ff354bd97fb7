"""When a refused call may be made again, as far as the refusal tells.

Upstream limits carry `Retry-After` (or `availability.retry_after`) in seconds. The account's own carry instead
`X-RateLimit-Reset`, in epoch milliseconds, as a header or in `metadata.headers`; a spent budget `metadata.resets_at`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, cast

LONGEST = timedelta(hours=25)
"""No hint of a limit reaches further: the day's reset is the farthest there is, and clocks differ."""

LONGEST_BUDGET = timedelta(days=32)
"""Nor one of a budget: those are a day's, a week's or a month's."""


def until(headers: Mapping[str, str], error: Mapping[str, Any], now: datetime) -> datetime | None:
    """Return when to ask again, None where nothing usable is said; `headers` are asked by lower-case names."""
    named = {name.lower(): value for name, value in headers.items()}
    metadata = _mapping(error.get("metadata"))
    copied = {str(name).lower(): str(value) for name, value in _mapping(metadata.get("headers")).items()}
    said = (
        (_after(named.get("retry-after"), now), LONGEST),
        (_after(_mapping(error.get("availability")).get("retry_after"), now), LONGEST),
        (_reset(named.get("x-ratelimit-reset")), LONGEST),
        (_reset(copied.get("x-ratelimit-reset")), LONGEST),
        (_date(metadata.get("resets_at")), LONGEST_BUDGET),
    )
    return next((moment for moment, longest in said if moment and now <= moment <= now + longest), None)


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


def _reset(value: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(value or "") / 1_000, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _date(value: Any) -> datetime | None:
    """Return a moment in ISO 8601 (UTC, where it names no zone) or in epoch milliseconds."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return _reset(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}
