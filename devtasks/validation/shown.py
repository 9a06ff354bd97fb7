"""What one way of showing that code does what was asked comes to."""

from collections.abc import Mapping
from dataclasses import dataclass

from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.target_coverage import TargetCoverage


@dataclass(frozen=True)
class Shown:
    """The part that was shown, 0 to 1, what was seen, and what ran of the written sources meanwhile."""

    value: float
    findings: tuple[Finding, ...]
    ran: Mapping[str, TargetCoverage]

    @property
    def failed(self) -> bool:
        """Whether something showed the opposite."""
        return any(each.level is ValidationLevel.ERROR for each in self.findings)
