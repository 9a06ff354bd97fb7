"""The rules for every category, on what a change is made of, whatever it does."""

from dataclasses import dataclass

from devtasks.redaction import kinds_of_keys
from devtasks.validation.reports import read_bounded
from devtasks.validation.result import Finding, ValidationLevel
from devtasks.validation.rule import RuleOutcome, ValidationContext

MAX_SEARCHED_BYTES = 1024 * 1024


@dataclass(frozen=True)
class NoSecrets:
    """No line that was added holds a key of a well-known kind; value 1 or 0."""

    name: str = "secrets"
    weight: float = 0

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Look at the lines of the written files that were not there before."""
        findings = tuple(finding for path in context.written for finding in self._search(context, path))
        return RuleOutcome(0 if findings else 1, findings)

    def _search(self, context: ValidationContext, path: str) -> list[Finding]:
        content = read_bounded(context.workspace / path, MAX_SEARCHED_BYTES) or b""
        old = set((context.before(path) or b"").splitlines())
        new = [(number, line) for number, line in enumerate(content.splitlines(), 1) if line not in old]
        return [
            Finding(
                self.name,
                ValidationLevel.ERROR,
                f"{path} holds what looks like a real {kind}: take it out, and make up one that no service would issue",
                f"{path}:{number}",
            )
            for number, line in new
            for kind in kinds_of_keys(line.decode(errors="replace"))
        ]


@dataclass(frozen=True)
class Size:
    """The change can be read by a person: no more files, and none larger, than the project's settings say; 1 or 0."""

    name: str = "size"
    weight: float = 0

    async def check(self, context: ValidationContext) -> RuleOutcome:
        """Count and measure the written files."""
        settings = context.baseline.settings
        findings = [
            Finding(
                self.name,
                ValidationLevel.ERROR,
                f"{path} has {size // 1024} KiB, at most {settings.max_file_kib} are allowed: make it smaller",
                path,
            )
            for path in context.written
            if (size := (context.workspace / path).lstat().st_size) > settings.max_file_kib * 1024
        ]
        if (count := len(context.changes)) > settings.max_files:
            message = f"{count} files were changed, at most {settings.max_files} are allowed: change fewer"
            findings.append(Finding(self.name, ValidationLevel.ERROR, message))
        return RuleOutcome(0 if findings else 1, tuple(findings), stop=bool(findings))
