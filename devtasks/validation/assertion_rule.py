"""The rule that asks of new tests whether anything in them could fail."""

from dataclasses import dataclass
from pathlib import Path

from devtasks.validation.assertions import TestProof, read_proofs
from devtasks.validation.conventions import MAX_SOURCE_BYTES
from devtasks.validation.reports import read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext


@dataclass(frozen=True)
class Asserts:
    """The new tests hold checks that could fail; value: the part of them that does.

    One that cannot fail is a warning; where none can, the change is refused. Tests that the syntax tree does not show,
    such as inherited ones, are left to the other rules.
    """

    name: str = "assertions"
    weight: float = 1

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Read the new tests of the changed files."""
        target = _read(context.workspace / context.task.target_file) if context.task.target_file else b""
        proofs = [
            (path, proof)
            for path in context.changed_tests.paths
            for proof in read_proofs(_read(context.workspace / path), target)
        ]
        new = [(path, proof) for path, proof in proofs if context.is_new(f"{path}::{proof.name}")]
        hollow = [(path, proof) for path, proof in new if proof.hollow]
        nothing = bool(hollow) and len(hollow) == len(new)
        level = ValidationLevel.ERROR if nothing else ValidationLevel.WARNING
        findings = tuple(
            Finding(self.name, level, _message(path, proof), f"{path}:{_line(proof)}", test=f"{path}::{proof.name}")
            for path, proof in hollow
        )
        return RuleOutcome(1 - len(hollow) / len(new) if new else 1, findings)


def _read(path: Path) -> bytes:
    return read_bounded(path, MAX_SOURCE_BYTES) or b""


def _message(path: str, proof: TestProof) -> str:
    return f"{path}::{proof.name} {proof.hollow}: assert what the code under test returns or does"


def _line(proof: TestProof) -> int:
    return proof.checks[0].line if proof.checks else proof.line
