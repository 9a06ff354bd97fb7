"""Which tasks a batch is made of: the rules that find some, the choice among them, and their order."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from devtasks.errors import InvalidInput
from devtasks.task import DevTask

_SLICE = re.compile(r"(-?\d+)?:(-?\d+)?")


class Rule(StrEnum):
    """How tasks are found in a project; see discovery.py."""

    UNCOVERED = "uncovered"
    CHANGED = "changed"
    UNDOCUMENTED = "undocumented"
    COMPLEX = "complex"


@dataclass(frozen=True)
class Selection:
    """First those whose target file matches a pattern, then shuffled by a seed, then a part of them, then so many."""

    pattern: str = ""
    seed: int | None = None
    part: slice = slice(None)
    limit: int | None = None

    def of(self, tasks: Sequence[DevTask]) -> tuple[DevTask, ...]:
        """Return the tasks that are selected, in their order."""
        chosen = [task for task in tasks if not self.pattern or fnmatchcase(task.target_file or "", self.pattern)]
        if self.seed is not None:
            random.Random(self.seed).shuffle(chosen)  # noqa: S311 - no secret
        return tuple(chosen[self.part][: self.limit])


def parse_slice(text: str) -> slice:
    """Return the part that `A:B` names, as Python slices: from A (counted from 0) up to, but without, B."""
    found = _SLICE.fullmatch(text.strip())
    if not found:
        raise InvalidInput("--slice", text, "A:B, two whole numbers of which either may be left out")
    start, end = (int(number) if number else None for number in found.groups())
    return slice(start, end)
