"""The rules for documentation, in the order they are asked: no code changed, more is documented, and it is true.

Of the weights (10 together) the docstrings have 3: with the default quality threshold of 0.7, the part of the public
objects that is documented decides only together with another rule, so that one function of a large file can be asked
for alone.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from devtasks.validation.code_comparison import Difference, directives, first_difference
from devtasks.validation.conventions import MAX_SOURCE_BYTES
from devtasks.validation.docstrings import Documented, documented, parse
from devtasks.validation.doctest_rule import Doctests
from devtasks.validation.markdown_rule import Markdown
from devtasks.validation.reports import read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext, ValidationRule
from devtasks.validation.signature_rule import Signatures
from devtasks.workspace import Change, ChangeStatus

DOCUMENT_SUFFIXES = frozenset({".md", ".markdown", ".rst", ".adoc"})
PYTHON_SUFFIXES = frozenset({".py", ".pyi"})

_LISTED = 10


def is_document(path: str) -> bool:
    """Whether a file is a text for readers by its name."""
    return PurePosixPath(path).suffix.lower() in DOCUMENT_SUFFIXES


def is_python(path: str) -> bool:
    """Whether a file is Python by its name."""
    return PurePosixPath(path).suffix in PYTHON_SUFFIXES


@dataclass(frozen=True)
class CodeUnchanged:
    """Only docstrings, comments and documents changed; value 1 or 0.

    Python is compared by its syntax tree, without strings that stand alone, `pass` and `...`. A file that is neither
    Python nor a document cannot be compared so and must stay. Changed comments that
    tools obey, such as `# noqa`, are warned of.
    """

    name: str = "code_unchanged"
    weight: float = 2

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Compare every changed file with what it was."""
        if not context.changes:
            message = "the agent changed nothing: write the documentation asked for"
            return RuleOutcome(0, (_error(self.name, message),), stop=True)
        findings = tuple(finding for change in context.changes for finding in self._findings(context, change))
        failed = any(finding.level is ValidationLevel.ERROR for finding in findings)
        return RuleOutcome(0 if failed else 1, findings, stop=failed)

    def _findings(self, context: ValidationContext, change: Change) -> Iterator[Finding]:
        path = change.path
        if change.status is ChangeStatus.DELETED:
            level = ValidationLevel.WARNING if is_document(path) else ValidationLevel.ERROR
            yield Finding(self.name, level, f"the file {path} was deleted: put it back", path)
        elif is_python(path):
            after = read_bounded(context.workspace / path, MAX_SOURCE_BYTES)
            yield from self._python(path, context.before(path), after, added=change.status is ChangeStatus.ADDED)
        elif not is_document(path):
            undo = "remove it" if change.status is ChangeStatus.ADDED else "put it back as it was"
            kinds = ", ".join(sorted(DOCUMENT_SUFFIXES))
            message = f"{path} is neither Python nor a document ({kinds}), so nothing shows it unchanged: {undo}"
            yield _error(self.name, message, path)

    def _python(self, path: str, before: bytes | None, after: bytes | None, *, added: bool) -> Iterator[Finding]:
        if before is None and not added:
            yield _error(self.name, f"{path} cannot be compared: what it was is not known", path)
            return
        if after is None:
            yield _error(self.name, f"{path} is no plain file, or over {MAX_SOURCE_BYTES // 1024} KiB", path)
            return
        old, new = parse(before or b""), parse(after)
        if old is None or new is None:
            if before != after:
                message = f"{path} {'no longer' if old else 'did and does not'} parse: put its code back as it was"
                yield _error(self.name, message, path, _syntax_error(after))
            return
        difference = first_difference(old, new)
        if difference:
            yield _differs(self.name, path, difference, before or b"", after)
        elif (comments := directives(before or b"")) != (now := directives(after)):
            gone, new_ones = sorted(comments - now), sorted(now - comments)
            message = f"{path}: comments that tools obey changed (gone: {gone}, new: {new_ones}): put them back"
            yield Finding(self.name, ValidationLevel.WARNING, message, path)


