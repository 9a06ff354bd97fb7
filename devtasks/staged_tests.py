"""What can be said of staged tests by reading them: which of the new ones can never fail."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from devtasks.errors import WorkspaceError
from devtasks.validation.assertions import read_proofs
from devtasks.workspace.git import Git


@dataclass(frozen=True)
class StagedTests:
    """The test files in the index of a checkout."""

    checkout: Path

    def hollow(self, path: str, warn: Callable[[str], None]) -> list[str]:
        """Return a line for each test of a staged file that can never fail, and was not so before the commit.

        A file that this Python cannot read is warned of: the project's may be another.
        """
        staged = self._show(f":{path}")
        try:
            compile(staged, path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            warn(f"{path} was not looked at: {type(error).__name__}: {error}")
            return []
        before = {(proof.name, proof.hollow) for proof in read_proofs(self._show(f"HEAD:{path}"), b"")}
        return [
            f"{path}:{proof.line}: {proof.name} {proof.hollow}: assert what the code under test returns or does"
            for proof in read_proofs(staged, b"")
            if proof.hollow and (proof.name, proof.hollow) not in before
        ]

    def _show(self, name: str) -> bytes:
        try:
            return Git.at(self.checkout).run("show", name)
        except WorkspaceError:
            return b""
