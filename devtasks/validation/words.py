"""How findings name many things in one line."""

from collections.abc import Sequence

_LISTED = 10


def listed(names: Sequence[str]) -> str:
    """Return the first ten names, and how many there are besides."""
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def first_line(text: str) -> str:
    """Return the first line of a message, 300 characters at most."""
    return next(iter(text.splitlines()), "no message")[:300]
