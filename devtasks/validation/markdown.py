"""What a Markdown document holds: headings, links, fenced blocks and code in the text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.token import Token

_HTML_LINK = re.compile(r"""<(?:a|img)\b[^>]*?\b(?:href|src)\s*=\s*["']([^"']+)["']""", re.IGNORECASE)
_HTML_ANCHOR = re.compile(r"""<\w+\b[^>]*?\b(?:id|name)\s*=\s*["']([^"']+)["']""", re.IGNORECASE)
_EXPLICIT_ANCHOR = re.compile(r"\s*\{#([\w-]+)\}\s*$")
_NOT_IN_ANCHOR = re.compile(r"[^\w\- ]")


@dataclass(frozen=True)
class Heading:
    """A heading's text, level and line; `filled` says that something stands below it, a lower heading aside."""

    title: str
    level: int
    line: int
    filled: bool


@dataclass(frozen=True)
class Span:
    """A link's address, or a run of text or code in the text, and the line its paragraph begins on."""

    text: str
    line: int
    code: bool = False


@dataclass(frozen=True)
class Fence:
    """A fenced block; `line` is that of its first line of content."""

    language: str
    content: str
    line: int


@dataclass(frozen=True)
class Document:
    """A parsed document; lines count from 1, `paragraphs` are the runs of text and code of each block."""

    headings: tuple[Heading, ...]
    links: tuple[Span, ...]
    fences: tuple[Fence, ...]
    paragraphs: tuple[tuple[Span, ...], ...]
    anchors: frozenset[str]


def read_markdown(text: str) -> Document:
    """Return what a text holds by CommonMark with tables; anything is a document."""
    from markdown_it import MarkdownIt  # 0.3 s to import, which other categories need not wait for

    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    headings = tuple(_headings(tokens))
    links = tuple(_links(tokens))
    fences = tuple(
        Fence(_language(token.info), token.content, _line(token) + 1) for token in tokens if token.type == "fence"
    )
    paragraphs = tuple(_spans(token) for token in tokens if token.type == "inline")
    return Document(headings, links, fences, paragraphs, frozenset(_anchors(headings, tokens)))


def _headings(tokens: "list[Token]") -> Iterator[Heading]:
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            level = int(token.tag[1:])
            yield Heading(tokens[index + 1].content, level, _line(token), _filled(tokens[index + 3 :], level))


def _filled(tokens: "list[Token]", level: int) -> bool:
    """Whether content comes before the next heading of the same or a higher level."""
    inside_heading = False
    for token in tokens:
        if token.type == "heading_open" and int(token.tag[1:]) <= level:
            return False
        inside_heading = token.type == "heading_open" or (inside_heading and token.type != "heading_close")
        if not inside_heading and token.content.strip():
            return True
    return False


def _links(tokens: "list[Token]") -> Iterator[Span]:
    line = 1
    for token in tokens:
        line = _line(token) if token.map else line
        for child in (token, *(token.children or ())):
            if child.type in ("html_block", "html_inline"):
                yield from (Span(address, line) for address in _HTML_LINK.findall(child.content))
            address = child.attrGet("href") or child.attrGet("src")
            if address:
                yield Span(str(address), line)


def _spans(token: "Token") -> tuple[Span, ...]:
    line = _line(token)
    spans: list[Span] = []
    for child in token.children or ():
        line += child.type in ("softbreak", "hardbreak")
        if child.type in ("text", "code_inline"):
            spans.append(Span(child.content, line, child.type == "code_inline"))
    return tuple(spans)


def _anchors(headings: tuple[Heading, ...], tokens: "list[Token]") -> Iterator[str]:
    """Yield the anchors as GitHub makes them of headings, and those that HTML or `{#id}` names."""
    seen: dict[str, int] = {}
    for heading in headings:
        explicit = _EXPLICIT_ANCHOR.search(heading.title)
        if explicit:
            yield explicit[1]
        slug = _slug(_EXPLICIT_ANCHOR.sub("", heading.title))
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        yield f"{slug}-{count}" if count else slug
    for token in tokens:
        if token.type in ("html_block", "inline"):
            yield from _HTML_ANCHOR.findall(token.content)


def _slug(title: str) -> str:
    shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", title)
    return _NOT_IN_ANCHOR.sub("", shown.replace("*", "").replace("`", "").strip().lower()).replace(" ", "-")


def _language(info: str) -> str:
    words = re.split(r"[\s{,:]", info.strip().lstrip("{."), maxsplit=1)
    return words[0].rstrip("}").lower()


def _line(token: "Token") -> int:
    return token.map[0] + 1 if token.map else 1
