import asyncio
from dataclasses import replace

import pytest

from devtasks.validation.public_api_rule import PublicApi
from devtasks.validation.result import ValidationLevel
from devtasks.validation.settings import ValidationSettings

CODE = "src/shop/price.py"
TEXT = """\
LIMIT = 100


def discount(total, rate=0.1, *, cents=False):
    return total * rate


def _round(total):
    return total


class Basket:
    def __init__(self, owner):
        self.owner = owner

    def total(self, tax=0):
        return tax

    @property
    def empty(self):
        return True
"""


@pytest.fixture
def ask(change, shop):
    (shop / CODE).write_text(TEXT)

    def run(*replacements: tuple[str, str], files=None, **given):
        text = TEXT
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        return asyncio.run(PublicApi().check(change({CODE: text, **(files or {})}, **given)))

    return run


BROKEN = {
    "a function is renamed": ((("def discount", "def reduce"),), "shop.price.discount is gone"),
    "a constant is gone": ((("LIMIT = 100\n", ""),), "shop.price.LIMIT is gone"),
    "a method is gone": ((("def total", "def sum"),), "Basket.total is gone"),
    "a parameter is renamed": ((("rate=0.1", "part=0.1"), ("* rate", "* part")), "`rate`"),
    "a parameter is added": ((("(total, rate=0.1", "(total, shop, rate=0.1"),), "`shop`"),
    "a default is another": ((("rate=0.1", "rate=0.2"),), "the default of `rate`"),
    "a parameter can only be named": ((("rate=0.1, *", "*, rate=0.1"),), "`rate`"),
    "a property is a method now": ((("    @property\n", ""),), "Basket.empty"),
}


@pytest.mark.parametrize(("replacements", "said"), BROKEN.values(), ids=BROKEN)
def test_what_callers_would_notice_is_refused(ask, replacements, said):
    outcome = ask(*replacements)
    assert outcome.value == 0
    assert any(said in finding.message for finding in outcome.findings)
    assert {finding.level for finding in outcome.findings} == {ValidationLevel.ERROR}


KEPT = {
    "a keyword may be given by place as well": (("*, cents", "cents"),),
    "a private function is renamed": (("def _round", "def _rounded"),),
    "a body is another": (("return total * rate", "part = total * rate\n    return part"),),
    "an optional parameter is added": (("cents=False", "cents=False, unit=None"),),
    "a method is inherited": (
        ("class Basket:", "class Base:\n    def total(self, tax=0):\n        return tax\n\n\nclass Basket(Base):"),
        ("    def total(self, tax=0):\n        return tax\n\n    @", "    @"),
    ),
}


@pytest.mark.parametrize("replacements", KEPT.values(), ids=KEPT)
def test_what_no_caller_notices_is_not(ask, replacements):
    assert ask(*replacements).findings == ()


def test_a_name_that_is_imported_where_it_was_may_move(ask):
    function = TEXT[TEXT.index("def discount") : TEXT.index("def _round")]
    moved = ((function, "from shop.reduction import discount\n\n\n"),)
    assert ask(*moved, files={"src/shop/reduction.py": function}).findings == ()


def test_a_project_may_let_its_api_change(ask, shop_baseline):
    settings = replace(shop_baseline, settings=ValidationSettings(public_api=False))
    outcome = ask(("def discount", "def reduce"), baseline=settings)
    assert (outcome.value, [finding.level for finding in outcome.findings]) == (1, [ValidationLevel.WARNING])


def test_a_file_that_is_new_or_no_module_has_no_api_to_keep(change, shop):
    assert asyncio.run(PublicApi().check(change({"src/shop/new.py": "A = 1\n", "bin/run-it.py": "B = 1\n"}))).value == 1


def test_a_module_that_is_gone_is_refused(change, shop):
    context = change({}, deleted=("src/shop/price.py", "src/shop/__init__.py"))
    context = replace(context, before={"src/shop/price.py": TEXT.encode(), "src/shop/__init__.py": b""}.get)
    assert asyncio.run(PublicApi().check(context)).value == 0
