"""What is read from tests without running them: every way of proving nothing, and what looks like one but is not."""

from textwrap import dedent

import pytest

from devtasks.validation.assertions import Hollow, read_proofs

HOLLOW = {
    "nothing": ("total(2)", Hollow.NO_CHECK),
    "only a docstring": ('"""It works."""', Hollow.NO_CHECK),
    "print": ("print(total(2) == 4)", Hollow.NO_CHECK),
    "comparison without assert": ("total(2) == 4", Hollow.NO_CHECK),
    "true": ("assert True", Hollow.CONSTANT),
    "text": ("assert 'works'", Hollow.CONSTANT),
    "tuple": ("assert (total(2) == 4, 'message')", Hollow.CONSTANT),
    "or true": ("assert total(2) == 4 or True", Hollow.CONSTANT),
    "not false": ("assert not False", Hollow.CONSTANT),
    "two constants": ("assert 1 == 1", Hollow.CONSTANT),
    "a name with itself": ("result = total(2)\nassert result is not None or True", Hollow.CONSTANT),
    "a length": ("assert len(items()) >= 0", Hollow.CONSTANT),
    "an object": ("assert isinstance(total(2), object)", Hollow.CONSTANT),
    "unittest's true": ("self.assertTrue(True)", Hollow.CONSTANT),
    "unittest's equal": ("self.assertEqual(1, 1)", Hollow.CONSTANT),
    "the same call": ("assert total(2) == total(2)", Hollow.RECOMPUTED),
    "the same call, named": ("expected = total(2)\nassert total(2) == expected", Hollow.RECOMPUTED),
    "a result with itself": ("result = total(2)\nassert result == result", Hollow.CONSTANT),
    "unittest's same call": ("self.assertEqual(total(2), total(2))", Hollow.RECOMPUTED),
    "a mock": ("total = Mock(return_value=4)\nassert total(2) == 4", Hollow.MOCK),
    "a mock's method": ("shop = mock.MagicMock()\nshop.total.return_value = 4\nassert shop.total(2) == 4", Hollow.MOCK),
    "a mock's result": ("f = Mock(return_value=4)\nresult = f(2)\nassert result == 4", Hollow.MOCK),
    "none or not": ("assert total(2) is None or total(2) is not None", Hollow.CONSTANT),
    "so or not so": ("assert total(2) < 4 or not total(2) < 4", Hollow.CONSTANT),
    "a representation": ("assert len(repr(total(2))) > 0", Hollow.CONSTANT),
    "a representation's type": ("assert isinstance(repr(total(2)), str)", Hollow.CONSTANT),
    "any number": ("assert total(2) == pytest.approx(4, abs=1e12)", Hollow.LOOSE),
    "any number of this size": ("assert approx(4.0, rel=1) == total(2)", Hollow.LOOSE),
    "what it asked a mock itself": ("total(2)\nsend = Mock()\nsend(2)\nsend.assert_called_once_with(2)", Hollow.MOCK),
    "what it told a mock itself": ("total(2)\nsend = Mock()\nsend.rate = 4\nassert send.rate == 4", Hollow.MOCK),
    "what it put in the target's place": (
        "with mock.patch.object(shop, 'total', lambda n: 4):\n    assert shop.total(2) == 4",
        Hollow.MOCK,
    ),
    "what it put in the target's place, by name": (
        "with patch('shop.price.total', return_value=4):\n    assert 4 == price.total(2)",
        Hollow.MOCK,
    ),
    "what it set in the target's place": (
        "monkeypatch.setattr(price, 'total', lambda n: 4)\nassert price.total(2) == 4",
        Hollow.MOCK,
    ),
    "what only returns whether": ("from toolz.utils import raises\nraises(TypeError, total)", Hollow.NO_CHECK),
    "what only returns it, dotted": ("import toolz.utils\ntoolz.utils.raises(TypeError, total)", Hollow.NO_CHECK),
    "any exception": ("with pytest.raises(Exception):\n    total(None)", Hollow.BROAD_RAISES),
    "one of any": ("with pytest.raises((ValueError, BaseException)):\n    total(None)", Hollow.BROAD_RAISES),
    "any exception, called": ("pytest.raises(Exception, total, None)", Hollow.BROAD_RAISES),
    "swallowed": ("try:\n    assert total(2) == 5\nexcept AssertionError:\n    pass", Hollow.SWALLOWED),
    "swallowed, bare": ("try:\n    assert total(2) == 5\nexcept:\n    print('well')", Hollow.SWALLOWED),
    "suppressed": ("with contextlib.suppress(Exception):\n    assert total(2) == 5", Hollow.SWALLOWED),
    "after the end": ("return\nassert total(2) == 4", Hollow.NO_CHECK),
    "never": ("if False:\n    assert total(2) == 4", Hollow.NO_CHECK),
    "over nothing": ("for each in []:\n    assert total(each) == 4", Hollow.NO_CHECK),
    "in a function nobody calls": ("def check():\n    assert total(2) == 4", Hollow.NO_CHECK),
    "skips itself": ("pytest.skip('later')\nassert total(2) == 4", Hollow.SKIPPED),
}

