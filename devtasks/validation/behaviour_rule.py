"""The rule that refactored functions do what they did: calls with generated arguments, before and after."""

import ast
import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

from pydantic import TypeAdapter, ValidationError

from devtasks.validation.code_comparison import first_difference
from devtasks.validation.conventions import MAX_SOURCE_BYTES, is_test_file
from devtasks.validation.docstrings import FunctionNode, parse
from devtasks.validation.generated_calls import constants, generated_calls
from devtasks.validation.pure_functions import PureFunctions
from devtasks.validation.reports import read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext
from devtasks.validation.suite_runner import SuiteRunner, import_names
from devtasks.validation.words import listed

CALL_RUN = "call_run.py"

_SHOWN = 3
_MISUSED = ("raised TypeError", "raised AttributeError")
"""What came of arguments that the function was never meant for."""

_Ends = TypeAdapter(dict[str, list[str | None]])


@dataclass(frozen=True)
class Behaves:
    """Changed functions do what they did; value: the part of them that something shows it of.

    Pure functions at the top of a changed module whose arguments are annotated with plain types are called with the
    same arguments before and after, up to 60 times, and have to come to the same. Of the others the suite shows it,
    where it runs them. Where nothing shows it of any changed function, that is an ERROR.
    """

    name: str = "behaviour"
    weight: float = 2

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Compare what calls come to, and ask which other changed functions the suite runs."""
        findings: list[Finding] = []
        changed: set[tuple[str, str]] = set()
        shown: set[tuple[str, str]] = set()
        ran = await _functions_run(context)
        for path in (path for path in context.written if path.endswith(".py") and not is_test_file(path)):
            functions = _changed_functions(context, path)
            changed |= {(path, name) for name in functions}
            shown |= {(path, name) for name in ran.get(path, frozenset()) & functions}
            if functions:
                compared = await _compared(context, path)
                findings += self._different(path, compared)
                shown |= {(path, name) for name in compared.keys() & functions}
        missing = sorted(f"{name} of {path}" for path, name in changed - shown)
        if missing:
            bad = not shown
            level = ValidationLevel.ERROR if bad else ValidationLevel.WARNING
            message = "nothing shows that these changed functions still do what they did: no test runs them"
            findings.append(Finding(self.name, level, f"{message}: {listed(missing)}"))
        failed = any(finding.level is ValidationLevel.ERROR for finding in findings)
        return RuleOutcome(0 if failed else len(shown) / len(changed) if changed else 1, tuple(findings))

    def _different(self, path: str, compared: Mapping[str, Sequence[tuple[str, str, str]]]) -> Iterator[Finding]:
        for name, calls in compared.items():
            if calls:
                call, before, after = calls[0]
                shown = f"{name}{_written(call)} {before.partition(', arguments ')[0]} before, and now {after}"
                evidence = "\n".join(f"{name}{_written(call)}: {old} -> {new}" for call, old, new in calls[:_SHOWN])
                message = f"{name} of {path} does not do what it did: {shown.partition(', arguments ')[0]}"
                yield Finding(self.name, ValidationLevel.ERROR, message[:500], path, evidence[:2_000])


async def _functions_run(context: ValidationContext) -> Mapping[str, frozenset[str]]:
    """Return by file the functions that the suite ran with the change."""
    coverages = await context.whole_suite.coverages()
    return {
        path: frozenset(
            function.name
            for function in coverage.functions
            if not set(coverage.executed_lines).isdisjoint(function.lines)
        )
        for path, coverage in coverages.items()
    }


def _changed_functions(context: ValidationContext, path: str) -> frozenset[str]:
    """Return the qualified names of the functions whose code is new or another than before, docstrings aside."""
    before = _functions(parse(context.before(path) or b""))
    after = _functions(parse(read_bounded(context.workspace / path, MAX_SOURCE_BYTES) or b""))
    return frozenset(name for name, node in after.items() if name not in before or _differ(before[name], node))


def _functions(scope: ast.Module | ast.ClassDef | None, prefix: str = "") -> dict[str, FunctionNode]:
    found: dict[str, FunctionNode] = {}
    for node in scope.body if scope else ():
        if isinstance(node, FunctionNode):
            found[f"{prefix}{node.name}"] = node
        elif isinstance(node, ast.ClassDef):
            found |= _functions(node, f"{prefix}{node.name}.")
    return found


def _differ(before: FunctionNode, after: FunctionNode) -> bool:
    trees = (ast.Module([before], []), ast.Module([after], []))
    return first_difference(*trees) is not None


async def _compared(context: ValidationContext, path: str) -> Mapping[str, list[tuple[str, str, str]]]:
    """Return for each function that could be compared the calls that came to something else: call, before, after."""
    before = parse(context.before(path) or b"")
    after = parse(read_bounded(context.workspace / path, MAX_SOURCE_BYTES) or b"")
    if before is None or after is None:
        return {}
    pure = PureFunctions(after).found.keys()
    candidates = {name: node for name, node in PureFunctions(before).found.items() if name in pure}
    literals = constants(before)
    calls = await asyncio.to_thread(
        lambda: {name: generated_calls(node, literals) for name, node in candidates.items()}
    )
    calls = {name: given for name, given in calls.items() if given}
    if not calls:
        return {}
    old = await _ends(replace(context.suite, workspace=context.original), path, calls)
    new = await _ends(context.suite, path, calls)
    compared: dict[str, list[tuple[str, str, str]]] = {}
    for name, given in calls.items():
        ends = zip(given, old.get(name, ()), new.get(name, ()), strict=False)
        known = [(call, was, now or "no longer the same twice") for call, was, now in ends if _tells(was)]
        if known:
            compared[name] = [(call, was, now) for call, was, now in known if was != now]
    return compared


async def _ends(suite: SuiteRunner, path: str, calls: Mapping[str, list[str]]) -> Mapping[str, list[str | None]]:
    root, *names = import_names(suite.workspace, path)
    job = {"file": str(suite.workspace / path), "root": root, "names": names, "calls": calls}
    _, answer = await suite.run_script(CALL_RUN, job)
    try:
        return _Ends.validate_json(answer)
    except ValidationError:
        return {}


def _tells(end: str | None) -> TypeGuard[str]:
    """Whether what a call came to before says what it has to come to now."""
    return end is not None and end not in _MISUSED and end != "did not end"


def _written(call: str) -> str:
    """Write a call's arguments as they would be in code."""
    args, kwargs = ast.literal_eval(call)
    return f"({', '.join([*map(repr, args), *(f'{name}={value!r}' for name, value in kwargs.items())])})"
