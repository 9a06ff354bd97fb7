"""A run's own copy of a repository: made at a commit, compared with it, delivered from it."""

from dataclasses import dataclass
from enum import StrEnum


class ChangeStatus(StrEnum):
    """What happened to a file between the base commit and the workspace."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"


@dataclass(frozen=True)
class Change:
    """One changed file; `path` is relative to the repository's root, with forward slashes."""

    path: str
    status: ChangeStatus