PROVING = {
    "a value": "assert total(2) == 4",
    "a mere result": "assert total(2)",
    "after a hollow one": "assert True\nassert total(2) == 4",
    "other arguments": "assert total(2) == total(1) + total(1)",
    "equality of objects": "assert Money(2) == Money(2)",
    "another value of a name": "result = 0\nfor x in (1, 2):\n    result += total(x)\nassert total(2) == result",
    "what uses what it replaced": ("with mock.patch.object(shop, 'rate', lambda: 2):\n    assert shop.total(2) == 4"),
    "another's of the same name": (
        "with mock.patch.object(shop, 'total', lambda n: 4):\n    assert cart.total(2) == 4"
    ),
    "what is no longer replaced": (
        "with mock.patch.object(shop, 'total', lambda n: 4):\n    shop.total(2)\nassert shop.total(2) == 4"
    ),
    "an exception, called": "from pytest import raises\nraises(ValueError, total, None)",
    "an exception, called by another name": "import pytest as pt\npt.raises(ValueError, total, None)",
    "an exception": "with pytest.raises(ValueError):\n    total(None)",
    "any exception with its words": "with pytest.raises(Exception, match='no number'):\n    total(None)",
    "a warning": "with pytest.warns(UserWarning):\n    total(None)",
    "what a mock was asked": "send = Mock()\nshop.order(send)\nsend.assert_called_once_with(2)",
    "what came of a mock": "shop = Shop(Mock(return_value=4))\nassert shop.total(2) == 4",
    "what a mock is told and asked": "send = Mock()\nsend.rate = 4\nassert shop.order(send) == 4",
    "what replaces something": "send = Mock()\nshop.send = send\nshop.order()\nsend.assert_called_once()",
    "a patch": "send = Mock()\nwith patch('shop.send', send):\n    shop.order()\nassert send.called",
    "one of two": "assert total(2) == 4 or total(2) == 5",
    "a text that may be empty": "assert len(str(total(2))) > 0",
    "nearly a number": "assert total(2) == pytest.approx(4, rel=1e-3)",
    "a large number with its tolerance": "assert total(2) == pytest.approx(4e6, abs=1000)",
    "a state that stays": "before = total(2)\nshop.order()\nassert total(2) == before",
    "unittest's": "self.assertEqual(total(2), 4)",
    "another library's": "np.testing.assert_allclose(total(2), 4)",
    "a helper of the file": "helper(total(2))",
    "its own failure": "try:\n    total(None)\nexcept ValueError:\n    return\npytest.fail('no error')",
    "a failure that is told": "try:\n    assert total(2) == 4\nexcept AssertionError:\n    raise",
    "in a loop": "for each in (1, 2):\n    assert total(each) == 2 * each",
    "in a branch": "if total(2):\n    assert total(2) == 4",
    "by an else": "try:\n    total(None)\nexcept ValueError:\n    pass\nelse:\n    raise AssertionError",
}


def file_of(body: str) -> str:
    lines = body.replace("\n", "\n    ")
    return f"def helper(value):\n    assert value == 4\n\n\ndef test_total():\n    {lines}\n"


@pytest.mark.parametrize(("body", "why"), HOLLOW.values(), ids=HOLLOW)
def test_a_test_that_cannot_fail_is_hollow(body: str, why: Hollow) -> None:
    (proof,) = read_proofs(file_of(body))
    assert proof.hollow is why


@pytest.mark.parametrize("body", PROVING.values(), ids=PROVING)
def test_a_test_that_can_fail_is_not(body: str) -> None:
    (proof,) = read_proofs(file_of(body))
    assert (proof.name, proof.hollow) == ("test_total", None)


SKIPPED = """
    import pytest

    @pytest.mark.skip
    def test_marked():
        assert total(2) == 4

    @pytest.mark.xfail(reason="later")
    class TestAll:
        def test_in_class(self):
            assert total(2) == 4

    @pytest.mark.skipif(sys.platform == "win32", reason="elsewhere")
    @pytest.mark.parametrize("x", [1])
    async def test_not_marked(x):
        assert total(2) == 4
"""


def test_marks_of_skipped_tests_and_classes_are_seen() -> None:
    found = {proof.name: proof.hollow for proof in read_proofs(dedent(SKIPPED))}
    assert found == {"test_marked": Hollow.SKIPPED, "TestAll::test_in_class": Hollow.SKIPPED, "test_not_marked": None}
    module = "import pytest\npytestmark = [pytest.mark.skip]\n" + dedent(SKIPPED)
    assert {proof.hollow for proof in read_proofs(module)} == {Hollow.SKIPPED}


def test_where_a_check_stands_is_told() -> None:
    (proof,) = read_proofs("def test_it():\n    x = 1\n    assert True\n    assert total(x) == 4\n")
    assert [(check.line, check.hollow) for check in proof.checks] == [(3, Hollow.CONSTANT), (4, None)]
    assert proof.line == 1
