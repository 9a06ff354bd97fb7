"""Arguments to call functions with, made by Hypothesis from their annotations: the same ones every time.

Half of the texts and numbers are those that the module's own code holds, or lie beside them: they decide its branches.
"""

import ast
from collections.abc import Callable, Mapping
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.strategies import SearchStrategy

CALLS = 60
"""Calls of one function."""

MAX_CHARACTERS = 2_000
"""Of one call, written down; larger ones are left out."""

MAX_CONSTANTS = 50
"""Texts, and numbers, of a module that arguments are taken from."""

_PLAIN: Mapping[str, Callable[[], SearchStrategy[Any]]] = {
    "int": lambda: st.integers(-10, 10) | st.integers(-(10**6), 10**6),
    "float": lambda: st.floats(-1e6, 1e6, allow_subnormal=False),
    "bool": st.booleans,
    "str": lambda: st.text(st.sampled_from("aAbZ 0-9_.,:/\té€\n"), max_size=12),
    "bytes": lambda: st.binary(max_size=8),
    "None": st.none,
}
_LISTS = frozenset({"list", "List", "Sequence", "Iterable", "Collection", "MutableSequence"})
_SETS = frozenset({"set", "Set", "frozenset", "FrozenSet", "AbstractSet", "MutableSet"})
_MAPPINGS = frozenset({"dict", "Dict", "Mapping", "MutableMapping"})
_MAX_ITEMS = 5


def constants(tree: ast.Module) -> dict[str, list[Any]]:
    """Return the numbers and texts in a module's code, and what lies beside whole numbers, by their types' names."""
    values = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    whole = {value + by for value in values if type(value) is int for by in (-1, 0, 1) if abs(value) < 10**9}
    texts = {value for value in values if isinstance(value, str) and len(value) <= 40}
    broken = {value for value in values if isinstance(value, float)}
    found = {"int": sorted(whole), "str": sorted(texts), "float": sorted(broken | set(map(float, whole)))}
    return {name: known[:MAX_CONSTANTS] for name, known in found.items() if known}


def generated_calls(function: ast.FunctionDef, known: Mapping[str, list[Any]]) -> list[str]:
    """Return calls as Python literals `(args, kwargs)`; none where an annotation is missing or of another kind.

    `known` are the constants of the module, as `constants` returns them.
    """
    given_ = function.args
    placed, named = [*given_.posonlyargs, *given_.args], given_.kwonlyargs
    strategies = {argument.arg: _Strategies(known).of(argument.annotation) for argument in (*placed, *named)}
    usable = {name: each for name, each in strategies.items() if each is not None}
    if len(usable) < len(strategies) or not strategies:
        return []
    arguments = st.tuples(
        st.tuples(*(usable[argument.arg] for argument in placed)),
        st.fixed_dictionaries({argument.arg: usable[argument.arg] for argument in named}),
    )
    calls: dict[str, None] = {}

    @settings(
        max_examples=CALLS,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(arguments)
    def note(call: object) -> None:
        calls[repr(call)] = None

    _leave_the_current_folder_alone()
    note()
    return [call for call in calls if len(call) <= MAX_CHARACTERS]


@cache
def _leave_the_current_folder_alone() -> TemporaryDirectory[str]:
    """Let Hypothesis keep its files, which it writes beside the user's, in a folder that goes with this process."""
    folder = TemporaryDirectory(prefix="devtasks-hypothesis-")
    set_hypothesis_home_dir(folder.name)
    return folder


class _Strategies:
    """What makes values of the types that annotations name."""

    def __init__(self, known: Mapping[str, list[Any]]) -> None:
        self._known = known

    def of(self, annotation: ast.expr | None) -> SearchStrategy[Any] | None:  # noqa: PLR0911 - one for each kind
        match annotation:
            case ast.Constant(value=None):
                return st.none()
            case ast.Constant(value=str(text)):
                return self.of(_parsed(text))
            case ast.BinOp(op=ast.BitOr(), left=left, right=right):
                return _either(self.of(left), self.of(right))
            case ast.Name() | ast.Attribute():
                name = _last(annotation)
                return self._plain(name) if name in _PLAIN else self._container(name, [])
            case ast.Subscript(value=value, slice=ast.Tuple(elts=elements)):
                return self._container(_last(value), elements)
            case ast.Subscript(value=value, slice=element):
                return self._container(_last(value), [element])
            case _:
                return None

    def _container(self, name: str, elements: list[ast.expr]) -> SearchStrategy[Any] | None:  # noqa: PLR0911 - the same
        if name == "Literal":
            values = [each.value for each in elements if isinstance(each, ast.Constant)]
            return st.sampled_from(values) if values and len(values) == len(elements) else None
        if (
            name == "tuple"
            and len(elements) == 2
            and isinstance(elements[1], ast.Constant)
            and elements[1].value is ...
        ):
            of = self.of(elements[0])
            return st.lists(of, max_size=_MAX_ITEMS).map(tuple) if of is not None else None
        inner = [each for element in elements if (each := self.of(element)) is not None]
        if not elements or len(inner) < len(elements):
            return None
        if name in {"Optional", "Union"}:
            return _either(*inner, *([st.none()] if name == "Optional" else []))
        if name == "tuple":
            return st.tuples(*inner)
        if name in _LISTS:
            return st.lists(inner[0], max_size=_MAX_ITEMS)
        if name in _SETS:
            return st.sets(inner[0], max_size=_MAX_ITEMS)
        if name in _MAPPINGS and len(inner) == 2:
            return st.dictionaries(inner[0], inner[1], max_size=_MAX_ITEMS)
        return None

    def _plain(self, name: str) -> SearchStrategy[Any]:
        any_, known = _PLAIN[name](), self._known.get(name)
        return st.sampled_from(known) | any_ if known else any_


def _either(*strategies: SearchStrategy[Any] | None) -> SearchStrategy[Any] | None:
    known = [each for each in strategies if each is not None]
    return st.one_of(known) if len(known) == len(strategies) else None


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        return None
