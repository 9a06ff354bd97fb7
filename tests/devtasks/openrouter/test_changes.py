from dataclasses import replace
from decimal import Decimal

import pytest

from devtasks.openrouter.changes import changes
from devtasks.selection.capability import ModelCapability

CODER = ModelCapability("acme/coder:free", 131_072, True, Decimal(0), Decimal(0))


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ([], [CODER], "`acme/coder:free` new: free, 131,072 tokens of context, tools"),
        ([CODER], [], "`acme/coder:free` gone: free, 131,072 tokens of context, tools"),
        (
            [CODER],
            [replace(CODER, prompt_price=Decimal("0.0000002"), completion_price=None)],
            "`acme/coder:free` changed: free, 131,072 tokens of context, tools → "
            "$0.2 / unknown for 1,000,000 tokens, 131,072 tokens of context, tools",
        ),
        (
            [CODER],
            [replace(CODER, supports_tools=False)],
            "`acme/coder:free` changed: free, 131,072 tokens of context, tools → "
            "free, 131,072 tokens of context, no tools",
        ),
    ],
    ids=["new", "gone", "price", "tools"],
)
def test_a_change_is_one_line(before: list[ModelCapability], after: list[ModelCapability], line: str) -> None:
    assert changes(before, after) == [line]


def test_what_stayed_is_not_told() -> None:
    assert changes([CODER], [replace(CODER)]) == []