@dataclass(frozen=True)
class Docstrings:
    """More public objects of the changed Python files are documented than before; for documents alone, text was added.

    Value: the part of the files' public modules, classes, functions and methods whose docstring says more than their
    name, 0 where it did not rise. Where all had one already, a changed docstring is enough.
    """

    name: str = "docstrings"
    weight: float = 3

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Count docstrings before and after."""
        files = [path for path in context.written if is_python(path)]
        if not files:
            return self._documents(context)
        before = {key: each for path in files for key, each in self._public(path, context.before(path))}
        sources = {path: read_bounded(context.workspace / path, MAX_SOURCE_BYTES) for path in files}
        after = {key: each for path, source in sources.items() for key, each in self._public(path, source)}
        explained = {key for key, each in after.items() if each.explained}
        were = {key for key, each in before.items() if each.explained}
        lost = [
            _error(
                self.name,
                f"the docstring of {label(path, each)} says nothing any more: put it back",
                f"{path}:{each.line}",
            )
            for (path, _), each in after.items()
            if (path, each.name) in were - explained
        ]
        changed = any(each.docstring != before[key].docstring for key, each in after.items() if key in before)
        rose = len(explained) > len(were) or (len(were) == len(after) and changed)
        missing = [key for key in after if key not in explained]
        findings = (*lost, *self._missing(after, missing, rose=rose))
        failed = lost or not rose
        return RuleOutcome(0 if failed else len(explained) / len(after) if after else 1, findings)

    def _public(self, path: str, source: bytes | None) -> Iterator[tuple[tuple[str, str], Documented]]:
        tree = parse(source) if source is not None else None
        public = _is_public(path)
        for each in documented(tree, public_module=public).values() if tree else ():
            if each.public:
                yield (path, each.name), each

    def _missing(
        self, after: dict[tuple[str, str], Documented], missing: list[tuple[str, str]], *, rose: bool
    ) -> Iterator[Finding]:
        """Say which objects are without a docstring, apart from those whose docstring says nothing."""
        level = ValidationLevel.WARNING if rose else ValidationLevel.ERROR
        if not rose:
            message = f"no more is documented than before ({len(after) - len(missing)} of {len(after)} public objects)"
            yield _error(self.name, f"{message}: write docstrings that say what the code does")
        for key in missing[:_LISTED]:
            each, path = after[key], key[0]
            what = "repeats only its name" if each.docstring else "is missing"
            message = f"the docstring of {label(path, each)} {what}: say what it does, returns or is for"
            yield Finding(self.name, level if each.docstring else ValidationLevel.INFO, message, f"{path}:{each.line}")
        if len(missing) > _LISTED:
            yield Finding(self.name, ValidationLevel.INFO, f"{len(missing) - _LISTED} more public objects have none")

    def _documents(self, context: ValidationContext) -> RuleOutcome:
        for path in filter(is_document, context.written):
            now = read_bounded(context.workspace / path) or b""
            known = {line.strip() for line in (context.before(path) or b"").splitlines()}
            if any(line.strip() and line.strip() not in known for line in now.splitlines()):
                return RuleOutcome(1)
        return RuleOutcome(0, (_error(self.name, "no document gained a line: write the documentation asked for"),))


def label(path: str, each: Documented) -> str:
    """Return an object's name as a message shows it, such as `discount of src/shop/price.py`."""
    return f"{each.label} of {path}" if each.name else f"the module {path}"


def _is_public(path: str) -> bool:
    """Whether no part of a path is private; `__init__` and `__main__` are public."""
    parts = PurePosixPath(path).with_suffix("").parts
    return not any(part.startswith("_") and not part.startswith("__") for part in parts)


def _differs(rule: str, path: str, difference: Difference, before: bytes, after: bytes) -> Finding:
    old, new = _source_line(before, difference.before), _source_line(after, difference.after)
    line = difference.after or difference.before or 1
    message = f"{path} holds other code than before, first at line {line}: put the code back and change only docstrings"
    shown = [f"- {old}" if old else "", f"+ {new}" if new else ""]
    return _error(rule, message, f"{path}:{line}", "\n".join(filter(None, shown)))


def _source_line(source: bytes, line: int | None) -> str:
    lines = source.decode(errors="replace").splitlines()
    return lines[line - 1].strip() if line and line <= len(lines) else ""


def _syntax_error(source: bytes) -> str | None:
    try:
        ast.parse(source)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return str(error)
    return None


def _error(rule: str, message: str, place: str | None = None, evidence: str | None = None) -> Finding:
    return Finding(rule, ValidationLevel.ERROR, message, place, evidence or None)


DOCUMENTATION_RULES: tuple[ValidationRule, ...] = (CodeUnchanged(), Docstrings(), Signatures(), Doctests(), Markdown())
