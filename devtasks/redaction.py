"""Keeping secrets out of what is written down and shown: what the agent said, printed and changed.

Two ways find them: the values this run knows, down to fragments of them, and the shapes of well-known kinds of keys.
A text that was cut may hold the beginning of a secret only; that is found as well.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

SHORTEST = 8
"""Characters from which a value counts as a secret; shorter ones (`true`, `admin`) would be found everywhere."""

FRAGMENT = 12
"""Characters of a known secret that are removed also where the rest of it is missing."""

_TELLING = 4
"""Characters beyond what every key of its kind begins with, from which a fragment gives something away."""

_CUT = r"(?=\s*(?:\Z|…|\.\.\.|<response clipped>))"
"""The end of a text, or one of the marks that say something was cut there (ours, the SDK's)."""


class Shape(NamedTuple):
    """How keys of one kind look: a beginning that gives them away, then so many characters of a class.

    `keep` stays in the text before the mark.
    """

    kind: str
    beginning: str
    characters: str
    least: int
    keep: str = ""


SHAPES = (
    Shape("OpenRouter key", r"\bsk-or-", r"[\w-]", 16),
    Shape("API key", r"\bsk-(?:proj-|ant-)?", r"[\w-]", 20),
    Shape("run token", r"\bdevtasks-run-", r"[\w-]", 16),
    Shape("GitHub token", r"\b(?:gh[oprsu]_|github_pat_)", r"\w", 20),
    Shape("GitLab token", r"\bglpat-", r"[\w-]", 20),
    Shape("AWS key", r"\b(?:AKIA|ASIA)", r"[A-Z0-9]", 16),
    Shape("Google key", r"\bAIza", r"[\w-]", 35),
    Shape("Slack token", r"\bxox[a-z]-", r"[\w-]", 10),
    Shape("PyPI token", r"\bpypi-", r"[\w-]", 32),
    Shape("JSON web token", r"\beyJ", r"[\w.=-]", 40),
    Shape("bearer token", r"bearer\s+", r"[\w.~+/=-]", 16, keep=r"(?i:bearer\s+)"),
)
"""The documented beginnings of keys; the lengths are the least their issuers have used."""

_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY[A-Z ]*-----.*?(?:-----END [A-Z ]*PRIVATE KEY[A-Z ]*-----|\Z)", re.S)
_URL = re.compile(r"(?<=://)[^\s/:@'\"]{0,200}:(?:[^\s/@'\"]{1,200}(?=@)|(?!\d{1,5}\b)[^\s/@'\"]{4,200}" + _CUT + ")")


class Redactor:
    """Replaces secrets in texts by `[redacted: KIND]`; `known` are values by the kind their mark names."""

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self._fragments: dict[int, dict[str, str]] = {}
        for kind, value in (known or {}).items():
            self.learn(kind, value)

    def learn(self, kind: str, value: str) -> None:
        """Keep a value out of every text from now on; one shorter than SHORTEST is not taken for a secret."""
        for line in value.splitlines():
            if len(line) >= SHORTEST:
                size = min(FRAGMENT, len(line))
                public = _public(line)
                pieces = ((at + size, line[at : at + size]) for at in range(len(line) - size + 1))
                found = self._fragments.setdefault(size, {})
                found.update((piece, kind) for end, piece in pieces if end >= min(public + _TELLING, len(line)))

    def text(self, text: str) -> str:
        """Return a text without its secrets; what was replaced once is left as it is."""
        if len(text) < SHORTEST:
            return text
        text = _BLOCK.sub("[redacted: private key]", self._without_known(text))
        for kind, pattern in _PATTERNS:
            text = pattern.sub(rf"\g<keep>[redacted: {kind}]", text)
        return _URL.sub("[redacted: password]", text)

    def value[T](self, value: T) -> T:
        """Return a value as JSON has them, with every text in it redacted, names of fields included."""
        return self._value(value)

    def _value(self, value: Any) -> Any:
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self._value(name): self._value(each) for name, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
            case list() | tuple():
                return [self._value(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
            case _:
                return value

    def _without_known(self, text: str) -> str:
        """Return a text without any piece of a known secret that is FRAGMENT characters or longer."""
        spans: list[tuple[int, int, str]] = []
        for size, kinds in self._fragments.items():
            for at in range(len(text) - size + 1):
                if kind := kinds.get(text[at : at + size]):
                    spans.append((at, at + size, kind))
        pieces: list[str] = []
        end = 0
        for start, stop, kind in sorted(spans):
            if start >= end or not pieces:
                pieces += [text[end:start], f"[redacted: {kind}]"]
            end = max(end, stop)
        return "".join((*pieces, text[end:])) if pieces else text


def _public(secret: str) -> int:
    """Return how many of a secret's first characters all secrets of its kind have."""
    return max((found.end() for shape in SHAPES if (found := re.match(shape.beginning, secret))), default=0)


def _pattern(shape: Shape) -> re.Pattern[str]:
    keep, beginning = (f"(?P<keep>{shape.keep})", "") if shape.keep else ("(?P<keep>)", shape.beginning)
    long, cut = f"{{{shape.least},}}", f"{{{SHORTEST},}}+{_CUT}"
    return re.compile(f"{keep}{beginning}(?:{shape.characters}{long}|{shape.characters}{cut})")


_PATTERNS = tuple((shape.kind, _pattern(shape)) for shape in SHAPES)

_ALSO_EXAMPLES = frozenset({"JSON web token", "bearer token", "API key"})
"""Kinds that documentation and tests are full of made up ones of."""


def kinds_of_keys(text: str) -> tuple[str, ...]:
    """Return which kinds of keys a text holds that nobody writes by chance, private keys among them."""
    found = [kind for kind, pattern in _PATTERNS if kind not in _ALSO_EXAMPLES and pattern.search(text)]
    return (*found, *(["private key"] if _BLOCK.search(text) else []))
