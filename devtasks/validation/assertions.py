"""What tests prove, read from their code without running it: whether anything in them could fail.

A test proves something when it holds one check that is not hollow. What only a run can tell, such as whether a test
reaches the target at all, is not asked here.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from devtasks.validation.always_true import constant, is_loose
from devtasks.validation.conventions import is_test_function
from devtasks.validation.copies import copied_functions
from devtasks.validation.docstrings import FunctionNode, parse

BROAD = frozenset({"Exception", "BaseException"})
"""Exceptions that any mistake in the test itself would raise too."""

SWALLOWING = BROAD | {"AssertionError"}
CHECKING = ("assert", "check_", "verify_", "expect_")
"""How the names of functions begin that check something for their caller (`self.assertEqual`, `assert_allclose`)."""

MOCKS = frozenset({"Mock", "MagicMock", "AsyncMock", "NonCallableMock", "create_autospec"})
_ASKING = (ast.Assert, ast.Compare, ast.BoolOp, ast.UnaryOp, ast.Expr)
"""What holds an expression that only asks something of it."""

SKIPS = frozenset({"skip", "xfail", "expectedFailure"})
"""Marks that hold everywhere; whether a condition skips a test here is for the run to tell."""


class Hollow(StrEnum):
    """Why a check, or a test, proves nothing."""

    NO_CHECK = "asserts nothing"
    CONSTANT = "asserts what is always true"
    RECOMPUTED = "compares a call with the same call"
    COPIED = "compares with a copy of the code under test"
    MOCK = "asserts what its own mock was told to return"
    LOOSE = "accepts nearly any number: ask for the one that is meant"
    BROAD_RAISES = "accepts any exception: name the one that is meant, or match its message"
    SWALLOWED = "swallows its own failure"
    SKIPPED = "is skipped or expected to fail"


@dataclass(frozen=True)
class Check:
    """One thing that a test checks, at a line; `hollow` is None where it could fail for a good reason."""

    line: int
    hollow: Hollow | None = None


@dataclass(frozen=True)
class TestProof:
    """A test function or method, such as `TestLogin::test_refused`, at a line, and what it checks."""

    __test__ = False

    name: str
    line: int
    checks: tuple[Check, ...]
    skipped: bool = False

    @property
    def hollow(self) -> Hollow | None:
        """Why it proves nothing; None where it does."""
        if self.skipped:
            return Hollow.SKIPPED
        if not self.checks:
            return Hollow.NO_CHECK
        return None if any(check.hollow is None for check in self.checks) else self.checks[0].hollow


@dataclass(frozen=True)
class Helpers:
    """The functions of a file of tests by their names, and which of them are copied from the code under test.

    `foreign` are the names that the file imports from elsewhere than pytest.
    """

    functions: Mapping[str, FunctionNode]
    copied: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()


def read_proofs(source: str | bytes, target: bytes = b"") -> tuple[TestProof, ...]:
    """Return what each test of a file proves, in their order; raise SyntaxError where it does not parse.

    `target` is the code under test, as far as it is known and parses.
    """
    tree = ast.parse(source)
    skipped = any(_assigns_skip(node) for node in tree.body)
    original = parse(target)
    helpers = Helpers(
        {node.name: node for node in ast.walk(tree) if isinstance(node, FunctionNode)},
        copied_functions(tree, original) if original else frozenset(),
        frozenset(_imported_elsewhere(tree)),
    )
    return tuple(_proofs(tree, "", helpers, skipped))


def _imported_elsewhere(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a file binds to modules other than pytest, and to what they hold."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                named = [(alias.name, alias.asname or alias.name.partition(".")[0]) for alias in names]
            case ast.ImportFrom(module=module, names=names):
                named = [(module or "", alias.asname or alias.name) for alias in names]
            case _:
                continue
        yield from (bound for module, bound in named if module.partition(".")[0] not in {"pytest", "_pytest"})


def _proofs(scope: ast.Module | ast.ClassDef, prefix: str, helpers: Helpers, skipped: bool) -> Iterator[TestProof]:
    for node in scope.body:
        if isinstance(node, ast.ClassDef):
            yield from _proofs(node, f"{prefix}{node.name}::", helpers, skipped or _is_skipped(node))
        elif is_test_function(node):
            checks = tuple(_Reader(node, helpers).checks())
            yield TestProof(f"{prefix}{node.name}", node.lineno, checks, skipped or _is_skipped(node))


def _is_skipped(node: FunctionNode | ast.ClassDef) -> bool:
    """Whether a mark skips it everywhere, or it skips itself."""
    if any(_last_name(decorator) in SKIPS for decorator in node.decorator_list):
        return True
    calls = (each.value for each in node.body if isinstance(each, ast.Expr))
    return any(isinstance(call, ast.Call) and _dotted(call.func) in {"pytest.skip", "pytest.xfail"} for call in calls)


def _assigns_skip(node: ast.stmt) -> bool:
    if not (isinstance(node, ast.Assign) and any(_dotted(target) == "pytestmark" for target in node.targets)):
        return False
    marks = node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else [node.value]
    return any(_last_name(mark) in SKIPS for mark in marks)


class _Reader:
    """Reads the checks of one function, and of the functions of its file that it calls."""

    def __init__(self, function: FunctionNode, helpers: Helpers, above: frozenset[str] = frozenset()) -> None:
        self._function = function
        self._helpers = helpers
        self._above = above | {function.name}
        # Between two same calls something may have been done of which they show that it changed nothing.
        self._values: Mapping[str, ast.expr] = {} if _acts(function) else _assigned_once(function)
        self._copies = _leads_to(helpers.copied, function)
        self._mocks = _own_mocks(function)
        self._replaced = frozenset(_replacements(function))

    def checks(self) -> Iterator[Check]:
        """Yield the checks that running the function comes to."""
        yield from self._block(self._function.body, swallowed=False)

    def _block(self, body: list[ast.stmt], *, swallowed: bool) -> Iterator[Check]:
        for node in body:
            yield from self._statement(node, swallowed=swallowed)
            if isinstance(node, ast.Return | ast.Raise | ast.Break | ast.Continue):
                return  # what follows is never run

    def _statement(self, node: ast.stmt, *, swallowed: bool) -> Iterator[Check]:
        match node:
            case ast.Assert():
                mocked = Hollow.MOCK if self._only_mocks(node.test) or self._asks_replaced(node.test) else None
                yield self._check(node, mocked or _hollow(node.test, self._values), swallowed=swallowed)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                return  # what it checks counts where it is called
            case ast.Try() | ast.TryStar():
                yield from self._block(node.body, swallowed=swallowed or any(map(_swallows, node.handlers)))
                for block in (*(each.body for each in node.handlers), node.orelse, node.finalbody):
                    yield from self._block(block, swallowed=swallowed)
            case ast.With() | ast.AsyncWith():
                yield from self._with(node, swallowed=swallowed)
            case ast.If() | ast.While() | ast.For() | ast.AsyncFor() | ast.Match():
                decides, blocks = _branches(node)
                yield from self._calls(decides, swallowed=swallowed)
                for block in blocks:
                    yield from self._block(block, swallowed=swallowed)
            case ast.Raise(exc=ast.expr() as raised) if _last_name(raised) == "AssertionError":
                yield self._check(node, None, swallowed=swallowed)
            case _:
                yield from self._calls(node, swallowed=swallowed)

    def _with(self, node: ast.With | ast.AsyncWith, *, swallowed: bool) -> Iterator[Check]:
        calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
        for call in calls:
            if _last_name(call) in {"raises", "warns", "deprecated_call", "assertRaises", "assertRaisesRegex"}:
                yield self._check(call, _hollow_raises(call), swallowed=swallowed)
            elif _last_name(call).startswith(CHECKING):
                yield self._check(call, None, swallowed=swallowed)
        before, self._replaced = self._replaced, self._replaced.union(map(_replaced_by, calls)) - {""}
        suppressed = [name for call in calls if _last_name(call) == "suppress" for name in map(_last_name, call.args)]
        yield from self._block(node.body, swallowed=swallowed or not SWALLOWING.isdisjoint(suppressed))
        self._replaced = before

    def _calls(self, node: ast.AST, *, swallowed: bool) -> Iterator[Check]:
        """Yield what the calls in an expression or a simple statement check."""
        for call in (each for each in ast.walk(node) if isinstance(each, ast.Call)):
            name = _last_name(call)
            helper = self._helpers.functions.get(name)
            if name in {"raises", "warns", "assertRaises"}:  # as a function: pytest.raises(ValueError, int, "x")
                if _dotted(call.func).partition(".")[0] in self._helpers.foreign:
                    continue  # another one may only return whether it does
                yield self._check(call, _hollow_raises(call), swallowed=swallowed)
            elif helper is not None and name not in self._above and not name.startswith("test"):
                for check in _Reader(helper, self._helpers, self._above).checks():
                    yield self._check(call, check.hollow, swallowed=swallowed)
            elif name in {"assertTrue", "assertFalse", "assertEqual", "assertIs"}:
                yield self._check(call, _hollow_method(call, name, self._values), swallowed=swallowed)
            elif self._only_mocks(call.func):
                if name.startswith(CHECKING):
                    yield self._check(call, Hollow.MOCK, swallowed=swallowed)
            elif name.startswith(CHECKING) or _dotted(call.func) in {"pytest.fail", "self.fail"}:
                yield self._check(call, None, swallowed=swallowed)

    def _asks_replaced(self, test: ast.expr) -> bool:
        """Whether an assertion is about what a function returns that the test itself has put in another's place."""
        sides = [test.left, *test.comparators] if isinstance(test, ast.Compare) else [test]
        called = {_dotted(side) for side in sides if isinstance(side, ast.Call)} - {""}
        return any(whole == name or whole.endswith(f".{name}") for name in called for whole in self._replaced)

    def _only_mocks(self, node: ast.expr) -> bool:
        """Whether an expression is about mocks alone that nothing but the test itself calls."""
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        return bool(names) and names <= self._mocks

    def _check(self, node: ast.stmt | ast.expr, hollow: Hollow | None, *, swallowed: bool) -> Check:
        asks_copy = any(_is_name(each, self._copies) for each in ast.walk(node))
        return Check(node.lineno, hollow or (Hollow.COPIED if asks_copy else Hollow.SWALLOWED if swallowed else None))


