"""Runs a project's tests in the sandbox under coverage, trusts no exit code alone, leaves the project clean."""

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ValidationError

from devtasks.errors import InvalidInput
from devtasks.execution.runtime import Command, CommandResult, CommandRunner
from devtasks.task import DevTask
from devtasks.validation.conventions import python_path
from devtasks.validation.junit import Case, parse_junit
from devtasks.validation.mutants import Mutant
from devtasks.validation.pytest_options import kept_options, own_settings
from devtasks.validation.reports import read_bounded, tail
from devtasks.validation.target_coverage import TargetCoverage, parse_coverage

MAX_RUN_SECONDS = 120.0

MUTATION_SECONDS = 60.0
"""For all mutants of one verdict together, at most."""

MUTANTS_AT_ONCE = 2

IMPORT_TARGET, MUTATION_RUN, COVERAGE_REPORT = "import_target.py", "mutation_run.py", "coverage_report.py"
NAME_TESTS, TELL_TESTS_APART, WATCH_TESTS = "name_tests.py", "tell_tests_apart.py", "watch_tests.py"
PLAIN_PACKAGES = "plain_packages.py"
"""Scripts that are run in the sandbox, and plugins of pytest there."""

_NOTHING_COLLECTED = 5
_STACK_AT = 0.5
_TEST_LINE = re.compile(r"(?P<test>\S+\.py::[^\s\[]+(?:\[.*\])?) (?P<end>PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)?")
_TOOL_MISSING = re.compile(r"No module named '?(?:coverage|pytest)'?\s*\Z")


@dataclass(frozen=True)
class SuiteRun:
    """One pytest run; where it proves nothing, `cases` is empty, `problem` says why and `broken_by` in which test."""

    cases: tuple[Case, ...]
    problem: str | None
    evidence: str
    timed_out: bool
    broken_by: str | None = None

    @property
    def bad(self) -> tuple[Case, ...]:
        """The tests that ended badly."""
        return tuple(case for case in self.cases if case.bad)


@dataclass(frozen=True)
class Collection:
    """What pytest collects; `problem` says why it could not."""

    nodeids: tuple[str, ...]
    problem: str | None
    evidence: str


class MutationRun(BaseModel):
    """How the tests ended without a mutant, 0 where they passed, and with each: see mutation_run.py."""

    plain: int | str
    mutants: tuple[int | str | None, ...]


