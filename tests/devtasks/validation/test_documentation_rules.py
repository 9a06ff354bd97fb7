"""What documentation is refused for: other code, untrue docstrings, examples, links and blocks."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from devtasks.task import TaskCategory
from devtasks.validation.baseline import Baseline, SuiteState
from devtasks.validation.code_comparison import first_difference
from devtasks.validation.docstring_sections import Subject, named
from devtasks.validation.docstrings import documented, parse
from devtasks.validation.doctest_rule import Doctests
from devtasks.validation.documentation_rules import DOCUMENTATION_RULES, Docstrings
from devtasks.validation.result import ValidationLevel, ValidationResult
from devtasks.validation.rule import ValidationContext
from devtasks.validation.signature_rule import Signatures
from devtasks.validation.validator import ResultValidator
from devtasks.workspace import Change, ChangeStatus

PRICE = "shop/price.py"
CODE = """\
class PriceError(ValueError):
    pass


def discount(total, rate=0.1):
    if total < 0:
        raise PriceError(total)  # noqa: TRY003
    return total * (1 - rate)


def log(total):
    print(total)
"""
README = "# Shop\n\nSee [prices](shop/price.py).\n"
PROJECT = {"shop/__init__.py": "", PRICE: CODE, "README.md": README}
HEAD = '"""Prices of the shop in EUR."""\n\n'
ERROR_DOC = ("    pass\n", '    """A total that no order can have."""\n')

Judge = Callable[..., ValidationResult]


def described(docstring: str, function: str = "def discount(total, rate=0.1):") -> str:
    """The module with this docstring for one function."""
    body = "\n".join(f"    {line}".rstrip() for line in docstring.splitlines())
    return HEAD + CODE.replace(f"{function}\n", f'{function}\n    """{body.strip()}\n    """\n').replace(*ERROR_DOC)


GOOD = described("""\
Take the rate off a total.

Args:
    total: EUR before the reduction.
    rate: the part to take off.

Returns:
    EUR after it.

Raises:
    PriceError: for a total below zero.