def _branches(
    node: ast.If | ast.While | ast.For | ast.AsyncFor | ast.Match,
) -> tuple[ast.expr, tuple[list[ast.stmt], ...]]:
    """Return the expression that decides, and the blocks that it may come to."""
    match node:
        case ast.Match(subject=subject, cases=cases):
            return subject, tuple(case.body for case in cases)
        case ast.For(iter=items) | ast.AsyncFor(iter=items):
            return items, (node.orelse,) if constant(items) is False else (node.body, node.orelse)
        case _:
            known = constant(node.test)
            return node.test, tuple(
                block for block, never in ((node.body, False), (node.orelse, True)) if known is not never
            )


def _hollow(test: ast.expr, values: Mapping[str, ast.expr]) -> Hollow | None:
    """Return why an asserted expression proves nothing."""
    if constant(test) is not None:
        return Hollow.CONSTANT
    if _asks_mock(test, values):
        return Hollow.MOCK
    match test:
        case ast.Compare(left=left, ops=[ast.Eq() | ast.Is() | ast.LtE() | ast.GtE()], comparators=[right]):
            return _hollow_comparison(left, right, values)
        case ast.BoolOp(op=ast.Or(), values=parts):
            return next((Hollow.CONSTANT for part in parts if _hollow(part, values) is Hollow.CONSTANT), None)
        case ast.BoolOp(values=parts):
            found = [_hollow(part, values) for part in parts]
            return found[0] if all(found) else None
        case _:
            return None