@dataclass(frozen=True)
class SuiteRunner:
    """Commands over one workspace, each stopped after `seconds`; `target` is the file that coverage measures.

    Reports go to folders of their own under `scratch`, which the sandbox must show at the same path.
    """

    runner: CommandRunner
    workspace: Path
    scratch: Path
    python: Path
    seconds: float
    target: str | None

    @classmethod
    def of(cls, task: DevTask, workspace: Path, runner: CommandRunner, scratch: Path, python: Path) -> "SuiteRunner":
        """Return the runner of a task; a command gets 120 s, or the task's own seconds where those are fewer."""
        target = PurePosixPath(task.target_file).as_posix() if task.target_file else None
        seconds = min(MAX_RUN_SECONDS, task.limits.seconds)
        return cls(runner, workspace.resolve(), scratch.resolve(), python, seconds, target)

    def new_folder(self) -> Path:
        """Make an empty folder for one run's reports, under a name no earlier run could have prepared."""
        return Path(tempfile.mkdtemp(prefix="run-", dir=self.scratch))

    async def collect(self, paths: Sequence[str]) -> Collection:
        """List the tests of these files without running them."""
        folder = self.new_folder()
        options = ("--collect-only", "-q", *self._pytest_options(folder))
        result = await self._project_python("-m", "pytest", *options, *_arguments(paths), imports=folder)
        prefixes = tuple(f"{path}::" for path in paths)
        nodeids = tuple(line for line in result.output.splitlines() if line.startswith(prefixes))
        return Collection(nodeids, self._collection_problem(result, nodeids), tail(result.output))

    async def run(
        self,
        paths: Sequence[str] = (),
        *,
        data: Path | None = None,
        measured: Sequence[str] = (),
        keep_going: bool = False,
        tell_apart: bool = False,
    ) -> SuiteRun:
        """Run the tests of these files, or the project's whole suite.

        Args:
            paths: the files; none for what the project's own configuration names.
            data: where coverage goes; None to run without it.
            measured: the files that coverage measures; none for the target.
            keep_going: run the other files when one cannot be imported.
            tell_apart: note which test ran which line, and what each relies on or leaves behind.
        """
        folder = self.new_folder()
        report = folder / "junit.xml"
        options = ("-v", "--tb=short", f"--junitxml={report}", "-o", "junit_family=xunit1")
        options += ("--continue-on-collection-errors",) if keep_going else ()
        for plugin in (NAME_TESTS, TELL_TESTS_APART, WATCH_TESTS) if tell_apart else (NAME_TESTS,):
            options += ("-p", _copied(plugin, folder).stem)
        measure = self._coverage_run(data, measured) if data else ()
        result = await self._project_python(
            *measure, "-m", "pytest", *options, *self._pytest_options(folder), *_arguments(paths), imports=folder
        )
        _require_tools(result, self.python)
        return self._suite_run(result, read_bounded(report))

    async def measured_run(
        self, paths: Sequence[str], measured: Sequence[str], *, keep_going: bool = False, tell_apart: bool = False
    ) -> tuple[SuiteRun, Mapping[str, TargetCoverage]]:
        """Run tests as `run` does; return what they executed of the measured files, or of the target for none."""
        if not measured and self.target is None:
            return await self.run(paths, keep_going=keep_going, tell_apart=tell_apart), {}
        data = self.new_folder() / "coverage.db"
        run = await self.run(paths, data=data, measured=measured, keep_going=keep_going, tell_apart=tell_apart)
        if measured:
            return run, await self.coverages(data, measured)
        coverage = await self.coverage(data)
        return run, {self.target or "": coverage} if coverage else {}

    async def run_script(
        self, script: str, job: object, *, data: Path | None = None, measured: Sequence[str] = ()
    ) -> tuple[CommandResult, bytes]:
        """Run one of this package's scripts on a job; return how it ended and what it wrote as its answer."""
        folder = self.new_folder()
        given, answer = folder / "job.json", folder / "answer.jsonl"
        given.write_text(json.dumps(job))
        measure = self._coverage_run(data, measured) if data else ()
        result = await self._project_python(*measure, str(_copied(script, folder)), str(given), str(answer))
        return result, read_bounded(answer) or b""

    async def import_target(self, data: Path) -> str | None:
        """Add what importing the target runs to the coverage data; return the error where it cannot be imported."""
        if self.target is None:
            return None
        return await self.import_file(self.target, (*self._coverage_run(data), "--append"))

    async def import_file(self, path: str, measure: Sequence[str] = ()) -> str | None:
        """Import one file in a process of its own, begun with these arguments; return the error, None without one."""
        script = _copied(IMPORT_TARGET, self.new_folder())
        root, *names = import_names(self.workspace, path)
        arguments = (str(script), str(self.workspace / path), root, *names)
        result = await self._project_python(*measure, *arguments)
        if result.exit_code == 0:
            ended = f"imported {self.workspace / path}" not in result.output.splitlines()
            return "the import ends the program: os._exit or sys.exit at module level" if ended else None
        if result.exceeded:
            return f"the import used too much: {result.exceeded}"
        if result.timed_out:
            return f"the import had not ended after {self.seconds:g} s"
        return next((line for line in reversed(result.output.splitlines()) if line.strip()), "the process died")

    async def coverage(self, data: Path) -> TargetCoverage | None:
        """Return the target's coverage; None where the target never ran or the data cannot be read."""
        if self.target is None:
            return None
        folder = self.new_folder()
        report = folder / "coverage.json"
        script = _copied(COVERAGE_REPORT, folder)
        argv = (str(self.python), "-I", "-B", str(script), str(data), self.target, str(report))
        await self.runner.run(Command(argv, self.workspace, self.seconds))
        content = read_bounded(report)
        return parse_coverage(content, self.target) if content else None

    async def coverages(self, data: Path, files: Sequence[str]) -> Mapping[str, TargetCoverage]:
        """Return the coverage of these files without those that never ran; no comment excludes a line."""
        settings = self.new_folder() / "coverage.ini"
        settings.write_text("[report]\nexclude_lines = (?!)\n")
        report = self.new_folder() / "coverage.json"
        options = (f"--rcfile={settings}", f"--data-file={data}", f"--include={','.join(files)}", "-o", str(report))
        argv = (str(self.python), "-I", "-B", "-m", "coverage", "json", "-q", *options)
        await self.runner.run(Command(argv, self.workspace, self.seconds))
        content = read_bounded(report) or b""
        found = {path: parse_coverage(content, path) for path in files}
        return {path: coverage for path, coverage in found.items() if coverage}

    async def run_mutants(self, mutants: Sequence[Mutant], tests: Sequence[Sequence[str]]) -> MutationRun:
        """Run each mutant's tests, which are ids, against it; all of them end within the seconds of one command."""
        folder = self.new_folder()
        job = {
            "target": str(self.workspace / (self.target or "")),
            "folder": str(folder),
            "options": [*self._project_options()],
            "seconds": min(MUTATION_SECONDS, _STACK_AT * self.seconds),
            "jobs": MUTANTS_AT_ONCE,
            "tests": _arguments(list(dict.fromkeys(test for each in tests for test in each))),
            "mutants": [
                {"source": str(folder / f"mutant-{number}.py"), "tests": _arguments(each)}
                for number, each in enumerate(tests)
            ],
        }
        for number, mutant in enumerate(mutants):
            (folder / f"mutant-{number}.py").write_bytes(mutant.source)
        given, answer = folder / "job.json", folder / "answer.json"
        given.write_text(json.dumps(job))
        result = await self._project_python(str(_copied(MUTATION_RUN, folder)), str(given), str(answer))
        try:
            return MutationRun.model_validate_json(read_bounded(answer) or b"")
        except ValidationError:
            return MutationRun(plain=result.exceeded or "no answer", mutants=())

    async def _project_python(self, *arguments: str, imports: Path | None = None) -> CommandResult:
        env = {
            "PATH": str(self.python.parent),
            "PYTHONPATH": os.pathsep.join(filter(None, (python_path(self.workspace), imports and str(imports)))),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_ADDOPTS": "",
        }
        return await self.runner.run(Command((str(self.python), *arguments), self.workspace, self.seconds, env))

    def _coverage_run(self, data: Path, measured: Sequence[str] = ()) -> tuple[str, ...]:
        """Begin a command that measures these files or the target alone, whatever the project's configuration says."""
        included = ",".join(measured) or self.target
        options = (f"--rcfile={os.devnull}", "--branch", f"--include={included}", f"--data-file={data}")
        return ("-m", "coverage", "run", *options)

    def _pytest_options(self, folder: Path) -> tuple[str, ...]:
        stack = ("-o", f"faulthandler_timeout={self.seconds * _STACK_AT:.2f}")
        plain = ("-p", _copied(PLAIN_PACKAGES, folder).stem)
        return (*plain, f"--basetemp={folder / 'tmp'}", *stack, *self._project_options())

    def _project_options(self) -> tuple[str, ...]:
        overrides = ("--color=no", "-o", "addopts=", "-o", "required_plugins=")
        return (*own_settings(self.workspace), *overrides, *kept_options(self.workspace))

    def _suite_run(self, result: CommandResult, report: bytes | None) -> SuiteRun:
        try:
            cases = parse_junit(report) if report is not None else None
        except ValueError:
            cases = None
        problem = self._run_problem(result, cases)
        broken_by = _unfinished(result.output) if problem else None
        return SuiteRun(
            cases if cases and not problem else (), problem, tail(result.output), result.timed_out, broken_by
        )

    def _run_problem(self, result: CommandResult, cases: tuple[Case, ...] | None) -> str | None:
        if result.timed_out:
            return f"did not end within {self.seconds:g} s: a test, or code it calls, loops or waits"
        if result.exceeded:
            return f"was stopped, as it used too much: {result.exceeded}"
        if cases is None:
            return f"wrote no report (exit code {result.exit_code}): os._exit, a crash or a wrong option ended it"
        expected = (1, 2) if any(case.bad for case in cases) else (0,) if cases else (_NOTHING_COLLECTED,)
        if result.exit_code not in expected:
            return f"ended with exit code {result.exit_code}, which its report of {len(cases)} tests contradicts"
        return None

    def _collection_problem(self, result: CommandResult, nodeids: tuple[str, ...]) -> str | None:
        if result.timed_out:
            return f"importing the tests did not end within {self.seconds:g} s: code at module level loops or waits"
        if result.exceeded:
            return f"importing the tests was stopped, as it used too much: {result.exceeded}"
        if result.exit_code == _NOTHING_COLLECTED:
            return "it finds no test: name the functions test_* (or methods test_* of a class Test*)"
        if result.exit_code != 0:
            return f"importing them fails (exit code {result.exit_code})"
        return None if nodeids else "the process ended early with exit code 0: remove os._exit at module level"


