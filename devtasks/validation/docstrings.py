"""What a Python file documents: its modules, classes and functions, read without running it."""

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
Node = ast.Module | ast.ClassDef | FunctionNode

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_EMPTY = """
    a an and the this that these of for to in is it its as with from by on or be
    arg args argument arguments parameter parameters param params return returns returned yield yields raise raises
    attribute attributes type rtype value values object objects instance function functions method methods
    class classes module modules package property implementation helper
    docstring description documentation summary placeholder todo tbd fixme here
    none str int float bool list dict tuple set any optional
"""
_EMPTY_WORDS = frozenset(_EMPTY.split())


@dataclass(frozen=True)
class Documented:
    """A module (its name is empty), class or function; `owner` is the class a method belongs to."""

    name: str
    node: Node
    public: bool
    owner: ast.ClassDef | None

    @property
    def docstring(self) -> str | None:
        """The docstring, cleaned of its indentation."""
        return ast.get_docstring(self.node)

    @property
    def docstring_line(self) -> int:
        """The line the docstring begins on, or that of the definition."""
        first = self.node.body[0] if self.node.body else None
        return first.lineno if self.docstring is not None and first else self.line

    @property
    def line(self) -> int:
        """The line of the definition."""
        return 1 if isinstance(self.node, ast.Module) else self.node.lineno

    @property
    def explained(self) -> bool:
        """Whether the docstring says more than the names of the object and its parameters do."""
        return bool(_words(self.docstring or "") - _EMPTY_WORDS - _words(" ".join(self._names())))

    @property
    def label(self) -> str:
        """The name as a message shows it."""
        return self.name or "the module"

    def _names(self) -> Iterator[str]:
        yield self.name
        if isinstance(self.node, FunctionNode):
            yield from (argument.arg for argument in arguments(self.node))


def parse(source: bytes) -> ast.Module | None:
    """Return the tree of a source; None where it does not parse."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def documented(tree: ast.Module, *, public_module: bool = True) -> dict[str, Documented]:
    """Return the module and its classes and functions by their qualified names, nested functions aside.

    Public is what has no leading underscore in any part of its name; setters, overloads and overrides are documented
    elsewhere, and an empty module needs no docstring.
    """
    found = {"": Documented("", tree, public_module and bool(tree.body), None)}
    for each in _members(tree, "", public_module, None):
        found.setdefault(each.name, each)
    return found


def arguments(function: FunctionNode | ast.Lambda) -> list[ast.arg]:
    """Return every argument of a function, `*args` and `**kwargs` among them."""
    given = function.args
    starred = [each for each in (given.vararg, given.kwarg) if each]
    return [*given.posonlyargs, *given.args, *given.kwonlyargs, *starred]


def decorators(node: FunctionNode | ast.ClassDef) -> list[str]:
    """Return the last part of each decorator's name, such as `overload` for `@typing.overload`."""
    names: list[str] = []
    for each in node.decorator_list:
        called = each.func if isinstance(each, ast.Call) else each
        names.append(called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", ""))
    return names


def _members(
    scope: ast.Module | ast.ClassDef, prefix: str, public: bool, owner: ast.ClassDef | None
) -> Iterator[Documented]:
    for node in _definitions(scope.body):
        name = f"{prefix}{node.name}"
        shown = public and not node.name.startswith("_")
        if isinstance(node, ast.ClassDef):
            yield Documented(name, node, shown, owner)
            yield from _members(node, f"{name}.", shown, node)
        else:
            elsewhere = not {"overload", "override", "setter", "deleter"}.isdisjoint(decorators(node))
            if not elsewhere:
                yield Documented(name, node, shown, owner)


def _definitions(body: list[ast.stmt]) -> Iterator[ast.ClassDef | FunctionNode]:
    """Yield the definitions of a body, also those under a condition."""
    for node in body:
        if isinstance(node, ast.ClassDef | FunctionNode):
            yield node
        elif isinstance(node, ast.If | ast.Try | ast.With):
            handlers = node.handlers if isinstance(node, ast.Try) else []
            inner = [node.body, getattr(node, "orelse", []), *(handler.body for handler in handlers)]
            yield from (found for part in inner for found in _definitions(part))


def _words(text: str) -> set[str]:
    """Return the words of a text or a name, in their singular: `getUsers` and "Gets the user" share both."""
    return {word for found in _WORD.findall(text) if (word := _stem(found.lower()))}


def _stem(word: str) -> str:
    return word if word in _EMPTY_WORDS or len(word) <= 3 else word.removesuffix("s")
