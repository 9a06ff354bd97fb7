"""What a report cites: files, lines and symbols, taken from its code spans, its text and its links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from devtasks.validation.markdown import Document, Span

_SUFFIXES = """
    py pyi md rst txt toml json yaml yml cfg ini sh bash js jsx ts tsx mjs c h cc cpp hpp rs go java kt rb php cs
    swift scala sql html css scss xml csv lock in ipynb proto graphql tf jinja j2 env
"""
FILE_SUFFIXES = frozenset(_SUFFIXES.split())
"""What ends a path; of a bare name only the BARE_SUFFIXES do, as `response.json` and `self.lock` are no files."""

BARE_SUFFIXES = frozenset({"py", "pyi", "md", "rst", "txt", "toml", "yaml", "yml", "ipynb"})

_PATH = r"(?P<path>(?:\.?/)?[\w.@+-]+(?:/[\w.@+-]+)*/?)"
_LINES = r"(?:(?::|#L)(?P<first>\d+)(?::\d+)?(?:\s?[-\u2013]\s?L?(?P<last>\d+)(?::\d+)?)?)"
_SYMBOL = r"(?:::?(?P<symbol>[A-Za-z_]\w*(?:(?:\.|::)\w+)*)(?:\(.*\))?)"
_CITATION = re.compile(rf"{_PATH}(?:{_LINES}|{_SYMBOL})?")
_IN_TEXT = re.compile(rf"(?<![\w/:.@-])(?P<path>[\w.@+-]+(?:/[\w.@+-]+)*\.[a-z]\w{{0,5}}){_LINES}(?!\w)")
_DOTTED = re.compile(r"(?P<symbol>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?:\(.*\))?")
_WORD = re.compile(r"(?P<symbol>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\(.*\))?")
_BETWEEN = re.compile(r"\s*(?:\(|in|of|from|at|\((?:in|at)|defined in)\s*(?:the )?(?:file |module )?")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@dataclass(frozen=True)
class Citation:
    """One thing cited: a file with lines or a symbol where given, or (without a path) a dotted symbol.

    `mentioned` says that the text only says of the symbol that it is in the file.
    """

    text: str
    line: int
    path: str | None = None
    first: int | None = None
    last: int | None = None
    symbol: str | None = None
    mentioned: bool = False


def citations(document: Document, folders: frozenset[str]) -> tuple[Citation, ...]:
    """Return what a report cites; `folders` are the top-level names that make a path of `name/...`."""
    found = [each for paragraph in document.paragraphs for each in _paragraph(paragraph, folders)]
    return tuple(dict.fromkeys(found))


def _paragraph(spans: tuple[Span, ...], folders: frozenset[str]) -> Iterator[Citation]:
    cited = [_citation(span, folders) if span.code else None for span in spans]
    yield from filter(None, cited)
    for span in spans:
        if not span.code and not _ADDRESS.search(span.text):
            yield from (_made(match, span) for match in _IN_TEXT.finditer(span.text))
    qualified = zip(pairwise(spans), spans[2:], cited[2:], strict=False)
    for (word, between), _, path in qualified:
        match = _WORD.fullmatch(word.text.strip()) if word.code and not between.code else None
        if match and path and path.path and not path.symbol and _BETWEEN.fullmatch(between.text):
            yield Citation(f"{word.text} in {path.text}", word.line, path.path, symbol=match["symbol"], mentioned=True)


def _citation(span: Span, folders: frozenset[str]) -> Citation | None:
    """Return what a code span cites: a path that looks like one of this project, or a dotted name."""
    text = span.text.strip()
    match = _CITATION.fullmatch(text)
    if match and _is_path(match, folders):
        return _made(match, span)
    dotted = _DOTTED.fullmatch(text)
    return Citation(text, span.line, symbol=dotted["symbol"]) if dotted else None


def _is_path(match: re.Match[str], folders: frozenset[str]) -> bool:
    path = match["path"].removeprefix("./")
    folders_part, slash, name = path.rpartition("/")
    suffix = name.rpartition(".")[2] if "." in name else ""
    if not slash:
        return suffix in BARE_SUFFIXES or (suffix in FILE_SUFFIXES and match["first"] is not None)
    return suffix in FILE_SUFFIXES or folders_part.partition("/")[0] in folders


def _made(match: re.Match[str], span: Span) -> Citation:
    groups = match.groupdict()
    first, last = groups.get("first"), groups.get("last")
    symbol = (groups.get("symbol") or "").replace("::", ".") or None
    path = match["path"].removeprefix("./").rstrip("/")
    return Citation(
        match[0], span.line, path, int(first) if first else None, int(last or first) if first else None, symbol
    )
