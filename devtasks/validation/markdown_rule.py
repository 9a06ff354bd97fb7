"""The rule that the links of Markdown documents lead somewhere, and that their blocks of code are code."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from devtasks.validation.code_blocks import problem_of
from devtasks.validation.conventions import MAX_SOURCE_BYTES
from devtasks.validation.markdown import Document, read_markdown
from devtasks.validation.reports import read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext

MARKDOWN_SUFFIXES = (".md", ".markdown")

_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)
_LINES = re.compile(r"L(\d+)(?:C\d+)?(?:-L?(\d+)(?:C\d+)?)?")


@dataclass(frozen=True)
class Markdown:
    """Relative links and anchors of the changed documents resolve, and their blocks of code compile or parse.

    Value: the part of the links and blocks that does. A link or block that the document had before is only warned of.
    Addresses of other hosts are not looked up. Blocks in Python, JSON, TOML, YAML and shell are read.
    """

    name: str = "markdown"
    weight: float = 1

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Read the changed Markdown files."""
        findings: list[Finding] = []
        checked = wrong = 0
        for path in (path for path in context.written if path.lower().endswith(MARKDOWN_SUFFIXES)):
            now = read_bounded(context.workspace / path, MAX_SOURCE_BYTES)
            if now is None:
                message = f"{path} is no plain file, or over {MAX_SOURCE_BYTES // 1024} KiB: write a plain file"
                return RuleOutcome(0, (Finding(self.name, ValidationLevel.ERROR, message, path),))
            document = read_markdown(now.decode(errors="replace"))
            before = read_markdown((context.before(path) or b"").decode(errors="replace"))
            known = {link.text for link in before.links} | {fence.content for fence in before.fences}
            problems = [*_broken_links(context.workspace, path, document)]
            problems += [problem async for problem in _broken_blocks(context, document)]
            checked += len(document.links) + len(document.fences)
            for text, line, message in problems:
                old = text in known
                wrong += not old
                level = ValidationLevel.WARNING if old else ValidationLevel.ERROR
                findings.append(Finding(self.name, level, f"{path}: {message}", f"{path}:{line}"))
        return RuleOutcome(1 - wrong / checked if checked else 1, tuple(findings))


def broken(workspace: Path, path: str, document: Document, address: str) -> str | None:
    """Return what is wrong with an address in a document at `path`; None for one that resolves or leads elsewhere."""
    if _ELSEWHERE.match(address):
        return None
    name, _, anchor = unquote(address).partition("#")
    name = name.partition("?")[0]
    root = workspace.resolve()
    target = root / name.lstrip("/") if name.startswith("/") else (root / path).parent / name
    if name:
        if not target.resolve().is_relative_to(root):
            return f"the link to {address} leads out of the repository"
        if not target.exists():
            return f"the link to {address} leads to no file: correct the path, or remove the link"
    return _broken_anchor(target, anchor, document if not name else None, address) if anchor else None


def _broken_links(workspace: Path, path: str, document: Document) -> Iterator[tuple[str, int, str]]:
    for link in document.links:
        if message := broken(workspace, path, document, link.text):
            yield link.text, link.line, message


def _broken_anchor(target: Path, anchor: str, document: Document | None, address: str) -> str | None:
    content = read_bounded(target, MAX_SOURCE_BYTES) if document is None else b""
    if content is None:
        return None
    text = content.decode(errors="replace")
    if document is None and not target.name.lower().endswith(MARKDOWN_SUFFIXES):
        lines, cited = len(text.splitlines()), _LINES.fullmatch(anchor)
        if cited and not 1 <= int(cited[1]) <= int(cited[2] or cited[1]) <= lines:
            return f"the link to {address} names lines that are not there: {target.name} has {lines}"
        return None
    anchors = (document or read_markdown(text)).anchors
    if anchor in anchors or anchor.lower() in anchors or anchor == "top":
        return None
    return f"the link to {address} names a heading that is not there; there are: {', '.join(sorted(anchors)[:10])}"


async def _broken_blocks(context: ValidationContext, document: Document):
    for fence in document.fences:
        if problem := await problem_of(context, fence):
            line, message = problem
            yield fence.content, fence.line + line, f"a block of {fence.language} is wrong: {message}"
