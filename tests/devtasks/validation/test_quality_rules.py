import asyncio

import pytest

from devtasks.validation import text_tools
from devtasks.validation.linter import Linter
from devtasks.validation.quality_rules import Formatted, Lint, Types
from devtasks.validation.result import ValidationLevel

CODE = "src/shop/price.py"


def check(rule, context):
    outcome = asyncio.run(rule.check(context))
    return outcome.value, [(finding.level, finding.message) for finding in outcome.findings]


def text_of(shop) -> str:
    return (shop / CODE).read_text()


def test_clean_code_has_no_finding(change, shop):
    assert check(Lint(), change({CODE: f"{text_of(shop)}\n\ndef free():\n    return 0\n"})) == (1, [])


def test_a_name_that_is_not_there_is_refused_in_any_project(change, shop):
    value, ((level, message),) = check(Lint(), change({CODE: f"{text_of(shop)}\n\ndef free():\n    return nothing\n"}))
    assert (value, level) == (0, ValidationLevel.ERROR)
    assert "F821" in message


def test_what_a_project_s_own_linter_refuses_is_refused_and_else_a_warning(change, shop):
    context = change({CODE: f"import os\n{text_of(shop)}"})
    assert check(Lint(), context)[1][0][0] is ValidationLevel.WARNING
    (shop / "ruff.toml").write_text('[lint]\nselect = ["F"]\n')
    assert check(Lint(), context)[1][0][0] is ValidationLevel.ERROR


def test_what_was_there_before_is_not_blamed_on_the_change(change, shop):
    text = text_of(shop)
    (shop / CODE).write_text(f"import os\n{text}")
    assert check(Lint(), change({CODE: f"import os\nA = 1\n{text}"}))[0] == 1
    assert check(Lint(), change({CODE: f"import os\nimport sys\nA = 1\n{text}"}))[0] == 0


def test_a_change_cannot_silence_the_linter(change, shop):
    (shop / "ruff.toml").write_text('[lint]\nselect = ["F"]\n')
    silenced = {"ruff.toml": "[lint]\nselect = []\n", CODE: f"import os\n{text_of(shop)}"}
    assert check(Lint(), change(silenced))[0] == 0


def test_a_linter_that_cannot_look_says_nothing(shop, monkeypatch):
    (shop / "ruff.toml").write_text("no toml\n")
    assert asyncio.run(Linter(shop).problems(CODE, b"import os\n")) is None
    monkeypatch.setattr(text_tools, "SECONDS", 0)
    assert asyncio.run(Linter(shop).complexity(CODE, b"def f(): pass\n")) is None


FORMATTERS = {"ruff.toml": "[format]\n", "pyproject.toml": "[tool.ruff.format]\n"}


@pytest.mark.parametrize("name", FORMATTERS)
def test_a_file_that_the_project_s_formatter_would_change_is_a_warning(change, shop, name):
    ugly = f"{text_of(shop)}\n\ndef free( ):\n    return   0\n"
    assert check(Formatted(), change({CODE: ugly})) == (1, [])
    (shop / CODE).write_text(ugly.partition("\n\n\ndef free")[0] + "\n")
    (shop / name).write_text(FORMATTERS[name])
    value, ((level, message),) = check(Formatted(), change({CODE: ugly}))
    assert (value, level) == (0, ValidationLevel.WARNING)
    assert CODE in message


def test_a_file_that_was_not_formatted_before_need_not_be(change, shop):
    (shop / "ruff.toml").write_text("[format]\n")
    (shop / CODE).write_text("A  =  1\n")
    assert check(Formatted(), change({CODE: "A  =  2\n"})) == (1, [])


def test_types_are_asked_of_the_project_s_own_checker(change, shop, runner):
    context = change({CODE: text_of(shop)})
    assert check(Types(), context) == (1, [])
    assert runner.commands == []
    (shop / "pyproject.toml").write_text("[tool.mypy]\n")
    (shop / "mypy.py").write_text("raise SystemExit(2)\n")
    (_, ((level, message),)) = check(Types(), change({CODE: f"A = 1\n{text_of(shop)}"}))
    assert (level, "cannot run it" in message) == (ValidationLevel.WARNING, True)


def test_a_new_type_error_is_refused_and_an_old_one_is_not(change, shop):
    (shop / "pyproject.toml").write_text("[tool.mypy]\n")
    # The checker of this project's environment: it finds every line that holds the word.
    (shop / "mypy").mkdir()
    (shop / "mypy/__main__.py").write_text(
        "import sys\nfound = [(p, n) for p in sys.argv if p.endswith('.py') for n, line in enumerate(open(p), 1)\n"
        "         if 'wrong' in line]\n"
        "for path, number in found:\n    print(f'{path}:{number}: error: Incompatible types  [assignment]')\n"
        "sys.exit(bool(found))\n"
    )
    (shop / CODE).write_text("A = 'wrong'\n")
    assert check(Types(), change({CODE: "B = 1\nA = 'wrong'\n"})) == (1, [])
    (shop / CODE).write_text("A = 'wrong'\n")
    value, ((level, message),) = check(Types(), change({CODE: "A = 'wrong'\nC = 'wrong'\n", "x.py": "A = 1\n"}))
    assert (value, level) == (0, ValidationLevel.ERROR)
    assert "Incompatible types" in message
