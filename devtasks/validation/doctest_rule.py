"""The rule that the examples in docstrings run and print what they say."""

import doctest
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from devtasks.execution.runtime import Command, CommandResult
from devtasks.validation.conventions import MAX_SOURCE_BYTES, python_path
from devtasks.validation.docstrings import Documented, documented, parse
from devtasks.validation.junit import Case, CaseOutcome, parse_junit
from devtasks.validation.pytest_options import kept_options, own_settings
from devtasks.validation.reports import read_bounded, tail
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext


@dataclass(frozen=True)
class Doctests:
    """Every example in the changed docstrings runs and prints what it says; value: the part of these docstrings.

    The changed modules' examples run by pytest in the sandbox, with the project's own doctest options and fixtures. An
    example in a docstring that was there before as it is now is only warned of, and so is one that is skipped.
    """

    name: str = "doctests"
    weight: float = 2

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Run the changed Python files that hold examples."""
        files = {path: _examples(context, path) for path in context.written if path.endswith(".py")}
        findings = [self._malformed(path, each) for path, found in files.items() for each in found if each.problem]
        good = {path: found for path, found in files.items() if any(not each.problem for each in found)}
        if not good:
            return RuleOutcome(0 if findings else 1, tuple(findings))
        result, report = await _run(context, tuple(good))
        cases = _cases(report)
        if cases is None or (result.exit_code not in (0, 1)):
            message = f"the examples in {', '.join(good)} cannot be run: {_ending(result)}"
            new = any(each.new for found in good.values() for each in found)
            level = ValidationLevel.ERROR if new else ValidationLevel.WARNING
            problem = Finding(self.name, level, message, next(iter(good)), tail(result.output) or None)
            return RuleOutcome(0 if new else 1, (*findings, problem))
        changed = passed = 0
        for path, found in files.items():
            for each in found:
                case = each.case(path, cases)
                changed += each.new
                passed += each.new and case is not None and case.outcome is CaseOutcome.PASSED
                if not each.problem:
                    findings += self._judged(path, each, case)
        return RuleOutcome(passed / changed if changed else 1, tuple(findings))

    def _judged(self, path: str, each: "_Examples", case: Case | None) -> list[Finding]:
        level = ValidationLevel.ERROR if each.new else ValidationLevel.WARNING
        if case is None:
            message = f"an example in the docstring of {each.label} in {path} never ran: doctest does not find it"
            return [Finding(self.name, ValidationLevel.WARNING, message, f"{path}:{each.line}")]
        if case.outcome is CaseOutcome.SKIPPED:
            message = f"the examples in the docstring of {each.label} in {path} are skipped, so they prove nothing"
            return [Finding(self.name, ValidationLevel.WARNING, message, f"{path}:{each.line}")]
        if not case.bad:
            return []
        message = f"an example in the docstring of {each.label} in {path} fails: make it show what the code does"
        return [Finding(self.name, level, message, f"{path}:{each.line}", case.detail or case.message or None)]

    def _malformed(self, path: str, each: "_Examples") -> Finding:
        level = ValidationLevel.ERROR if each.new else ValidationLevel.WARNING
        message = f"the examples in the docstring of {each.label} in {path} cannot be read: {each.problem}"
        return Finding(self.name, level, message, f"{path}:{each.line}")


@dataclass(frozen=True)
class _Examples:
    """A docstring that holds examples; `problem` says why doctest cannot read them."""

    name: str
    label: str
    line: int
    new: bool
    problem: str | None

    def case(self, path: str, cases: Mapping[str, Case]) -> Case | None:
        """Return what became of the examples; doctest names them by the module's name and the object's."""
        file = PurePosixPath(path)
        stems = (file.parent.name, "__init__") if file.stem == "__init__" else (file.stem,)
        endings = tuple(f".{stem}.{self.name}".rstrip(".") for stem in stems)
        names = (nodeid for nodeid in cases if nodeid.startswith(f"{path}::"))
        return next((cases[each] for each in names if f".{each.partition('::')[2]}".endswith(endings)), None)


def _examples(context: ValidationContext, path: str) -> list[_Examples]:
    tree = parse(read_bounded(context.workspace / path, MAX_SOURCE_BYTES) or b"")
    old = parse(context.before(path) or b"")
    known = {name: each.docstring for name, each in documented(old).items()} if old else {}
    found: list[_Examples] = []
    for each in documented(tree).values() if tree else ():
        count, line, problem = _read(each)
        if count or problem:
            new = each.docstring != known.get(each.name)
            found.append(_Examples(each.name, each.label, line, new, problem))
    return found


def _read(each: Documented) -> tuple[int, int, str | None]:
    """Return how many examples a docstring holds, the line of the first, and why they cannot be read."""
    try:
        examples = doctest.DocTestParser().get_examples(each.docstring or "")
    except ValueError as error:
        return 0, each.docstring_line, str(error)
    return len(examples), each.docstring_line + (examples[0].lineno if examples else 0), None


async def _run(context: ValidationContext, paths: tuple[str, ...]) -> tuple[CommandResult, bytes | None]:
    suite = context.suite
    folder = suite.new_folder()
    report = folder / "junit.xml"
    ini = ("addopts=", "required_plugins=", "junit_family=xunit1", "python_functions=", "python_classes=")
    options = (
        *("--doctest-modules", "--doctest-continue-on-failure", "-v", "--color=no"),
        *(f"--junitxml={report}", f"--basetemp={folder / 'tmp'}"),
        *own_settings(suite.workspace),
        *(part for option in ini for part in ("-o", option)),
        *(option for option in kept_options(suite.workspace) if option.startswith("--import-mode")),
    )
    env = {
        "PATH": str(suite.python.parent),
        "PYTHONPATH": python_path(suite.workspace),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_ADDOPTS": "",
    }
    argv = (str(suite.python), "-m", "pytest", *options, *(f"./{path}" for path in paths))
    result = await context.runner.run(Command(argv, suite.workspace, suite.seconds, env))
    return result, read_bounded(report)


def _cases(report: bytes | None) -> dict[str, Case] | None:
    try:
        return {case.nodeid: case for case in parse_junit(report)} if report is not None else None
    except ValueError:
        return None


def _ending(result: CommandResult) -> str:
    if result.timed_out:
        return "they did not end in time; an example, or code it calls, loops or waits"
    return f"they used too much: {result.exceeded}" if result.exceeded else f"pytest ended with {result.exit_code}"
