"""Text of strangers on a terminal: what could move its cursor, rename its window or hide a line becomes visible."""

import re

_DANGEROUS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def harmless(text: str) -> str:
    """Return a text in which every control character but line breaks and tabs is shown as a sign instead.

    Escape is shown as ␛ and so on; what has no such sign, such as a reversal of the direction, as `\\u202e`.
    """
    return _DANGEROUS.sub(_sign, text.replace("\r\n", "\n"))


def _sign(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"\\u{code:04x}"
