"""Which lines and branches of the target ran, read from the report of coverage_report.py."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

Branch = tuple[int, int]

_LISTED = 15


@dataclass(frozen=True)
class FunctionLines:
    """A function of the target by its qualified name, and its statements' line numbers."""

    name: str
    lines: tuple[int, ...]


@dataclass(frozen=True)
class TargetCoverage:
    """The target's statements and branches, by whether they ran; a branch is (from line, to line or -exit).

    `tests` are the ids of the tests that ran a line, where the run told them apart.
    """

    executed_lines: tuple[int, ...]
    missing_lines: tuple[int, ...]
    executed_branches: tuple[Branch, ...]
    missing_branches: tuple[Branch, ...]
    functions: tuple[FunctionLines, ...]
    tests: Mapping[int, tuple[str, ...]] = field(default_factory=dict[int, tuple[str, ...]])

    @property
    def total(self) -> int:
        """The number of statements and branches."""
        return self.executed + len(self.missing_lines) + len(self.missing_branches)

    @property
    def executed(self) -> int:
        """The number of statements and branches that ran."""
        return len(self.executed_lines) + len(self.executed_branches)

    @property
    def fraction(self) -> float:
        """Executed statements and branches among all, 0 to 1, as coverage.py counts; 1 for a file without any."""
        return self.executed / self.total if self.total else 1.0

    @property
    def percent(self) -> str:
        """The fraction as a person reads it; 100% only where nothing is missing."""
        return f"{int(self.fraction * 1_000) / 10:g}%"

    @property
    def lines(self) -> tuple[int, ...]:
        """The line numbers of all statements."""
        return _union(self.executed_lines, self.missing_lines)

    def without_executed(self) -> "TargetCoverage":
        """Return the coverage of the same file where nothing ran."""
        branches = _union(self.executed_branches, self.missing_branches)
        return TargetCoverage((), self.lines, (), branches, self.functions)

    def union(self, other: "TargetCoverage") -> "TargetCoverage":
        """Return what ran in either of two runs over the same file."""
        lines = _union(self.executed_lines, other.executed_lines)
        branches = _union(self.executed_branches, other.executed_branches)
        return TargetCoverage(
            executed_lines=lines,
            missing_lines=tuple(line for line in self.missing_lines if line not in set(lines)),
            executed_branches=branches,
            missing_branches=tuple(branch for branch in self.missing_branches if branch not in set(branches)),
            functions=self.functions,
        )

    def uncovered(self) -> str:
        """Say in one line which functions, lines and branches did not run; empty where everything did."""
        missing = set(self.missing_lines)
        never = [f"`{function.name}`" for function in self.functions if missing.issuperset(function.lines)]
        reached = [(start, end) for start, end in self.missing_branches if start not in missing]
        exits = [f"{start} to {end if end > 0 else 'exit'}" for start, end in reached]
        parts = {
            "functions never run": never,
            "lines not run": ranges(self.missing_lines),
            "branches not taken (from line to line)": exits,
        }
        return "; ".join(f"{name}: {_listed(items)}" for name, items in parts.items() if items)


def _union[T: (int, Branch)](some: tuple[T, ...], others: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(sorted({*some, *others}))


def ranges(lines: Iterable[int]) -> list[str]:
    """Write runs of adjacent numbers as `3-7`."""
    runs = (list(run) for _, run in groupby(enumerate(lines), key=lambda pair: pair[1] - pair[0]))
    numbers = [[line for _, line in run] for run in runs]
    return [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in numbers]


def _listed(items: list[str]) -> str:
    rest = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


_Line = Annotated[int, Field(ge=1)]


class _Region(BaseModel):
    executed_lines: list[_Line]
    missing_lines: list[_Line]


class _File(_Region):
    executed_branches: list[Branch]
    missing_branches: list[Branch]
    functions: dict[str, _Region]


class _Report(BaseModel):
    files: dict[str, _File]
    tests: list[str] = []
    lines: dict[_Line, list[Annotated[int, Field(ge=0)]]] = {}


def parse_coverage(report: bytes, target: str) -> TargetCoverage | None:
    """Return the target's part of a JSON report; None where the report is not one or does not name the target."""
    try:
        whole = _Report.model_validate_json(report)
        file, names = whole.files.get(target), whole.tests
        tests = {line: tuple(names[place] for place in places) for line, places in whole.lines.items() if places}
    except (ValidationError, IndexError):
        return None
    if file is None:
        return None
    functions = (
        FunctionLines(name, tuple(sorted({*region.executed_lines, *region.missing_lines})))
        for name, region in file.functions.items()
        if name
    )
    return TargetCoverage(
        executed_lines=tuple(sorted(set(file.executed_lines))),
        missing_lines=tuple(sorted(set(file.missing_lines))),
        executed_branches=tuple(sorted(set(file.executed_branches))),
        missing_branches=tuple(sorted(set(file.missing_branches))),
        functions=tuple(function for function in functions if function.lines),
        tests=tests,
    )
