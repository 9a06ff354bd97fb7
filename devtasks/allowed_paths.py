"""Which files a task lets an agent change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from pathspec import GitIgnoreSpec

from devtasks.task import DevTask, TaskCategory

PROTECTED = (
    ".git",
    ".gitmodules",
    ".githooks/",
    ".husky/",
    ".pre-commit-config.yaml",
    "lefthook.y*ml",
    ".github/",
    ".gitlab/",
    ".gitlab-ci.yml",
    ".circleci/",
    ".buildkite/",
    ".woodpecker/",
    ".woodpecker.y*ml",
    ".drone.y*ml",
    ".travis.yml",
    ".appveyor.yml",
    "appveyor.yml",
    "azure-pipelines.y*ml",
    "bitbucket-pipelines.yml",
    "cloudbuild.y*ml",
    "jenkinsfile",
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "pixi.lock",
    "pipfile.lock",
    "pylock*.toml",
    "conda-lock.yml",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock",
    "bun.lockb",
    "cargo.lock",
    "go.sum",
    "composer.lock",
    "gemfile.lock",
)
"""What runs by itself at a push or a commit, and what pins dependencies: patterns, compared without regard to case."""

DEFAULTS: Mapping[TaskCategory, tuple[str, ...]] = {
    TaskCategory.UNIT_TEST: (
        "test_*.py",
        "*_test.py",
        *(f"**/{folder}/**/{name}" for folder in ("test", "tests") for name in ("conftest.py", "__init__.py")),
    ),
    TaskCategory.DOCUMENTATION: ("*.py", "*.pyi", "*.md", "*.markdown", "*.rst", "*.adoc"),
    TaskCategory.ANALYSIS: ("*.md", "*.markdown"),
}
"""The allowed paths of a task that names none, by category; a category without any may change all but PROTECTED."""

ALL = ("*",)

_PROTECTED = GitIgnoreSpec.from_lines(PROTECTED)


@dataclass(frozen=True)
class AllowedPaths:
    """Patterns as in a .gitignore file, relative to the repository's root."""

    patterns: Sequence[str]

    @classmethod
    def of(cls, task: DevTask) -> Self:
        """Return a task's own patterns, or its category's."""
        return cls(task.allowed_paths or DEFAULTS.get(task.category, ALL))

    def allows(self, path: str) -> bool:
        """Tell whether a file may change; a protected one only by a pattern that names it, such as `uv.lock`."""
        if _PROTECTED.match_file(path.casefold()):
            return self._naming_protected.match_file(path)
        return self._all.match_file(path)

    def __str__(self) -> str:
        """Return the patterns as a person reads them."""
        shown = ", ".join(f"`{pattern}`" for pattern in self.patterns)
        return "any but CI, hook and lock files" if tuple(self.patterns) == ALL else shown

    @cached_property
    def _all(self) -> GitIgnoreSpec:
        return GitIgnoreSpec.from_lines(self.patterns)

    @cached_property
    def _naming_protected(self) -> GitIgnoreSpec:
        """The patterns that are protected paths themselves, taken as they stand: `*` and `*.lock` name none."""
        named = [pattern for pattern in self.patterns if _PROTECTED.match_file(pattern.casefold().lstrip("/"))]
        return GitIgnoreSpec.from_lines(named)
