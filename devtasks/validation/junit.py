"""pytest's JUnit report: what became of each test."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from xml.etree import ElementTree

from devtasks.validation.reports import tail


class CaseOutcome(StrEnum):
    """How a test ended, or ERROR where its set-up, its tear-down or the import of its file did not."""

    PASSED = "passed"
    SKIPPED = "skipped"
    FAILED = "failed"
    ERROR = "error"


@dataclass(frozen=True)
class Case:
    """One test's end; `place` is `file:line` of its definition, `detail` a short traceback.

    `relies` is what was seen of it besides calling code, where that was watched: see watch_tests.py.
    """

    nodeid: str
    outcome: CaseOutcome
    message: str = ""
    detail: str = ""
    place: str | None = None
    relies: tuple[str, ...] = ()

    @property
    def bad(self) -> bool:
        """Whether the test ended badly."""
        return self.outcome in (CaseOutcome.FAILED, CaseOutcome.ERROR)


NODEID, RELIES = "devtasks-nodeid", "devtasks-relies"
"""The properties that name_tests.py and watch_tests.py write."""

_SEVERITY = list(CaseOutcome)
_ELEMENTS = {"skipped": CaseOutcome.SKIPPED, "failure": CaseOutcome.FAILED, "error": CaseOutcome.ERROR}


def parse_junit(report: bytes) -> tuple[Case, ...]:
    """Return the cases of a report of the family xunit1, one for each test; raise ValueError for any other text."""
    text = report.decode()
    if "<!" in text:
        raise ValueError("pytest's reports declare no document type and no entity")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - the line above leaves nothing to expand
    except ElementTree.ParseError as error:
        raise ValueError(f"not a JUnit report: {error}") from None
    cases: dict[str, Case] = {}
    for case in _cases(root):
        known = cases.get(case.nodeid)
        if known is None or _SEVERITY.index(case.outcome) > _SEVERITY.index(known.outcome):
            cases[case.nodeid] = case
    return tuple(cases.values())


def _cases(root: ElementTree.Element) -> Iterator[Case]:
    for element in root.iter("testcase"):
        if element.get("name"):
            outcome, message, detail = _outcome(element)
            yield Case(_nodeid(element), outcome, message, detail, _place(element), _properties(element, RELIES))


def _outcome(element: ElementTree.Element) -> tuple[CaseOutcome, str, str]:
    for child in element:
        if child.tag in _ELEMENTS:
            return _ELEMENTS[child.tag], child.get("message", "").strip(), tail(child.text or "")
    return CaseOutcome.PASSED, "", ""


def _nodeid(element: ElementTree.Element) -> str:
    """Return the id that was kept with the test, else rebuild it from its file and class."""
    for kept in _properties(element, NODEID):
        return kept
    classname, name, file = element.get("classname", ""), element.get("name", ""), element.get("file", "")
    module = file.removesuffix(".py").replace("/", ".")
    if module and f"{classname}.".startswith(f"{module}."):
        classes = classname[len(module) :].replace(".", "::")
        return f"{file}{classes}::{name}"
    return f"{classname}::{name}" if classname else name


def _properties(element: ElementTree.Element, name: str) -> tuple[str, ...]:
    """Return the values of a property of a case."""
    found = element.iterfind("properties/property")
    return tuple(each.get("value", "") for each in found if each.get("name") == name)


def _place(element: ElementTree.Element) -> str | None:
    file, line = element.get("file"), element.get("line", "")
    return f"{file}:{int(line) + 1}" if file and line.isdecimal() else file
