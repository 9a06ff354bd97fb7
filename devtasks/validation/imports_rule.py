"""The rule that what the written files import is there, and that they can be imported themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ValidationError

from devtasks.validation.conventions import MAX_SOURCE_BYTES, is_test_code
from devtasks.validation.docstrings import parse
from devtasks.validation.imports import Import, imports
from devtasks.validation.reports import read_bounded, tail
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext
from devtasks.validation.suite_comparison import LISTED
from devtasks.validation.suite_runner import SuiteRunner, import_names

LOOK_UP_IMPORTS = "look_up_imports.py"

PROGRAMS = frozenset({"__main__.py", "setup.py"})
"""Files that are run, not imported."""


@dataclass(frozen=True)
class ImportsResolve:
    """Every import in the written Python files leads somewhere, and the written modules can be imported; 1 or a part.

    A guarded import, one in a test file, whose tests have to run anyway, and one that led nowhere before is a warning.
    Value: the part of the imports that lead somewhere, 0 where a module cannot be imported.
    """

    name: str = "imports"
    weight: float = 2

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Look up the names first, then import each module that names nothing missing."""
        used = [_Used(path, each) for path in context.written if path.endswith(".py") for each in _read(context, path)]
        problems = await _look_up(context.suite, used)
        if problems is None:
            message = "looking up the imports of the written files did not end: a package they import loops or exits"
            return RuleOutcome(0, (Finding(self.name, ValidationLevel.ERROR, message),), stop=True)
        missing = [(each, problem) for each, problem in zip(used, problems, strict=True) if problem]
        before = await self._missing_before(context, [each for each, _ in missing])
        findings = [self._unresolved(each, problem, before) for each, problem in missing]
        errors = [each for each in findings if each.level is ValidationLevel.ERROR]
        listed = [*errors[:LISTED], *[each for each in findings if each not in errors][:LISTED]]
        wrong = {each.place.partition(":")[0] for each in errors if each.place}
        failed = [each async for each in self._not_importable(context, wrong)]
        broken = any(each.level is ValidationLevel.ERROR for each in failed)
        value = 0 if broken else 1 - len(errors) / len(used) if used else 1
        return RuleOutcome(value, (*listed, *failed), stop=broken)

    def _unresolved(self, used: "_Used", problem: str, before: set["_Used"]) -> Finding:
        level = ValidationLevel.ERROR
        why = "import what the project's environment has, or write it"
        if used in before:
            level, why = ValidationLevel.WARNING, "it did not before the change either"
        elif used.found.guarded:
            level, why = ValidationLevel.WARNING, "the file can do without it"
        elif is_test_code(used.path):
            level, why = ValidationLevel.WARNING, "its tests tell whether that matters"
        message = f"`{used.found.label}` does not resolve: {problem}; {why}"
        return Finding(self.name, level, message, f"{used.path}:{used.found.line}")

    async def _missing_before(self, context: ValidationContext, missing: list["_Used"]) -> set["_Used"]:
        """Return those that the same file imported before, and that led nowhere then."""
        known = {path: {each.key for each in _read_before(context, path)} for path in {each.path for each in missing}}
        old = [each for each in missing if each.found.key in known[each.path]]
        problems = await _look_up(_before(context), old) if old else ()
        return {each for each, problem in zip(old, problems or (), strict=False) if problem}

    async def _not_importable(self, context: ValidationContext, wrong: set[str]):
        for path in context.sources:
            if path in wrong or PurePosixPath(path).name in PROGRAMS:
                continue
            error = await context.suite.import_file(path)
            if error is None:
                continue
            level, why = ValidationLevel.ERROR, "let importing it define what it has, and do no more"
            if context.before(path) is not None and await _before(context).import_file(path):
                level, why = ValidationLevel.WARNING, "it did not before the change either"
            yield Finding(self.name, level, f"{path} cannot be imported: {why}", path, tail(error))


@dataclass(frozen=True)
class _Used:
    """An import of a file."""

    path: str
    found: Import


class _Answer(BaseModel):
    problem: str | None


async def _look_up(suite: SuiteRunner, used: Sequence[_Used]) -> tuple[str | None, ...] | None:
    """Return what is wrong with each import, None for nothing; None for all where there is no whole answer."""
    roots = dict.fromkeys(import_names(suite.workspace, each.path)[0] for each in used)
    names = [{"module": each.found.module, "name": each.found.name} for each in used if each.found.module]
    _, answer = await suite.run_script(LOOK_UP_IMPORTS, {"roots": [*roots], "names": names})
    found = _answers(answer)
    if len(found) != len(names):
        return None
    answers = iter(found)
    return tuple(next(answers) if each.found.module else "it leads above the top package" for each in used)


def _answers(answer: bytes) -> list[str | None]:
    try:
        return [_Answer.model_validate_json(line).problem for line in answer.splitlines()]
    except ValidationError:
        return []


def _before(context: ValidationContext) -> SuiteRunner:
    return replace(context.suite, workspace=context.original.resolve())


def _read(context: ValidationContext, path: str) -> Iterator[Import]:
    yield from _parsed(context.workspace, path, read_bounded(context.workspace / path, MAX_SOURCE_BYTES))


def _read_before(context: ValidationContext, path: str) -> Iterator[Import]:
    yield from _parsed(context.workspace, path, context.before(path))


def _parsed(workspace: Path, path: str, source: bytes | None) -> Iterator[Import]:
    tree = parse(source or b"")
    if tree is not None:
        yield from imports(tree, _package(workspace, path))


def _package(workspace: Path, path: str) -> str:
    """Return the package that relative imports of a file begin at; empty where there is none."""
    _, *names = import_names(workspace, path)
    if PurePosixPath(path).name == "__init__.py":
        return names[0] if names else ""
    packages = [name.rpartition(".")[0] for name in names]
    return next(filter(None, packages), "")
