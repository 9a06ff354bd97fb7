"""JSON as calls pass it on: read and written by orjson, and by the standard library what orjson does not take.

orjson is the stricter: half of a surrogate pair (a model's text that was cut within an emoji), a byte order mark or
UTF-16 end it, and so does writing what is nested deeper than 254 levels.
"""

import json
import math
from typing import Any, NoReturn

import orjson


def read(content: bytes, *, finite: bool = False) -> Any:
    """Return what a JSON text holds; raise ValueError where it is none, and for NaN or infinity where asked for."""
    try:
        return orjson.loads(content)
    except ValueError:
        pass
    try:
        return json.loads(content, parse_constant=_refuse, parse_float=_finite) if finite else json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def write(value: Any) -> bytes:
    """Return a value as a JSON text; raise ValueError where it is nested too deep. NaN and infinity become null."""
    try:
        return orjson.dumps(value)
    except TypeError:
        pass
    try:
        return json.dumps(value, separators=(",", ":")).encode()
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is no number of JSON's")
