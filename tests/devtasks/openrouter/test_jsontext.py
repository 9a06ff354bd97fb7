import json
import math
from typing import Any

import pytest

from devtasks.openrouter import jsontext


@pytest.mark.parametrize(
    ("content", "value"),
    [
        pytest.param(b'{"a": [1, null, "\xc3\xa9"]}', {"a": [1, None, "é"]}, id="plain"),
        pytest.param(b'"\\ud83d"', "\ud83d", id="half-an-emoji"),
        pytest.param(b"\xef\xbb\xbf{}", {}, id="byte-order-mark"),
        pytest.param('{"a": 1}'.encode("utf-16"), {"a": 1}, id="utf-16"),
    ],
)
def test_what_is_json_is_read_and_written_again(content: bytes, value: Any) -> None:
    assert jsontext.read(content) == jsontext.read(content, finite=True) == value
    assert json.loads(jsontext.write(value)) == value


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"[1.5, 1e400]"])
def test_a_number_that_is_none_is_read_unless_it_must_be_finite(number: bytes) -> None:
    value = jsontext.read(number)
    assert not math.isfinite(value[-1] if isinstance(value, list) else value)
    with pytest.raises(ValueError, match="is no number"):
        jsontext.read(number, finite=True)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000])
def test_what_is_no_json_or_too_deep_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"too deep|char|decode|Expecting"):
        jsontext.read(content)


def test_what_is_nested_too_deep_to_write_is_a_value_error() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="too deep"):
        jsontext.write(value)