>>> discount(100, rate=0.5)
50.0
""")


@pytest.fixture
def judge(tmp_path: Path, runner, make_task) -> Judge:
    """Write a change over the project and return the verdict; None deletes a file."""

    def run(written: Mapping[str, str | None], project: Mapping[str, str] = PROJECT, rules=DOCUMENTATION_RULES):
        root, scratch = tmp_path / "project", tmp_path / "scratch"
        scratch.mkdir()
        changes: list[Change] = []
        for name, text in {**project, **written}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is not None:
                path.write_text(text)
            if name in written:
                there = ChangeStatus.MODIFIED if name in project else ChangeStatus.ADDED
                changes.append(Change(name, there if text is not None else ChangeStatus.DELETED))
        context = ValidationContext(
            task=make_task(None, category=TaskCategory.DOCUMENTATION),
            workspace=root,
            changes=tuple(changes),
            baseline=Baseline(SuiteState.GREEN),
            runner=runner,
            scratch=scratch,
            python=Path(sys.executable),
            before={name: text.encode() for name, text in project.items()}.get,
        )
        return asyncio.run(ResultValidator(rules).validate(context))

    return run


def errors(result: ValidationResult, rule: str) -> str:
    return "\n".join(f"{each.place} {each.message}\n{each.evidence}" for each in result.errors if each.rule == rule)


def warnings(result: ValidationResult, rule: str) -> str:
    level = ValidationLevel.WARNING
    return "\n".join(each.message for each in result.findings if each.rule == rule and each.level is level)


def test_true_docstrings_with_an_example_that_runs_are_accepted(judge: Judge):
    result = judge({PRICE: GOOD})

    assert result.passed, result.findings
    assert result.score > 0.9


def test_a_document_that_gained_text_is_accepted(judge: Judge):
    assert judge({"README.md": README + "\nPrices are in EUR.\n"}).passed


def test_no_change_is_refused(judge: Judge):
    assert "changed nothing" in errors(judge({}), "code_unchanged")


def test_another_default_value_under_cover_of_docstrings_is_refused_and_shown(judge: Judge):
    result = judge({PRICE: GOOD.replace("rate=0.1", "rate=0.2")})

    shown = errors(result, "code_unchanged")
    line = GOOD.splitlines().index("def discount(total, rate=0.1):") + 1
    assert f"{PRICE}:{line} " in shown
    assert "- def discount(total, rate=0.1):\n+ def discount(total, rate=0.2):" in shown
    assert result.score == 0


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("shop/new.py", "x = 1\n", "holds other code"),
        ("shop/__init__.py", None, "was deleted"),
        (PRICE, HEAD + "def (", "no longer parse"),
        ("setup.sh", "true\n", "neither Python nor a document"),
    ],
    ids=["new code", "deleted module", "broken syntax", "script"],
)
def test_any_other_code_is_refused(judge: Judge, path: str, text: str | None, said: str):
    assert said in errors(judge({path: text, "README.md": README + "More.\n"}), "code_unchanged")


def test_a_comment_that_tools_obey_is_warned_of(judge: Judge):
    result = judge({PRICE: GOOD.replace("  # noqa: TRY003", "")})

    assert "noqa: TRY003" in warnings(result, "code_unchanged")
    assert result.passed


def test_a_docstring_that_only_repeats_the_name_counts_as_none(judge: Judge):
    result = judge({PRICE: CODE.replace("def log(total):\n", 'def log(total):\n    """Log the total."""\n')})

    assert "log of shop/price.py repeats only its name" in errors(result, "docstrings")


def test_comments_alone_document_nothing(judge: Judge):
    assert "no more is documented" in errors(judge({PRICE: f"# prices\n{CODE}"}), "docstrings")


def test_taking_a_docstring_away_is_refused_though_another_came(judge: Judge):
    one = described("Take the rate off.")
    other = described("Show it on the terminal.", "def log(total):").replace(HEAD, HEAD + "# the same\n")
    result = judge({PRICE: other}, {**PROJECT, PRICE: one})

    assert "the docstring of discount of shop/price.py says nothing any more" in errors(result, "docstrings")


def test_a_docstring_lost_earns_nothing_though_more_were_written(judge: Judge):
    one = described("Take the rate off.").replace(HEAD, "")
    other = described("Show it on the terminal.", "def log(total):")
    result = judge({PRICE: other}, {**PROJECT, PRICE: one}, rules=(Docstrings(),))

    assert result.score == 0


def test_old_examples_of_a_module_that_cannot_be_imported_are_only_warned_of(judge: Judge):
    old = 'import missing_module\n\n\ndef f():\n    """Be one.\n\n    >>> 1\n    1\n    """\n'
    result = judge({PRICE: HEAD + old}, {**PROJECT, PRICE: old})

    assert result.passed, result.findings
    assert "missing_module" in "".join(each.evidence or "" for each in result.findings)


def test_where_all_is_documented_a_better_docstring_is_enough(judge: Judge):
    project = {PRICE: '"""Prices in EUR."""\n', "shop/__init__.py": ""}

    assert judge({PRICE: '"""Prices in EUR, rounded down."""\n'}, project).passed


def test_a_document_that_only_lost_text_is_refused(judge: Judge):
    assert "no document gained a line" in errors(judge({"README.md": "# Shop\n"}), "docstrings")


@pytest.mark.parametrize(
    ("docstring", "function", "said"),
    [
        ("Take it off.\n\nArgs:\n    total: EUR.\n    currency: its code.", "discount", "parameter `currency`"),
        ("Take it off.\n\nParameters\n----------\nfactor : float\n    How much.", "discount", "parameter `factor`"),
        ("Take it off.\n\n:param float percent: how much.", "discount", "parameter `percent`"),
        ("Show it.\n\nReturns:\n    What was shown.", "log", "describes a returned value"),
        ("Show it.\n\nReturns\n-------\nstr\n    What was shown.", "log", "describes a returned value"),
        ("Show it.\n\n:returns: what was shown.", "log", "describes a returned value"),
        ("Show it.\n\nYields:\n    What was shown.", "log", "describes yielded values"),
        ("Take it off.\n\nRaises:\n    OrderError: always.", "discount", "exception `OrderError`"),
        ("Take it off.\n\n:raises OrderError: always.", "discount", "exception `OrderError`"),
    ],
    ids=[
        *("google parameter", "numpy parameter", "sphinx parameter", "google return", "numpy return", "sphinx return"),
        *("google yield", "google exception", "sphinx exception"),
    ],
)
def test_a_docstring_naming_what_is_not_there_is_refused(judge: Judge, docstring: str, function: str, said: str):
    definition = "def log(total):" if function == "log" else "def discount(total, rate=0.1):"
    text = described(docstring, definition)

    shown = errors(judge({PRICE: text}), "signatures")

    assert said in shown
    place = int(shown.partition(" ")[0].rpartition(":")[2])
    name = said.partition("`")[2].strip("`")
    assert name in text.splitlines()[place - 1]


@pytest.mark.parametrize(
    "code",
    [
        'def f(**options):\n    """Send.\n\n    Args:\n        url: where.\n    """\n',
        'class A(B):\n    """Send.\n\n    Args:\n        url: where.\n    """\n',
        'class A:\n    """Sender.\n\n    Args:\n        url: where.\n    """\n    def __init__(self, url): ...\n',
        'class A:\n    """Sender.\n\n    Args:\n        url: where.\n    """\n    url: str\n',
        'def f():\n    """Send.\n\n    Returns:\n        None.\n    """\n    send()\n',
        'def f():\n    """Send.\n\n    Returns:\n        The answer.\n    """\n    raise NotImplementedError\n',
        'def f(*urls):\n    """Send.\n\n    Args:\n        *urls: where.\n    """\n',
        'import http\ndef f():\n    """Send.\n\n    Raises:\n        http.Lost: at night.\n    """\n    send()\n',
        'def f(a, b):\n    """Send.\n\n    Parameters\n    ----------\n    a, b : str\n        Where.\n    """\n',
        'def f(a):\n    """Send.\n\n    Note:\n        url: what it is.\n    """\n',
    ],
    ids=["kwargs", "inherited", "init", "field", "none", "stub", "stars", "imported", "two names", "note"],
)
def test_what_may_be_right_is_not_refused(judge: Judge, code: str):
    assert errors(judge({"a.py": code}, rules=(Signatures(),)), "signatures") == ""


def test_an_untrue_docstring_that_was_there_is_only_warned_of(judge: Judge):
    old = described("Take it off.\n\nArgs:\n    currency: its code.")
    new = old.replace("def log(total):\n", 'def log(total):\n    """Show it on the terminal."""\n')
    result = judge({PRICE: new}, {**PROJECT, PRICE: old})

    assert result.passed, result.findings
    assert "parameter `currency`" in warnings(result, "signatures")


def test_an_example_that_prints_something_else_is_refused_and_named(judge: Judge):
    result = judge({PRICE: GOOD.replace("50.0", "40.0")})

    shown = errors(result, "doctests")
    line = GOOD.splitlines().index("    >>> discount(100, rate=0.5)") + 1
    assert f"{PRICE}:{line} an example in the docstring of discount" in shown
    assert "Expected:\n    40.0\nGot:\n    50.0" in shown


def test_a_failing_example_that_was_there_is_only_warned_of(judge: Judge):
    old = described(">>> discount(100)\n1")
    new = old.replace("def log(total):\n", 'def log(total):\n    """Show it on the terminal."""\n')
    result = judge({PRICE: new}, {**PROJECT, PRICE: old})

    assert "docstring of discount" in warnings(result, "doctests")
    assert errors(result, "doctests") == ""


@pytest.mark.parametrize(
    ("example", "said"),
    [(">>>discount(1)\n1", "lacks blank after >>>"), (">>> import os; os._exit(0)", "cannot be run")],
    ids=["malformed", "ends the run"],
)
def test_an_example_that_cannot_run_is_refused(judge: Judge, example: str, said: str):
    assert said in errors(judge({PRICE: described(f"Take it off.\n\n{example}")}), "doctests")


def test_a_skipped_example_earns_nothing(judge: Judge):
    result = judge({PRICE: GOOD.replace("rate=0.5)", "rate=0.5)  # doctest: +SKIP")}, rules=(Doctests(),))

    assert "are skipped" in warnings(result, "doctests")
    assert result.score == 0


def test_the_projects_doctest_options_hold(judge: Judge):
    ini = "[pytest]\ndoctest_optionflags = ELLIPSIS\n"

    assert judge({PRICE: GOOD.replace("50.0", "5...")}, {**PROJECT, "pytest.ini": ini}).passed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a](missing.md)", "missing.md leads to no file"),
        ("![a](img/missing.png)", "img/missing.png leads to no file"),
        ("[a][r]\n\n[r]: gone.md", "gone.md leads to no file"),
        ('<a href="gone.html">a</a>', "gone.html leads to no file"),
        ("[a](#nowhere)", "#nowhere names a heading that is not there"),
        ("[a](shop/price.py#L900)", "names lines that are not there: price.py has 12"),
        ("[a](../../etc/passwd)", "out of the repository"),
        ("```python\ndef f(:\n```", "a block of python is wrong"),
        ("```python\n>>> f(\n```", "a block of python is wrong"),
        ('```json\n{"a": }\n```', "a block of json is wrong"),
        ("```toml\na = \n```", "a block of toml is wrong"),
        ("```yaml\na: [\n```", "a block of yaml is wrong"),
        ("```sh\nif true; then\n```", "a block of sh is wrong"),
    ],
    ids=[
        "file",
        "image",
        "reference",
        "html",
        "anchor",
        "line",
        "outside",
        "python",
        "session",
        "json",
        "toml",
        "yaml",
        "shell",
    ],
)
def test_a_link_or_block_that_does_not_hold_is_refused(judge: Judge, text: str, said: str):
    assert said in errors(judge({"README.md": f"{README}\n{text}\n"}), "markdown")


@pytest.mark.parametrize(
    "text",
    [
        "[a](shop/) [b](/shop/price.py) [c](https://example.com/x) [d](mailto:a@example.com) [e](#shop)",
        "## What it `costs`, really?\n\n[a](#what-it-costs-really)",
        "## Twice\n\n## Twice\n\n[a](#twice-1)",
        '<a id="here"></a>\n\n[a](#here) [b](shop/price.py#L1-L3) [c](README.md#shop)',
        "```python\nawait f(...)\n```\n\n```text\n{{{\n```\n\n```\n[\n```",
        "```sh\n$ shop <name>\nPrices: (none\n```\n\n```yaml\na: !Ref b\n```",
        "[a](shop/price%2Epy)",
    ],
    ids=["places", "heading", "second heading", "anchors", "blocks", "prompt", "quoted"],
)
def test_links_and_blocks_that_hold_are_accepted(judge: Judge, text: str):
    result = judge({"README.md": f"{README}\n{text}\n"})

    assert errors(result, "markdown") == ""


def test_a_link_that_was_broken_before_is_only_warned_of(judge: Judge):
    old = f"{README}\n[a](gone.md)\n"
    result = judge({"README.md": f"{old}\nMore.\n"}, {**PROJECT, "README.md": old})

    assert result.passed
    assert "gone.md" in warnings(result, "markdown")


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("def f(): pass", 'def f():\n    """Doc."""', True),
        ("class P:\n    x = 1", 'class P:\n    x = 1\n    """What x is."""', True),
        ("x = 1", "x = 1  # one", True),
        ("x = 1", "x = True", False),
        ("x = 0.0", "x = -0.0", False),
        ("f('a')", "f('b')", False),
        ("x = 1", "x = 1\ny = 2", False),
        ("x = 1\ny = 2", "x = 1", False),
    ],
)
def test_code_is_the_same_apart_from_what_has_no_effect(before: str, after: str, same: bool):
    trees = parse(before.encode()), parse(after.encode())

    assert (first_difference(*trees) is None) is same  # type: ignore[arg-type]


def test_private_nested_and_overloaded_objects_need_no_docstring():
    tree = parse(
        b"def _a(): pass\nclass _B:\n  def c(self): pass\n@overload\ndef d(): pass\ndef e():\n  def f(): pass\n"
    )
    assert tree is not None

    assert [name for name, each in documented(tree).items() if each.public] == ["", "e"]


def test_prose_names_nothing():
    assert named("Raises the price: it is low.\n\nReturns early when a: b.\n") == ()


def test_types_in_a_docstring_are_no_names():
    found = named("X.\n\nArgs:\n    a (dict[str, int], optional): b: c.\n        d: deeper\n\nRaises:\n    `E`, F: g\n")

    assert [(each.subject, each.name) for each in found] == [
        (Subject.PARAMETERS, "a"),
        (Subject.RAISES, "E"),
        (Subject.RAISES, "F"),
    ]
