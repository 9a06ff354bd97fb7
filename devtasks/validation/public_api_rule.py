"""The rule that what others may use of a module is still there, and is called as before."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import griffe

from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext
from devtasks.validation.suite_runner import import_names

_LISTED = 10
_HARMLESS = frozenset({griffe.BreakageKind.ATTRIBUTE_CHANGED_VALUE, griffe.BreakageKind.RETURN_CHANGED_TYPE})
"""What may change without any caller noticing: how a constant is written, what a return is annotated with."""

# It says at length which names of other packages it cannot look up; what is asked here is the package itself.
logging.getLogger("griffe").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class PublicApi:
    """Public names and signatures of the changed packages stay; value 1 or 0.

    Read from the code by griffe, without running it: a name that was moved and is imported where it was stays, and so
    does a method that is inherited now. Where the project's settings let the API change, what changed is a warning.
    """

    name: str = "public_api"
    weight: float = 2

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Compare the packages of the changed files as they were with what they are."""
        level = ValidationLevel.ERROR if context.baseline.settings.public_api else ValidationLevel.WARNING
        changed = [change.path for change in context.changes if change.path.endswith(".py")]
        packages = {_package(context.original, path) for path in changed if (context.original / path).is_file()}
        findings = [
            finding
            for root, package in sorted(filter(None, packages))
            for finding in self._findings(context, Path(root), package, level)
        ]
        if len(findings) > _LISTED:
            message = f"{len(findings) - _LISTED} more public names or signatures changed"
            findings = [*findings[:_LISTED], Finding(self.name, level, message)]
        failed = findings and level is ValidationLevel.ERROR
        return RuleOutcome(0 if failed else 1, tuple(findings))

    def _findings(
        self, context: ValidationContext, root: Path, package: str, level: ValidationLevel
    ) -> Iterator[Finding]:
        before, after = _load(context.original / root, package), _load(context.workspace / root, package)
        if before is None:
            return
        if after is None:
            yield Finding(self.name, level, f"the module {package} is gone: put it back", str(root / package))
            return
        seen: set[str] = set()
        for breakage in griffe.find_breaking_changes(before, after):
            message = _message(breakage)
            if breakage.kind not in _HARMLESS and message not in seen:
                seen.add(message)
                yield Finding(self.name, level, message, _place(context.workspace, breakage))


def _package(root: Path, path: str) -> tuple[str, str] | None:
    """Return the folder, relative to the root, that a file's top-level package lies in, and the package's name."""
    folder, *names = import_names(root, path)
    return (str(Path(folder).relative_to(root)), names[0].partition(".")[0]) if names and names[0] else None


def _load(folder: Path, package: str) -> griffe.Object | None:
    """Return a package's description; None where it is not there or cannot be read."""
    try:
        found = griffe.load(package, search_paths=[folder], allow_inspection=False, resolve_aliases=True)
    except (griffe.GriffeError, ImportError, SyntaxError, ValueError, RecursionError, OSError):
        return None
    return found if isinstance(found, griffe.Object) else None


def _message(breakage: griffe.Breakage) -> str:
    name = breakage.obj.path
    match breakage:
        case griffe.ParameterChangedDefaultBreakage():
            return f"the default of `{breakage.old_value.name}` of {name} was changed: put it back"
        case griffe.ObjectRemovedBreakage():
            return f"the public name {name} is gone: keep it, or import it where it was"
        case griffe.ParameterAddedRequiredBreakage():
            return f"{name} asks for a new argument `{breakage.new_value.name}`: give it a default"
        case _ if isinstance(breakage.old_value, griffe.Parameter):
            return f"the parameter `{breakage.old_value.name}` of {name} was removed, moved or is given differently"
        case _:
            return f"{breakage.kind.value[:1].lower()}{breakage.kind.value[1:]}: {name}; put it back"


def _place(workspace: Path, breakage: griffe.Breakage) -> str | None:
    file, line = breakage.obj.filepath, breakage.obj.lineno
    if not isinstance(file, Path) or not file.is_relative_to(workspace):
        return None
    return f"{file.relative_to(workspace)}:{line}" if line else str(file.relative_to(workspace))
