"""The rule that running tests changed neither the tests nor the code they test."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext
from devtasks.validation.stamps import stamps
from devtasks.validation.tampering import RUN_BY_ITSELF
from devtasks.validation.words import listed


@dataclass(frozen=True)
class Untouched:
    """No test and no file of the change was rewritten while tests ran, even if it is again what it was; value 1 or 0.

    A test that writes another file of Python into the project is no matter, unless every later run would obey it.
    """

    name: str = "untouched"
    weight: float = 0

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Compare the files with what they were before the first run."""
        before, now = context.stamps, stamps(context.workspace, context.written)
        touched = [path for path, stamp in before.items() if now.get(path) != stamp]
        touched += [path for path in now if path not in before and _obeyed(path)]
        if not touched:
            return RuleOutcome(1)
        message = (
            f"running the code or its tests rewrites {listed(touched)}: let it write nowhere but to what it is given"
        )
        return RuleOutcome(0, (Finding(self.name, ValidationLevel.ERROR, message, touched[0]),))


def _obeyed(path: str) -> bool:
    return PurePosixPath(path).name in RUN_BY_ITSELF or path.endswith(".pyc")
