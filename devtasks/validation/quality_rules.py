"""The rules on how changed Python is written: what its linter, its type checker and its formatter say, beside before.

Only what is new counts: a file is compared with what it was.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devtasks.execution.runtime import Command
from devtasks.validation.conventions import MAX_SOURCE_BYTES, python_path
from devtasks.validation.linter import Linter, Problem
from devtasks.validation.reports import read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext

UNDEFINED = frozenset({None, "F821", "F822", "F823"})
"""Codes of what fails when it is run, whatever a project asks of its linter: no syntax, or an unknown name."""

_LISTED = 10
_CONFIGURATION = frozenset({"pyproject.toml", "ruff.toml", ".ruff.toml", "mypy.ini", ".mypy.ini", "setup.cfg"})
_RUFF_FORMAT = re.compile(rb"^\s*\[(?:tool\.ruff\.)?format\b|\bid:\s*ruff-format\b", re.MULTILINE)
_MYPY = {"pyproject.toml": b"[tool.mypy]", "mypy.ini": b"[mypy", ".mypy.ini": b"[mypy", "setup.cfg": b"[mypy"}
_TYPE_ERROR = re.compile(r"^(?P<path>[^:\n]+\.pyi?):(?P<line>\d+)(?::\d+)?: error: (?P<message>.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Lint:
    """The linter finds nothing in the changed Python that it did not find before; value: the part of the files.

    Asked is ruff with the project's configuration, at the commit before; where there is none, only for what cannot
    work. What it finds is an ERROR where the project configures it or a name does not exist, else a WARNING.
    """

    name: str = "lint"
    weight: float = 1

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Lint each changed file as it is and as it was."""
        linter = Linter(_root(context))
        files = [path for path in context.written if path.endswith((".py", ".pyi"))]
        findings: list[Finding] = []
        clean = 0
        for path in files:
            new = await self._new(linter, context, path)
            clean += not new
            findings += self._said(path, new, configured=linter.configured())
        return RuleOutcome(clean / len(files) if files else 1, tuple(findings))

    async def _new(self, linter: Linter, context: ValidationContext, path: str) -> list[Problem]:
        now = await linter.problems(path, read_bounded(context.workspace / path, MAX_SOURCE_BYTES) or b"")
        before = await linter.problems(path, context.before(path) or b"")
        known = Counter((problem.code, problem.message) for problem in before or ())
        new: list[Problem] = []
        for problem in now or ():
            key = (problem.code, problem.message)
            known[key] -= 1
            if known[key] < 0:
                new.append(problem)
        return new

    def _said(self, path: str, problems: list[Problem], *, configured: bool) -> Iterator[Finding]:
        for problem in problems[:_LISTED]:
            bad = configured or problem.code in UNDEFINED
            level = ValidationLevel.ERROR if bad else ValidationLevel.WARNING
            message = f"ruff finds in {path} what was not there: {problem.code or 'syntax'}: {problem.message}"
            yield Finding(self.name, level, message, f"{path}:{problem.location.row}")
        if len(problems) > _LISTED:
            message = f"ruff finds {len(problems) - _LISTED} more new problems in {path}"
            yield Finding(self.name, ValidationLevel.WARNING, message, path)


@dataclass(frozen=True)
class Types:
    """mypy finds no error in the changed Python that it did not find before; value 1 or 0.

    Asked only where the project configures mypy and its environment has it, in the sandbox.
    """

    name: str = "types"
    weight: float = 0

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Check the changed files in the tree as it is, and those that were there in the tree as it was."""
        files = [path for path in context.written if path.endswith((".py", ".pyi"))]
        if not files or not self._configured(context.original):
            return RuleOutcome(1)
        now = await self._errors(context, context.workspace, files)
        if now is None:
            message = "types are not checked: the project configures mypy, but its environment cannot run it"
            return RuleOutcome(1, (Finding(self.name, ValidationLevel.WARNING, message),))
        old = [path for path in files if (context.original / path).is_file()]
        before = await self._errors(context, context.original, old) if old else None
        known = Counter((path, message) for path, _, message in before or ())
        findings: list[Finding] = []
        for path, line, message in now:
            known[path, message] -= 1
            if known[path, message] < 0:
                said = f"mypy finds in {path} what was not there: {message}"
                findings.append(Finding(self.name, ValidationLevel.ERROR, said, f"{path}:{line}"))
        return RuleOutcome(0 if findings else 1, tuple(findings[:_LISTED]))

    def _configured(self, root: Path) -> bool:
        return any(mark in (read_bounded(root / name) or b"") for name, mark in _MYPY.items())

    async def _errors(
        self, context: ValidationContext, root: Path, files: list[str]
    ) -> list[tuple[str, str, str]] | None:
        """Return (path, line, message) of each error; None where mypy is not there or did not end."""
        env = {"PATH": str(context.python.parent), "PYTHONPATH": python_path(root), "PYTHONDONTWRITEBYTECODE": "1"}
        options = ("--no-error-summary", "--no-color-output", "--no-pretty", "--cache-dir=/dev/null")
        argv = (str(context.python), "-m", "mypy", *options, "--", *files)
        result = await context.runner.run(Command(argv, root, context.suite.seconds, env))
        if result.exit_code not in (0, 1) or "No module named mypy" in result.output:
            return None
        return [
            (match["path"], match["line"], match["message"])
            for match in _TYPE_ERROR.finditer(result.output)
            if match["path"] in files
        ]


@dataclass(frozen=True)
class Formatted:
    """Changed Python is formatted as the project's configured formatter would; value: the part of the files.

    A file that was not formatted before need not be. It is a WARNING: what a formatter mends is no reason to throw a
    result away.
    """

    name: str = "formatting"
    weight: float = 0

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Format each changed file in memory and compare."""
        root = _root(context)
        linter = Linter(root)
        files = [path for path in context.written if path.endswith((".py", ".pyi"))]
        if not files or not _formats(root):
            return RuleOutcome(1)
        unlike: list[str] = []
        for path in files:
            now, before = read_bounded(context.workspace / path, MAX_SOURCE_BYTES) or b"", context.before(path)
            formatted_before = before is None or await linter.reformatted(path, before) == before
            if formatted_before and await linter.reformatted(path, now) not in (now, None):
                unlike.append(path)
        findings = tuple(
            Finding(self.name, ValidationLevel.WARNING, f"{path} is not formatted as the project's files are", path)
            for path in unlike
        )
        return RuleOutcome(1 - len(unlike) / len(files), findings)


def _formats(root: Path) -> bool:
    """Whether the project says that ruff formats it."""
    names = ("pyproject.toml", "ruff.toml", ".ruff.toml", ".pre-commit-config.yaml")
    return any(_RUFF_FORMAT.search(read_bounded(root / name) or b"") for name in names)


def _root(context: ValidationContext) -> Path:
    """Return a tree whose configuration is that before the change."""
    configured = any(Path(change.path).name in _CONFIGURATION for change in context.changes)
    return context.original if configured else context.workspace
