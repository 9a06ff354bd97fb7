"""The rule that the project's own tests stay what they were."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from devtasks.validation.assertions import TestProof, read_proofs
from devtasks.validation.conventions import MAX_SOURCE_BYTES, is_test_file, is_test_support, read_tests
from devtasks.validation.reports import read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext
from devtasks.validation.words import listed
from devtasks.workspace import Change, ChangeStatus


@dataclass(frozen=True)
class TestsKept:
    """No test that was there is gone, skipped or checks less; value 1 or 0.

    `strict`: none is rewritten at all, nor is a conftest.py; else that is a warning. A file that no longer parses is
    for other rules.
    """

    __test__ = False

    strict: bool = False
    name: str = "tests_kept"
    weight: float = 1

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Compare the changed test files with what they were."""
        findings = tuple(
            finding for change in context.changes for finding in look(context, change, self.name, strict=self.strict)
        )
        failed = any(finding.level is ValidationLevel.ERROR for finding in findings)
        return RuleOutcome(0 if failed else 1, findings, stop=failed)


def look(context: ValidationContext, change: Change, rule: str, *, strict: bool) -> Iterator[Finding]:
    """Yield what a change did to the tests that one file held, as findings of the rule of this name."""
    path, worst = change.path, ValidationLevel.ERROR if strict else ValidationLevel.WARNING
    support = is_test_support(path) or PurePosixPath(path).name == "conftest.py"
    if change.status is ChangeStatus.DELETED:
        if is_test_file(path) or support:
            message = f"the existing file {path} was deleted: put it back"
            yield Finding(rule, ValidationLevel.ERROR, message, path)
        return
    if support and change.status is ChangeStatus.MODIFIED:
        yield Finding(rule, worst, f"{path}, which existing tests are run with, was changed", path)
    before = {test.name: test.digest for test in context.baseline.tests if test.path == path}
    tests = read_tests(context.workspace, path)
    if tests is None:
        return
    now = {test.name: test.digest for test in tests}
    removed = [name for name in before if name not in now]
    changed = [name for name in before if name in now and now[name] != before[name]]
    weakened = _weakened(context, path, changed)
    rewritten = [name for name in changed if name not in weakened]
    if removed:
        message = f"existing tests were removed, put them back: {listed(removed)}"
        yield Finding(rule, ValidationLevel.ERROR, message, path)
    if weakened:
        message = f"existing tests are skipped or check less than before, put them back: {listed(weakened)}"
        yield Finding(rule, ValidationLevel.ERROR, message, path)
    if rewritten:
        yield Finding(rule, worst, f"existing tests were rewritten: {listed(rewritten)}", path)


def _weakened(context: ValidationContext, path: str, names: list[str]) -> list[str]:
    """Return which of these tests are skipped now, or hold fewer checks that could fail."""
    old = _proofs(context.before(path) or b"")
    new = _proofs(read_bounded(context.workspace / path, MAX_SOURCE_BYTES) or b"")
    return [name for name in names if name in old and name in new and _strength(new[name]) < _strength(old[name])]


def _proofs(source: bytes) -> dict[str, TestProof]:
    try:
        return {proof.name: proof for proof in read_proofs(source)}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def _strength(proof: TestProof) -> int:
    return -1 if proof.skipped else sum(check.hollow is None for check in proof.checks)
