"""What a docstring names: parameters, returned values and exceptions, in Google, NumPy and Sphinx style."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Subject(StrEnum):
    """What a section is about."""

    PARAMETERS = "parameters"
    RETURNS = "returns"
    YIELDS = "yields"
    RAISES = "raises"
    OTHER = "other"


@dataclass(frozen=True)
class Named:
    """One thing a docstring names; `line` counts from 0 at the docstring's first line."""

    subject: Subject
    name: str
    line: int


_OTHER = (
    *("attributes", "example", "examples", "methods", "note", "notes", "receives", "references", "see also", "todo"),
    *("todos", "usage", "warning", "warnings", "warns"),
)
_TITLES = {
    **dict.fromkeys(("args", "arguments", "parameters", "params", "other parameters"), Subject.PARAMETERS),
    **dict.fromkeys(("keyword args", "keyword arguments"), Subject.PARAMETERS),
    **dict.fromkeys(("returns", "return"), Subject.RETURNS),
    **dict.fromkeys(("yields", "yield"), Subject.YIELDS),
    **dict.fromkeys(("raises", "raise", "exceptions"), Subject.RAISES),
    **dict.fromkeys(_OTHER, Subject.OTHER),
}
_FIELDS = {
    **dict.fromkeys(("param", "parameter", "arg", "argument", "key", "keyword", "type"), Subject.PARAMETERS),
    **dict.fromkeys(("return", "returns"), Subject.RETURNS),
    **dict.fromkeys(("yield", "yields"), Subject.YIELDS),
    **dict.fromkeys(("raise", "raises", "except", "exception"), Subject.RAISES),
}
_FIELD = re.compile(r"\s*:(?P<field>\w+)(?:\s+(?P<argument>[^:]+))?:(?P<text>.*)")
_GOOGLE_HEAD = re.compile(r"(?P<title>[A-Z][A-Za-z ]*):(?P<text>.*)")
_GOOGLE_ITEM = re.compile(r"(?P<names>[^:()]+?)\s*(?:\(.*?\))?\s*:(?:\s|$)")
_NUMPY_ITEM = re.compile(r"(?P<names>[^:]+?)\s*(?::.*)?$")
_NAME = re.compile(r"\\?\*{0,2}[\w.]+", re.ASCII)
_NOTHING = re.compile(r"(?:None|Nothing|no value)\b", re.IGNORECASE)


def named(docstring: str) -> tuple[Named, ...]:
    """Return what a cleaned docstring names; what its author laid out in no known way is left out.

    A return of None or nothing is no named return. The names are as written, without stars and backticks.
    """
    lines = docstring.splitlines()
    return tuple((*_fields(lines), *_numpy(lines), *_google(lines)))


def _fields(lines: list[str]) -> Iterator[Named]:
    for number, line in enumerate(lines):
        match = _FIELD.match(line)
        subject = _FIELDS.get(match["field"]) if match else None
        if match is None or subject is None:
            continue
        if subject in (Subject.RETURNS, Subject.YIELDS):
            if not _NOTHING.match(match["text"].strip()):
                yield Named(subject, "", number)
        elif match["argument"]:
            words = match["argument"].split(",") if subject is Subject.RAISES else match["argument"].split()[-1:]
            yield from _names(subject, words, number)


def _numpy(lines: list[str]) -> Iterator[Named]:
    """Read sections whose title is underlined; their items are not indented, what is said of them is."""
    subject: Subject | None = None
    for number, line in enumerate(lines):
        below = lines[number + 1].strip() if number + 1 < len(lines) else ""
        if line.strip() and len(below) >= 3 and not below.strip("-"):
            subject = _TITLES.get(line.strip().lower())
        elif subject and line.strip() and line.strip("-") and not line[0].isspace():
            yield from _items(subject, line, number, _NUMPY_ITEM)


def _google(lines: list[str]) -> Iterator[Named]:
    """Read sections whose title ends in a colon; their items are indented, what is said of them deeper still."""
    subject: Subject | None = None
    indent: int | None = None
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        depth = len(line) - len(line.lstrip())
        if depth == 0:
            head = _GOOGLE_HEAD.match(line)
            subject = _TITLES.get(head["title"].lower()) if head else None
            indent = None
            if head and subject and subject in (Subject.RETURNS, Subject.YIELDS) and head["text"].strip():
                yield from _items(subject, head["text"].strip(), number, _GOOGLE_ITEM)
                subject = None
        elif subject:
            indent = depth if indent is None else indent
            if depth <= indent:
                yield from _items(subject, line.strip(), number, _GOOGLE_ITEM)
                subject = None if subject in (Subject.RETURNS, Subject.YIELDS) else subject


def _items(subject: Subject, line: str, number: int, item: re.Pattern[str]) -> Iterator[Named]:
    if subject in (Subject.RETURNS, Subject.YIELDS):
        if not _NOTHING.match(line):
            yield Named(subject, "", number)
    elif subject is not Subject.OTHER and (match := item.match(line)):
        yield from _names(subject, match["names"].split(","), number)


def _names(subject: Subject, words: list[str], number: int) -> Iterator[Named]:
    stripped = [word.strip().strip("`") for word in words]
    if all(map(_NAME.fullmatch, stripped)):
        yield from (Named(subject, word.lstrip("\\*"), number) for word in stripped)
