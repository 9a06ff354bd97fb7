"""The error tree: what can go wrong, and what the reader of the message can do about it.

    DevtasksError
     ├── InvalidInput           a value was refused where it entered; correct it and submit again
     │    └── InvalidEntries    several values of a file were; one line for each
     ├── ServiceUnreachable     Prefect, PostgreSQL or OpenRouter does not answer; start it or mend the address
     ├── WorkspaceError         git could not make, compare or deliver a workspace
     ├── ProjectEnvironmentError  a project's dependencies cannot be installed; mend them, or give a set-up command
     ├── LedgerError            the ledger's database refused or is of another version
     ├── QueueFull              as many tasks wait as may; wait, or cancel some
     ├── GitHubRefused          GitHub does not do what a delivery needs; do what the message says
     ├── NoModelAvailable       no model meets the task's requirements; relax one of those named
     └── AgentCrashed           the agent's process died or broke the protocol (transient: started anew)

A model call that was not answered is no exception but a value, `openrouter.answers.Refusal`, with its reason as a kind.

`transient` says whether the same step may be tried again at once; `exit_code` is the command line's.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

MAX_SHOWN = 200
"""Characters of a refused value that its message shows."""

_PHRASES = (
    ("Value error, ", ""),
    ("Input should be ", ""),
    ("String should have ", "text with "),
    ("String should match pattern ", "text that matches "),
    ("Field required", "a value: it is required"),
)


class DevtasksError(Exception):
    """Root of every error this project raises on purpose."""

    transient: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1


class InvalidInput(DevtasksError):
    """A value was refused where it entered; the message names the field, the value and what is allowed."""

    exit_code = 2

    def __init__(self, field: str, value: Any, allowed: str) -> None:
        shown = repr(value)
        if len(shown) > MAX_SHOWN:
            shown = f"{shown[:MAX_SHOWN]}… [{len(shown) - MAX_SHOWN} characters cut]"
        super().__init__(f"{field}: {shown} is not allowed; expected {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed

    @classmethod
    def unknown(cls, field: str, value: Any, known: Sequence[str]) -> "InvalidInput":
        """Return the refusal of a name that is not among the known ones, listing those."""
        return cls(field, value, f"one of {', '.join(known)}")

    @classmethod
    def worded(cls, field: str, value: Any, message: str) -> "InvalidInput":
        """Return the refusal for pydantic's message, put so that it says what is expected."""
        for theirs, ours in _PHRASES:
            message = ours + message.removeprefix(theirs) if message.startswith(theirs) else message
        return cls(field, value, message)


class InvalidEntries(InvalidInput):
    """Values of a file with many entries were refused; the message has a line for each, with its place."""

    def __init__(self, source: str, mistakes: Sequence[str]) -> None:
        super().__init__(source, f"{len(mistakes)} mistakes", "entries without mistakes; nothing was submitted")
        self.mistakes = tuple(mistakes)

    def __str__(self) -> str:
        """The refusal, then the mistakes."""
        return "\n".join((f"{self.field}: not allowed, and nothing was submitted", *self.mistakes))


class ServiceUnreachable(DevtasksError):
    """A service this needs does not answer at the address it was given."""

    transient = True
    exit_code = 3

    def __init__(self, service: str, address: str, reason: str) -> None:
        super().__init__(f"{service} at {address} cannot be reached: {reason}")
        self.service = service
        self.address = address
        self.reason = reason


class WorkspaceError(DevtasksError):
    """Git could not make, compare or deliver a workspace; carries git's own words."""


class ProjectEnvironmentError(DevtasksError):
    """The project's environment could not be made: which command failed, how, and the last lines it printed."""

    def __init__(self, command: str, how: str, output: str) -> None:
        said = "; ".join(line.strip() for line in output.splitlines() if line.strip())[-1_000:]
        super().__init__(
            f"the project's environment cannot be made: `{command}` {how}{f': {said}' if said else ''}. Try it in a "
            "checkout, then mend what describes the dependencies, give a set-up command, or ask for environment none"
        )
        self.command = command
        self.output = said


class LedgerError(DevtasksError):
    """The ledger's database refused an operation or cannot be brought to this version's schema."""


class QueueFull(DevtasksError):
    """As many tasks wait as the queue may hold; nothing was submitted."""

    def __init__(self, waiting: int, max_size: int) -> None:
        super().__init__(
            f"the queue is full: {waiting} tasks wait, and {max_size} may; wait until some are done, cancel some, or "
            "raise the bound"
        )
        self.waiting = waiting
        self.max_size = max_size


class GitHubRefused(DevtasksError):
    """GitHub does not do what a delivery needs, and asking again does not help; `status` is HTTP's, 0 for a push."""

    def __init__(self, what: str, status: int, words: str, todo: str | None = None) -> None:
        how = f" (HTTP {status})" if status else ""
        super().__init__(f"GitHub refuses to {what}{how}: {words}{f'; {todo}' if todo else ''}")
        self.status = status


class NoModelAvailable(DevtasksError):
    """No model meets the task's requirements; the message says which requirement to relax.

    `ready_at` is when the first model that would do has cooled down; None where waiting does not help.
    """

    def __init__(self, message: str, ready_at: datetime | None = None) -> None:
        super().__init__(message)
        self.ready_at = ready_at


class AgentCrashed(DevtasksError):
    """The agent's process died or broke its protocol; the step may be tried again in a new process."""

    transient = True
