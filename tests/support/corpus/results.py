"""A good result, and what a kind of bad result makes of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Good:
    """The project around a target, and the test files (path to text) that are a good result for it.

    `existing` are the project's other test files and its conftest.py files. `workspace` is where the project lies
    when it is judged.
    """

    target: str
    source: str
    tests: Mapping[str, str]
    existing: Mapping[str, str] = field(default_factory=dict[str, str])
    workspace: str = "/workspace"

    @property
    def module(self) -> str:
        """The name that the target is imported by."""
        return self.target.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def package(self) -> str:
        """The package that the target's relative imports start from; empty for a module outside any."""
        return self.module if self.target.endswith("/__init__.py") else self.module.rpartition(".")[0]

    @property
    def folder(self) -> PurePosixPath:
        """Where the tests lie."""
        return PurePosixPath(next(iter(self.tests))).parent

    @property
    def neighbours(self) -> Mapping[str, str]:
        """The project's other test files."""
        return {path: text for path, text in self.existing.items() if PurePosixPath(path).name != "conftest.py"}


@dataclass(frozen=True)
class Result:
    """A change set: the files that are written, with their text, and those that are deleted."""

    written: Mapping[str, str]
    deleted: tuple[str, ...] = ()


type Kind = Callable[[Good], Result | None]
"""Makes a bad result of a good one; None where this one does not lend itself to it."""


def good_result(good: Good) -> Result:
    """Return the good result itself."""
    return Result(good.tests)