def import_names(workspace: Path, target: str) -> tuple[str, ...]:
    """Return the folder of the target's top-level module, then the names to import the target by, best first.

    The first name follows the chain of `__init__.py`; the second is the path below `src` or the workspace, which
    is the name inside a namespace package. A file whose path is no module name has none.
    """
    path = workspace / target
    root = path.parent
    while (root / "__init__.py").is_file() and root != workspace:
        root = root.parent
    roots = (root, workspace / "src" if path.is_relative_to(workspace / "src") else workspace)
    names = (path.relative_to(start).with_suffix("").parts for start in roots)
    modules = (parts[:-1] if parts[-1] == "__init__" else parts for parts in names)
    usable = (".".join(parts) for parts in modules if parts and all(part.isidentifier() for part in parts))
    return (str(root), *dict.fromkeys(usable))


def _unfinished(output: str) -> str | None:
    """Return the test that pytest had begun and not ended when its output stopped; None where there is none."""
    begun = [match for line in output.splitlines() if (match := _TEST_LINE.match(line))]
    return begun[-1]["test"] if begun and not begun[-1]["end"] else None


def _copied(script: str, folder: Path) -> Path:
    """Copy one of the scripts for the sandbox, which need not see this package."""
    copy = folder / script
    copy.write_bytes(Path(__file__).with_name(script).read_bytes())
    return copy


def _arguments(paths: Sequence[str]) -> list[str]:
    """Write the paths so that none can be taken for an option."""
    return [f"./{path}" for path in paths]


def _require_tools(result: CommandResult, python: Path) -> None:
    if result.exit_code == 1 and _TOOL_MISSING.search(result.output):
        raise InvalidInput("python", str(python), "an interpreter that has pytest and coverage")