def _hollow_comparison(left: ast.expr, right: ast.expr, values: Mapping[str, ast.expr]) -> Hollow | None:
    """Return whether both sides are the same; two objects that are made alike ask for their equality."""
    if is_loose(left) or is_loose(right):
        return Hollow.LOOSE
    same = ast.dump(left) == ast.dump(right)
    if same and not _has_call(left):
        return Hollow.CONSTANT
    ours, theirs = _resolved(left, values), _resolved(right, values)
    same = ast.dump(ours) == ast.dump(theirs) and _has_call(ours) and not _calls_class(ours)
    return Hollow.RECOMPUTED if same else None


def _hollow_method(call: ast.Call, name: str, values: Mapping[str, ast.expr]) -> Hollow | None:
    """Return the same of unittest's methods that stand for an `assert`."""
    match name, call.args:
        case "assertEqual" | "assertIs", [left, right, *_]:
            compared = ast.Compare(left, [ast.Eq()], [right])
            return _hollow(compared, values)
        case "assertTrue", [test, *_]:
            return _hollow(test, values)
        case "assertFalse", [test, *_]:
            return Hollow.CONSTANT if constant(test) is not None else None
        case _:
            return None


def _hollow_raises(call: ast.Call) -> Hollow | None:
    matched = _last_name(call) == "assertRaisesRegex" or any(each.arg in {"match", "check"} for each in call.keywords)
    if matched or _last_name(call) in {"warns", "deprecated_call"} or not call.args:
        return None
    named = call.args[0].elts if isinstance(call.args[0], ast.Tuple) else [call.args[0]]
    return Hollow.BROAD_RAISES if any(_dotted(each) in BROAD for each in named) else None


def _asks_mock(test: ast.expr, values: Mapping[str, ast.expr]) -> bool:
    """Whether an assertion calls a mock of the test itself, and nothing else but that."""
    called = _resolved(test.left, values) if isinstance(test, ast.Compare) else _resolved(test, values)
    if not isinstance(called, ast.Call):
        return False
    root: ast.expr = called.func
    while isinstance(root, ast.Attribute):
        root = root.value
    made = values.get(root.id) if isinstance(root, ast.Name) else root
    return isinstance(made, ast.Call) and _last_name(made) in MOCKS


