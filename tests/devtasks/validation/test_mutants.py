import pytest

from devtasks.validation.mutants import make_mutants


def changes(source: str, limit: int = 50) -> list[str]:
    return [mutant.change for mutant in make_mutants(source.encode(), range(1, 100), limit)]


MADE = {
    "a boundary": ("x = a > b", ["`a > b` became `(not (a > b))`", "`a > b` became `(a >= b)`"]),
    "an equality": ("x = a == b", ["`a == b` became `(a != b)`"]),
    "a chain": ("x = a == b == c", ["`a == b == c` became `(a != b == c)`", "`a == b == c` became `(a == b != c)`"]),
    "an operator": ("x = a - b", ["`a - b` became `(a + b)`"]),
    "in place": ("x += a", ["`x += a` became `x -= a`"]),
    "both or one": ("x = a and b", ["`a and b` became `(a or b)`"]),
    "a negation": ("x = not a", ["`not a` became `(a)`"]),
    "constants": ("x = [1, True, 'a', 0.5]", ["`'a'` became `'a!'`", "`0.5` became `1.5`", "`1` became `2`"]),
    "a result": ("def f():\n    return a", ["`return a` became `return None`"]),
    "an error": ("raise KeyError('no')", ["became `pass`", "became `raise ArithmeticError('mutant')`"]),
    "a call left out": ("tidy(a)", ["`tidy(a)` became `pass`"]),
    "a condition": ("if ready():\n    x = a", ["`ready()` became `(not (ready()))`"]),
    "a choice": ("x = a if b else c", ["`a if b else c` became `(c if b else a)`", "`b` became `(not (b))`"]),
    "inside an f-string": ('x = f"{a + 1}"', ["`a + 1` became `(a - 1)`"]),
}


@pytest.mark.parametrize(("source", "expected"), MADE.values(), ids=MADE)
def test_what_is_made(source, expected):
    made = changes(source)
    assert all(any(change.endswith(each) for change in made) for each in expected), made


NOT_MADE = {
    "a docstring": '"""About."""',
    "an annotation": "x: list[1 + 2]",
    "a signature": "def f(x: 1 + 2) -> 'a':\n    pass",
    "what is logged": "logger.info('a' + b, 1 > 2)",
    "an error's wording": "raise",
    "how a text is put together": "x = 'a%s' % b",
    "what only type checkers run": "if TYPE_CHECKING:\n    pass",
}


@pytest.mark.parametrize("source", NOT_MADE.values(), ids=NOT_MADE)
def test_what_no_test_needs_to_notice_is_left(source):
    assert [change for change in changes(source) if "'a" not in change] == []


def test_a_mutant_differs_in_its_place_alone():
    source = "# ä\nx = 'ö' if a > b else c  # kept\n\n\ndef f():\n    return x\n"
    for mutant in make_mutants(source.encode(), [2], 50):
        before, after = source.split("\n"), mutant.source.decode().split("\n")
        assert [number for number, pair in enumerate(zip(before, after, strict=True), 1) if pair[0] != pair[1]] == [2]
        assert mutant.line == 2


def test_few_are_spread_over_the_lines_and_always_the_same():
    source = "".join(f"x{number} = a + {number} > b and c\n" for number in range(10)).encode()
    chosen = make_mutants(source, range(1, 11), 10)
    assert {mutant.line for mutant in chosen} == set(range(1, 11))
    assert make_mutants(source, range(1, 11), 10) == chosen


def test_only_on_the_lines_that_are_asked_for():
    assert {mutant.line for mutant in make_mutants(b"x = a + b\ny = a + b\n", [2], 50)} == {2}
