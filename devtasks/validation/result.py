"""What a validation says: findings, a score and a verdict."""

from dataclasses import dataclass
from enum import StrEnum


class ValidationLevel(StrEnum):
    """How bad a finding is; one ERROR makes the verdict fail whatever the score."""

    ERROR = "ERROR"
    WARNING = "WARNING"
    INFO = "INFO"


@dataclass(frozen=True)
class Finding:
    """One thing a rule saw, written so that a person or a model can act on it; `test` is the one test it is about."""

    rule: str
    level: ValidationLevel
    message: str
    place: str | None = None
    evidence: str | None = None
    test: str | None = None


@dataclass(frozen=True)
class ValidationResult:
    """The verdict on one attempt; `score` lies between 0 and 1, `cut` are the tests that were taken out of it."""

    passed: bool
    score: float
    findings: tuple[Finding, ...]
    cut: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that made the verdict fail."""
        return tuple(finding for finding in self.findings if finding.level is ValidationLevel.ERROR)
