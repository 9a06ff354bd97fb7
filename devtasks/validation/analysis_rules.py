"""The rules for an analysis, in the order they are asked: one report and nothing else, whole, and true in what it says.

Of the weights (10 together) the citations have 5: what a report says of a project can be checked only there.
"""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from devtasks.allowed_paths import AllowedPaths
from devtasks.validation.citations import Citation, citations
from devtasks.validation.conventions import MAX_SOURCE_BYTES
from devtasks.validation.markdown import Document, read_markdown
from devtasks.validation.markdown_rule import MARKDOWN_SUFFIXES, broken
from devtasks.validation.project_symbols import ProjectSymbols
from devtasks.validation.reports import read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext, ValidationRule
from devtasks.workspace import Change, ChangeStatus

REPORT_SECTIONS = ("Summary", "Findings", "Recommendations", "Limits")
"""The headings of a report, as devtasks/prompts/analysis.md asks for them."""

_LISTED = 10


@dataclass(frozen=True)
class NothingElse:
    """The change is one Markdown report and nothing else; value 1 or 0."""

    name: str = "nothing_else"
    weight: float = 2

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Judge each changed path by its name."""
        others = [
            change
            for change in context.changes
            if not _is_markdown(change.path) or change.status is ChangeStatus.DELETED
        ]
        findings = tuple(_error(self.name, _put_right(change), change.path) for change in others[:_LISTED])
        return RuleOutcome(0 if findings else 1, findings)


@dataclass(frozen=True)
class Report:
    """There is exactly one report, where the task allows it, and its sections hold text; value: the part that do."""

    name: str = "report"
    weight: float = 3

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Find the report and read its headings."""
        allowed = AllowedPaths.of(context.task)
        reports = _reports(context)
        if len(reports) != 1:
            found = f"there are {len(reports)}: {', '.join(reports)}" if reports else "there is none"
            message = f"write exactly one report in Markdown (*.md; allowed: {allowed}); {found}"
            return RuleOutcome(0, (_error(self.name, message),), stop=True)
        path = reports[0]
        document = _read(context, path)
        if document is None or not allowed.allows(path):
            reason = "is not a path that may change" if document else "is no plain file, or too long"
            message = f"the report {path} {reason}: write a plain file; allowed: {allowed}"
            return RuleOutcome(0, (_error(self.name, message, path),), stop=True)
        findings = [
            _error(self.name, f"the report's section `{section}` {problem}", path)
            for section in REPORT_SECTIONS
            if (problem := _section_problem(document, section))
        ]
        return RuleOutcome(1 - len(findings) / len(REPORT_SECTIONS), tuple(findings))


@dataclass(frozen=True)
class Citations:
    """The report cites files, lines and symbols of the project, and all exist; value: the part of them that does.

    A path is cited as `path`, `path:line`, `path:first-last` or by a link, a symbol as `path::name`, `name` in `path`,
    or dotted from a module or class of the project. Other words in backticks are not looked up.
    """

    name: str = "citations"
    weight: float = 5

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Look up everything the report cites."""
        path = _reports(context)[0]
        document = _read(context, path) or read_markdown("")
        symbols = ProjectSymbols(context.workspace)
        folders = frozenset(file.partition("/")[0] for file in symbols.files if "/" in file)
        looked_up = [(each, _problem(symbols, path, each)) for each in citations(document, folders)]
        links = [(link, broken(context.workspace, path, document, link.text)) for link in document.links]
        wrong = [(f"`{each.text}` {problem}", each.line) for each, problem in looked_up if problem]
        wrong += [(problem, link.line) for link, problem in links if problem]
        findings = [_error(self.name, message, f"{path}:{line}") for message, line in wrong]
        if not any(each.path and each.path != path for each, _ in looked_up):
            message = "the report cites no file of the project: name the files and lines it speaks of, as `path:line`"
            return RuleOutcome(0, (*findings, _error(self.name, message, path)))
        local = sum(":" not in link.text for link, _ in links)
        return RuleOutcome(max(0.0, 1 - len(findings) / (len(looked_up) + local)), tuple(findings))


def _problem(symbols: ProjectSymbols, report: str, cited: Citation) -> str | None:
    if cited.path is None:
        unknown = cited.symbol and symbols.knows(cited.symbol) is False
        return "names what the project does not define: correct the name, or cite `path::name`" if unknown else None
    found = _files(symbols, report, cited.path)
    if not found:
        return "is no file of the project: correct the path, or write an absent name without backticks"
    problems = [_problem_in(symbols, path, cited) for path in found]
    return None if None in problems else problems[0]


def _files(symbols: ProjectSymbols, report: str, path: str) -> Sequence[str]:
    """Return the files a cited path may stand for: as it is, beside the report, or the end of longer ones."""
    beside = posixpath.normpath(f"{PurePosixPath(report).parent}/{path}")
    direct = [name for name in (path, beside) if name in symbols.files]
    if direct:
        return direct[:1]
    if any(file.startswith(f"{path}/") or f"/{path}/" in file for file in symbols.files):
        return [path]
    if (symbols.workspace / path).resolve().is_relative_to(symbols.workspace.resolve()) and (
        symbols.workspace / path
    ).exists():
        return [path]
    return [file for file in sorted(symbols.files) if file.endswith(f"/{path}")]


def _problem_in(symbols: ProjectSymbols, path: str, cited: Citation) -> str | None:
    holds = symbols.mentions if cited.mentioned else symbols.in_file
    if cited.symbol and not holds(path, cited.symbol):
        return f"names a symbol that {path} does not have: correct it, or write an absent name without backticks"
    if cited.first is None or cited.last is None:
        return None
    content = read_bounded(symbols.workspace / path)
    lines = len(content.splitlines()) if content is not None else 0
    if 1 <= cited.first <= cited.last <= lines:
        return None
    return f"names lines that are not there: {path} has {lines}"


def _put_right(change: Change) -> str:
    undo = "remove it" if change.status is ChangeStatus.ADDED else "put it back as it was"
    return f"{change.path} was {change.status}, but an analysis changes no file beside its report: {undo}"


def _section_problem(document: Document, section: str) -> str | None:
    headings = [each for each in document.headings if _title(each.title) == section.lower()]
    if not headings:
        return f"is missing: a report has the headings {', '.join(REPORT_SECTIONS)}"
    return None if any(each.filled for each in headings) else "is empty: write it"


def _title(text: str) -> str:
    """Return a heading without its numbering, emphasis and colon."""
    return text.strip("*_` ").lstrip("0123456789.) ").rstrip(": ").lower()


def _reports(context: ValidationContext) -> list[str]:
    return [path for path in context.written if _is_markdown(path)]


def _is_markdown(path: str) -> bool:
    return path.lower().endswith(MARKDOWN_SUFFIXES)


def _read(context: ValidationContext, path: str) -> Document | None:
    content = read_bounded(context.workspace / path, MAX_SOURCE_BYTES)
    return read_markdown(content.decode(errors="replace")) if content is not None else None


def _error(rule: str, message: str, place: str | None = None, evidence: str | None = None) -> Finding:
    return Finding(rule, ValidationLevel.ERROR, message, place, evidence)


ANALYSIS_RULES: tuple[ValidationRule, ...] = (NothingElse(), Report(), Citations())