def _replaced_by(call: ast.Call) -> str:
    """Return what a call replaces, such as `shop.total` for `patch.object(shop, "total")`; nothing for other calls."""
    name, words = _dotted(call.func), [each.value for each in call.args if isinstance(each, ast.Constant)]
    if not words or not isinstance(words[0], str):
        return ""
    if name.endswith("patch.object") or (name.endswith("monkeypatch.setattr") and len(call.args) > 2):
        owner = _dotted(call.args[0])
        return f"{owner}.{words[0]}" if owner else words[0]
    return words[0] if name.rpartition(".")[2] == "patch" or name.endswith("monkeypatch.setattr") else ""


def _replacements(function: FunctionNode) -> Iterator[str]:
    """Yield what a function replaces from its beginning, or for as long as it runs."""
    for node in (*function.decorator_list, *(each.value for each in function.body if isinstance(each, ast.Expr))):
        if isinstance(node, ast.Call) and (name := _replaced_by(node)):
            yield name


def _own_mocks(function: FunctionNode) -> frozenset[str]:
    """Return the names of the mocks that a function makes and gives to nobody: it only calls and asks them itself."""
    mocks = {
        name
        for name, value in _assigned_once(function).items()
        if isinstance(value, ast.Call) and _last_name(value) in MOCKS
    }
    parents = {id(child): node for node in ast.walk(function) for child in ast.iter_child_nodes(node)}
    given: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            top: ast.AST = node
            while isinstance(parent := parents[id(top)], ast.Attribute):
                top = parent
            called = isinstance(parent, ast.Call) and parent.func is top
            if not (called or isinstance(parent, _ASKING) or isinstance(getattr(top, "ctx", None), ast.Store)):
                given.add(node.id)
    return frozenset(mocks - given)


def _acts(function: FunctionNode) -> bool:
    """Whether a function calls something for what it does, not for what it returns."""
    return any(
        isinstance(node, ast.With | ast.AsyncWith) or (isinstance(node, ast.Expr) and _has_call(node.value))
        for node in ast.walk(function)
    )


def _assigned_once(function: FunctionNode) -> Mapping[str, ast.expr]:
    """Return the values of the names that a function binds once, by a plain assignment."""
    bound: dict[str, list[ast.expr | None]] = {}
    plain = {
        id(node.targets[0]): node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and len(node.targets) == 1
    }
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.setdefault(node.id, []).append(plain.get(id(node)))
    return {name: given[0] for name, given in bound.items() if len(given) == 1 and given[0] is not None}


def _leads_to(copied: frozenset[str], function: FunctionNode) -> frozenset[str]:
    """Return the names of these functions, and of what the function binds to a value that they are asked for."""
    if not copied:
        return copied
    bound = _assigned_once(function).items()
    return copied | {name for name, value in bound if any(_is_name(node, copied) for node in ast.walk(value))}


def _is_name(node: ast.AST, names: frozenset[str]) -> bool:
    return isinstance(node, ast.Name) and node.id in names


def _resolved(node: ast.expr, values: Mapping[str, ast.expr]) -> ast.expr:
    return values.get(node.id, node) if isinstance(node, ast.Name) else node


def _swallows(handler: ast.ExceptHandler) -> bool:
    """Whether a handler catches a failed assertion and lets the test pass."""
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type] if handler.type else []
    if handler.type is not None and SWALLOWING.isdisjoint(map(_last_name, caught)):
        return False
    ends = (ast.Raise, ast.Assert)
    nodes = [node for each in handler.body for node in ast.walk(each)]
    fails = any(isinstance(node, ast.Call) and _dotted(node.func) in {"pytest.fail", "self.fail"} for node in nodes)
    return not (fails or any(isinstance(node, ends) for node in nodes))


def _has_call(node: ast.expr) -> bool:
    return any(isinstance(each, ast.Call) for each in ast.walk(node))


def _calls_class(node: ast.expr) -> bool:
    """Whether it makes an object, so that comparing two of them asks for their equality."""
    return isinstance(node, ast.Call) and _last_name(node)[:1].isupper()


def _last_name(node: ast.AST) -> str:
    """Return the last part of what an expression names or calls; nothing where it has no name."""
    return _dotted(node).rpartition(".")[2]


def _dotted(node: ast.AST) -> str:
    match node:
        case ast.Call(func=func):
            return _dotted(func)
        case ast.Attribute(value=value, attr=attr):
            return f"{_dotted(value)}.{attr}".lstrip(".")
        case ast.Name(id=name):
            return name
        case _:
            return ""
