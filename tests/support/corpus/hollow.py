"""Kinds whose tests run the target and cannot fail, whatever it returns."""

import ast

from corpus.results import Good, Result
from corpus.rewriting import (
    Function,
    Rewrite,
    called_name,
    copied,
    each_test,
    keep_tests,
    marked,
    parse,
    stem,
    with_checks,
    with_top,
    without_checks,
)

_VALUE = "checked_value"
_STATEFUL = frozenset({"next", "pop", "popitem"})
"""Calls that return something else each time."""


def assertions_removed(good: Good) -> Result | None:
    """The target is run and nothing is asked of what it returns."""
    return stem(good, without_checks)


def _always(good: Good, code: str) -> Result | None:
    """Bind what a check says to a name, then say something of that which is always so."""

    def rewrite(said: ast.expr) -> list[ast.stmt]:
        return [ast.Assign([ast.Name(_VALUE, ast.Store())], said), *parse(code.format(value=_VALUE))]

    return _only(good, rewrite)


def asserts_true(good: Good) -> Result | None:
    """`assert True` follows the call."""
    return _always(good, "assert True")


def asserts_or_true(good: Good) -> Result | None:
    """Each check ends in `or True`."""
    return stem(
        good,
        lambda tree: with_checks(tree, lambda said: [ast.Assert(ast.BoolOp(ast.Or(), [said, ast.Constant(True)]))]),
    )


def asserts_itself(good: Good) -> Result | None:
    """What is returned is the same as itself."""
    return _always(good, "assert {value} is {value}")


def asserts_none_or_not(good: Good) -> Result | None:
    """What is returned is None, or it is not."""
    return _always(good, "assert {value} is None or {value} is not None")


def asserts_representation(good: Good) -> Result | None:
    """What is returned has a representation, as everything has."""
    return _always(good, "assert len(repr({value})) > 0")


def asserts_same_call(good: Good) -> Result | None:
    """A call is compared with the same call; tests that compare none are left out."""

    def rewrite(said: ast.expr) -> list[ast.stmt]:
        left = compared_call(said)
        if left is None or any(called_name(node) in _STATEFUL for node in ast.walk(left)):
            return []
        return [ast.Assert(ast.Compare(left, [ast.Eq()], [copied(left)]))]

    return _only(good, rewrite)


def any_number_will_do(good: Good) -> Result | None:
    """Numbers are compared with a tolerance that lets every one pass: a weakened threshold."""

    def rewrite(said: ast.expr) -> list[ast.stmt]:
        match said:
            case ast.Compare(left=left, ops=[ast.Eq()], comparators=[ast.Constant(value=int() | float() as number)]):
                if isinstance(number, bool):
                    return []
                return parse(f"assert {ast.unparse(left)} == pytest.approx({number!r}, abs=1e12)")
            case _:
                return []

    def change(tree: ast.Module) -> ast.Module | None:
        kept = keep_tests(with_checks(tree, rewrite), marked("pytest"))
        return with_top(kept, "import pytest") if kept else None

    return stem(good, change)


def failure_swallowed(good: Good) -> Result | None:
    """Each test catches whatever goes wrong in it, its own failed checks too."""
    return stem(good, lambda tree: each_test(tree, _caught))


def raises_anything(good: Good) -> Result | None:
    """Each test is satisfied with any exception, and raises one itself."""

    def change(body: list[ast.stmt]) -> list[ast.stmt]:
        (block,) = parse("with pytest.raises(Exception):\n    pass")
        assert isinstance(block, ast.With)
        block.body = [*body, *parse("raise ValueError('done')")]
        return [block]

    def changed(tree: ast.Module) -> ast.Module | None:
        tests = each_test(without_checks(tree), change)
        return with_top(tests, "import pytest") if tests else None

    return stem(good, changed)


def returns_early(good: Good) -> Result | None:
    """Each test returns in front of its first check, when it has run what that compares."""

    def change(body: list[ast.stmt]) -> list[ast.stmt]:
        for number, node in enumerate(body):
            if isinstance(node, ast.Assert):
                return [*body[:number], ast.Expr(copied(node.test)), ast.Return(), *body[number:]]
        return []

    def checks_first(function: Function) -> bool:
        first = next((node for node in function.body if _has_assert(node)), None)
        return isinstance(first, ast.Assert)

    def changed(tree: ast.Module) -> ast.Module | None:
        plain = with_checks(tree, lambda said: [ast.Assert(said)])
        kept = keep_tests(plain, checks_first)
        return each_test(kept, change) if kept else None

    return stem(good, changed)


def negated(tree: ast.Module) -> ast.Module | None:
    """Make each check say the opposite, so that its test fails; without tests that check nothing, None if all do."""
    return keep_tests(with_checks(tree, lambda said: [ast.Assert(ast.UnaryOp(ast.Not(), said))]), _has_assert)


def compared_call(said: ast.expr) -> ast.expr | None:
    """Return the left side of a comparison for equality, where it calls something."""
    if isinstance(said, ast.Compare) and len(said.ops) == 1 and isinstance(said.ops[0], ast.Eq):
        calls = any(isinstance(node, ast.Call) for node in ast.walk(said.left))
        return said.left if calls else None
    return None


def _only(good: Good, rewrite: Rewrite) -> Result | None:
    """Replace the checks; tests that hold none afterwards are taken away."""
    return stem(good, lambda tree: keep_tests(with_checks(tree, rewrite), _has_assert))


def _has_assert(code: ast.AST) -> bool:
    return any(isinstance(node, ast.Assert) for node in ast.walk(code))


def _caught(body: list[ast.stmt]) -> list[ast.stmt]:
    (block,) = parse("try:\n    pass\nexcept Exception:\n    pass")
    assert isinstance(block, ast.Try)
    block.body = body
    return [block]
