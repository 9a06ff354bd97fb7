"""The rule that what a docstring names exists: its parameters, returned values and exceptions."""

import ast
import builtins
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from devtasks.validation.conventions import MAX_SOURCE_BYTES
from devtasks.validation.docstring_sections import Named, Subject, named
from devtasks.validation.docstrings import Documented, FunctionNode, arguments, decorators, documented, parse
from devtasks.validation.project_names import files_with_class, module_names
from devtasks.validation.reports import read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext

_ITERATES = ("Iter", "Generator")


@dataclass(frozen=True)
class Signatures:
    """The parameters, returns and raises of the changed docstrings exist; value: the part of the docstrings that hold.

    A docstring that was there before as it is now is only warned of. A function with `**kwargs` may name any
    parameter; of a class whose constructor is inherited nothing is known. An exception may be a builtin, a name of
    the module or a class of the project.
    """

    name: str = "signatures"
    weight: float = 2

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Read the docstrings of the changed Python files."""
        findings: list[Finding] = []
        wrong = checked = 0
        for path in (path for path in context.written if path.endswith((".py", ".pyi"))):
            tree = parse(read_bounded(context.workspace / path, MAX_SOURCE_BYTES) or b"")
            old = parse(context.before(path) or b"")
            known = {name: each.docstring for name, each in documented(old).items()} if old else {}
            for each in documented(tree).values() if tree else ():
                problems = [*_problems(each, tree or ast.Module([], []), context.workspace)]
                new = each.docstring != known.get(each.name)
                checked += new and each.docstring is not None
                wrong += new and bool(problems)
                level = ValidationLevel.ERROR if new else ValidationLevel.WARNING
                findings += [self._finding(level, path, each, *problem) for problem in problems]
        return RuleOutcome(1 - wrong / checked if checked else 1, tuple(findings))

    def _finding(self, level: ValidationLevel, path: str, each: Documented, item: Named, problem: str) -> Finding:
        place = f"{path}:{each.docstring_line + item.line}"
        return Finding(self.name, level, f"the docstring of {each.label} in {path} {problem}", place)


@dataclass(frozen=True)
class _Subject:
    """A docstring's object, with the module around it."""

    each: Documented
    module: ast.Module
    workspace: Path
    inner: tuple[ast.AST, ...] = field(default=())


def _problems(each: Documented, module: ast.Module, workspace: Path) -> Iterator[tuple[Named, str]]:
    subject = _Subject(each, module, workspace, tuple(_own_nodes(each.node)))
    for item in named(each.docstring or ""):
        check = _CHECKS.get(item.subject)
        if check and (problem := check(subject, item)):
            yield item, problem


def _parameter(subject: _Subject, item: Named) -> str | None:
    names = _parameters(subject.each)
    if names is None or item.name in names:
        return None
    shown = ", ".join(names) or "none"
    return f"names the parameter `{item.name}`, which is not in the signature ({shown}): correct or remove it"


def _returns(subject: _Subject, item: Named) -> str | None:
    node = subject.each.node
    if not isinstance(node, FunctionNode) or _is_stub(node) or "property" in decorators(node):
        return None
    annotated = node.returns is not None and ast.unparse(node.returns).strip("'\"") not in ("None", "NoReturn", "Never")
    valued = any(isinstance(inner, ast.Return) and not _is_none(inner.value) for inner in subject.inner)
    if annotated or valued or any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in subject.inner):
        return None
    return "describes a returned value, but the function returns none: remove it"


def _yields(subject: _Subject, item: Named) -> str | None:
    node = subject.each.node
    if not isinstance(node, FunctionNode) or _is_stub(node):
        return None
    iterates = node.returns is not None and any(word in ast.unparse(node.returns) for word in _ITERATES)
    if iterates or any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in subject.inner):
        return None
    return "describes yielded values, but the function yields none: remove it or say what it returns"


def _raises(subject: _Subject, item: Named) -> str | None:
    first, _, rest = item.name.partition(".")
    known = module_names(subject.module)
    last = item.name.rpartition(".")[2]
    raised = {
        ast.unparse(inner.exc.func if isinstance(inner.exc, ast.Call) else inner.exc).rpartition(".")[2]
        for inner in subject.inner
        if isinstance(inner, ast.Raise) and inner.exc
    }
    if not rest and isinstance(getattr(builtins, first, None), type):
        return None
    if first in known or last in known or last in raised or any(files_with_class(subject.workspace, last)):
        return None
    return f"names the exception `{item.name}`, which neither Python nor this project has: correct or remove it"


_CHECKS: dict[Subject, Callable[[_Subject, Named], str | None]] = {
    Subject.PARAMETERS: _parameter,
    Subject.RETURNS: _returns,
    Subject.YIELDS: _yields,
    Subject.RAISES: _raises,
}


def _parameters(each: Documented) -> list[str] | None:
    """Return the parameters that a docstring may name; None where any may be right."""
    node = each.node
    if isinstance(node, ast.Module):
        return None
    if isinstance(node, ast.ClassDef):
        return _class_parameters(node)
    return None if node.args.kwarg else _without_receiver(node, method=each.owner is not None)


def _class_parameters(node: ast.ClassDef) -> list[str] | None:
    """Return the parameters of a class's own constructor, or its annotated fields."""
    constructors = [
        each for each in node.body if isinstance(each, FunctionNode) and each.name in ("__init__", "__new__")
    ]
    if any(each.args.kwarg for each in constructors) or (node.bases and not constructors):
        return None
    fields = [
        each.target.id for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    ]
    given = [name for each in constructors for name in _without_receiver(each, method=True)]
    return list(dict.fromkeys((*given, *fields)))


def _without_receiver(node: FunctionNode, *, method: bool) -> list[str]:
    names = [argument.arg for argument in arguments(node)]
    bound = method and "staticmethod" not in decorators(node)
    return names[1:] if bound and names and (node.args.posonlyargs or node.args.args) else names


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below one, without those of functions and classes inside."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, FunctionNode | ast.ClassDef | ast.Lambda):
            yield child
            yield from _own_nodes(child)


def _is_stub(node: FunctionNode) -> bool:
    """Whether a function has no body of its own to judge: it is abstract, or says only that it is missing."""
    return "abstractmethod" in decorators(node) or all(
        isinstance(each, ast.Pass | ast.Raise) or (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
        for each in node.body
    )


def _is_none(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and value.value is None)
