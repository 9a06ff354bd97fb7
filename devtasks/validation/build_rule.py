"""The rule that a build script runs to its end, twice, and comes to the same."""

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from devtasks.execution.runtime import Command, CommandResult
from devtasks.validation.build_file_kinds import BuildFileKind, kind_of, shell_of
from devtasks.validation.conventions import MAX_SOURCE_BYTES, python_path
from devtasks.validation.reports import read_bounded, tail
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext
from devtasks.validation.words import listed

MAX_FILES = 50_000
"""Files that are compared; of a build that leaves more it cannot be said whether it comes to the same."""

NOT_RUN = 0.5
"""The value of what can be read but not run here, such as a workflow."""

_MISSING = 127
_IGNORED = frozenset({".git", "__pycache__"})
_OFFLINE = re.compile(
    "could not resolve host|name resolution|name or service not known|network is unreachable|failed to establish",
    re.IGNORECASE,
)

type Listing = Mapping[str, str]
"""Each path with what is there: a digest of its content and rights."""


@dataclass(frozen=True)
class Builds:
    """The build command ends well in the sandbox, and a second time with the same files; value 1 or 0.

    The command is the task's, else the target itself, else the one written file that can be run: a shell script, a
    Makefile or a Python file. It runs in a copy of the workspace. A file that it made and that differs the second time
    is a warning, as it may hold the time.
    """

    name: str = "build"
    weight: float = 5

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Run it twice in the same copy."""
        argv = _command(context)
        if argv is None:
            return self._not_run("name the build command to have it run, as the written files cannot be run alone")
        copy = context.suite.new_folder() / "build"
        shutil.copytree(context.workspace, copy, symlinks=True)
        before = _listing(copy)
        listings: list[Listing | None] = []
        for turn in ("", " when it is run a second time"):
            result = await _run(context, argv, copy)
            if result.exit_code == _MISSING and argv[0] == "make":
                return self._not_run("make is not there where it is judged")
            if problem := _problem(result, context.suite.seconds):
                message = f"the build `{_shown(argv)}` {problem}{turn}"
                evidence = tail(result.output) or None
                return RuleOutcome(0, (Finding(self.name, ValidationLevel.ERROR, message, evidence=evidence),))
            listings.append(_listing(copy))
        findings = tuple(self._differences(before, *listings))
        failed = any(finding.level is ValidationLevel.ERROR for finding in findings)
        return RuleOutcome(0 if failed else 1, findings)

    def _not_run(self, why: str) -> RuleOutcome:
        return RuleOutcome(NOT_RUN, (Finding(self.name, ValidationLevel.WARNING, f"nothing was run: {why}"),))

    def _differences(self, before: Listing | None, first: Listing | None, second: Listing | None) -> Iterator[Finding]:
        if before is None or first is None or second is None:
            message = f"the build leaves more than {MAX_FILES:,} files, so it cannot be compared with a second run"
            yield Finding(self.name, ValidationLevel.ERROR, message)
            return
        appeared, gone = sorted(second.keys() - first.keys()), sorted(first.keys() - second.keys())
        changed = sorted(path for path in first.keys() & second.keys() if first[path] != second[path])
        known = [path for path in changed if path in before]
        made = [path for path in changed if path not in before]
        for what, paths in (("adds", appeared), ("removes", gone), ("changes files of the project again:", known)):
            if paths:
                message = f"a second run of the build {what} {listed(paths)}: let it come to the same each time"
                yield Finding(self.name, ValidationLevel.ERROR, message)
        if made:
            message = f"what the build makes differs when it is run again: {listed(made)}"
            yield Finding(self.name, ValidationLevel.WARNING, message)


def _command(context: ValidationContext) -> tuple[str, ...] | None:
    if context.task.build_command:
        return ("sh", "-c", context.task.build_command)
    target = context.suite.target
    commands = {path: argv for path in context.written if (argv := _own_command(context, path))}
    if target in commands:
        return commands[target]
    return next(iter(commands.values())) if len(commands) == 1 else None


def _own_command(context: ValidationContext, path: str) -> tuple[str, ...] | None:
    """Return how a file is run; None for one that cannot be."""
    content = read_bounded(context.workspace / path, MAX_SOURCE_BYTES) or b""
    match kind_of(path, content):
        case BuildFileKind.SHELL:
            return (shell_of(content), f"./{path}")
        case BuildFileKind.MAKEFILE if not path.endswith(".mk"):
            return ("make", "-f", path)
        case BuildFileKind.PYTHON:
            return (str(context.python), f"./{path}")
        case _:
            return None


async def _run(context: ValidationContext, argv: tuple[str, ...], copy: Path) -> CommandResult:
    env = {"PATH": str(context.python.parent), "PYTHONPATH": python_path(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    return await context.runner.run(Command(argv, copy, context.suite.seconds, env))


def _problem(result: CommandResult, seconds: float) -> str | None:
    if result.timed_out:
        return f"does not end within {seconds:g} s"
    if result.exceeded:
        return f"was stopped, as it used too much: {result.exceeded}"
    if result.exit_code == 0:
        return None
    offline = "; it asks for a network, and where it is judged there is none" if _OFFLINE.search(result.output) else ""
    return f"ends with exit code {result.exit_code}{offline}"


def _shown(argv: tuple[str, ...]) -> str:
    return argv[2] if argv[:2] == ("sh", "-c") else " ".join((Path(argv[0]).name, *argv[1:]))


def _listing(root: Path) -> Listing | None:
    """Return what lies below a folder, links unfollowed; None for more files than can be compared."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _IGNORED]
        for name in (*folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118 - names need not be text
            found[os.fsdecode(os.path.relpath(path, root))] = _digest(path)
        if len(found) > MAX_FILES:
            return None
    return found


def _digest(path: str) -> str:
    """Return what tells a file's content and rights; of what cannot be read, its kind and size."""
    status = os.lstat(path)
    what = f"{stat.filemode(status.st_mode)}"
    if stat.S_ISLNK(status.st_mode):
        return f"{what} {os.readlink(path)}"  # noqa: PTH115
    if not stat.S_ISREG(status.st_mode):
        return what
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return f"{what} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError:
        return f"{what} {status.st_size}"
