"""Ruff over one text, with a project's own configuration, beside the project: nothing of it is run or written."""

import re
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from devtasks.validation.text_tools import NotChecked, read_by

CONFIGURED = re.compile(rb"^\s*\[tool\.ruff\b", re.MULTILINE)
FILES = ("ruff.toml", ".ruff.toml")

PLAIN = ("--isolated", "--select", "E9,F")
"""What is asked of a project that configures no linter: what cannot work, and names that are not there or not used."""

_RUFF = str(Path(sysconfig.get_path("scripts"), "ruff"))
_COMPLEXITY = ("--isolated", "--select", "C901", "--config", "lint.mccabe.max-complexity=0")
_NUMBER = re.compile(r"`(?P<name>[^`]+)` is too complex \((?P<paths>\d+)")


class _Location(BaseModel):
    row: int


class Problem(BaseModel):
    """One thing that ruff found; `code` None is a text that does not parse."""

    code: str | None
    message: str
    location: _Location


_Problems = TypeAdapter(list[Problem])


@dataclass(frozen=True)
class Linter:
    """Ruff at the root of a project."""

    root: Path

    def configured(self) -> bool:
        """Whether the project says at its root how ruff is to look at it."""
        project = self.root / "pyproject.toml"
        return any((self.root / name).is_file() for name in FILES) or (
            project.is_file() and CONFIGURED.search(project.read_bytes()) is not None
        )

    async def problems(self, path: str, source: bytes) -> list[Problem] | None:
        """Return what the project's rules find in a text that lies at this path; None where that cannot be said."""
        return await self._check(path, source, () if self.configured() else PLAIN)

    async def complexity(self, path: str, source: bytes) -> dict[str, int] | None:
        """Return the cyclomatic complexity of each function by its name, the highest where a name is used twice."""
        found = await self._check(path, source, _COMPLEXITY)
        if found is None:
            return None
        numbers: dict[str, int] = {}
        for match in filter(None, (_NUMBER.match(problem.message) for problem in found)):
            numbers[match["name"]] = max(numbers.get(match["name"], 0), int(match["paths"]))
        return numbers

    async def reformatted(self, path: str, source: bytes) -> bytes | None:
        """Return what ruff's formatter makes of a text; None where it cannot say."""
        status, output = await self._run("format", "--stdin-filename", path, source=source)
        return output if status == 0 else None

    async def _check(self, path: str, source: bytes, options: tuple[str, ...]) -> list[Problem] | None:
        arguments = ("check", *options, "--output-format=json", "--stdin-filename", path)
        status, output = await self._run(*arguments, source=source)
        try:
            return _Problems.validate_json(output) if status in (0, 1) else None
        except ValidationError:
            return None

    async def _run(self, *arguments: str, source: bytes) -> tuple[int | None, bytes]:
        """Return the exit code and what it printed; None where it did not end."""
        try:
            return await read_by(_RUFF, *arguments, "--no-cache", "-", text=source, cwd=self.root)
        except NotChecked:
            return None, b""
