"""What has happened so far in one run, kept beside its work so that another process can go on from there."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Self

from pydantic import ConfigDict, TypeAdapter, ValidationError

from devtasks.execution.runtime import AgentResult
from devtasks.metrics_collector import ExecutionMetrics
from devtasks.model_selector import Candidate
from devtasks.openrouter.answers import Refusal
from devtasks.recovery import Attempt, FailureKind, Step
from devtasks.validation.result import ValidationResult
from devtasks.workspace import Patch
from flows.timeline import Timeline
from tasks import Assignment
from tasks.deliver_result import Delivered
from tasks.prepare_workspace import Prepared


@dataclass(frozen=True)
class Worked:
    """What an agent's end was, and where the gateway stood then: models left, moves made, and the last refusal."""

    agent: AgentResult
    lineup: tuple[str, ...]
    rotations: int
    refusal: Refusal | None


@dataclass
class Course:
    """The state between two steps; with `assignment` an attempt is under way, and `worked` and `verdict` are its own.

    `first` is the number of this course's first attempt: one that began anew does not write over an earlier one's rows.
    `questions` is how many a person has answered, `answered` how many attempts there were when one last wanted another
    try.
    """

    __pydantic_config__ = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    prepared: Prepared
    first: int
    step: Step = Step.FALL_BACK
    metrics: list[ExecutionMetrics] = field(default_factory=list[ExecutionMetrics])
    tried: tuple[str, ...] = ()
    lineup: tuple[Candidate, ...] = ()
    conversation_id: str = ""
    agent_seconds: float = 0.0
    assignment: Assignment | None = None
    started_at: datetime | None = None
    worked: Worked | None = None
    patch: Patch | None = None
    verdict: ValidationResult | None = None
    delivered: Delivered | None = None
    reason: str = ""
    deferrals: int = 0
    postponed: tuple[Attempt, ...] = ()
    questions: int = 0
    answered: int = 0
    timeline: Timeline = field(default_factory=Timeline)

    @property
    def history(self) -> tuple[Attempt, ...]:
        """The attempts as the policy sees them: those that are over, and each time that the present one was put off."""
        over = (attempt_of(each) for each in self.metrics)
        return (*(replace(each, answered=at < self.answered) for at, each in enumerate(over)), *self.postponed)

    def save(self, file: Path) -> None:
        """Write the course, whole or not at all; nobody else may read it, because it holds the prompt."""
        draft = file.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_bytes(_JSON.dump_json(self))
        draft.replace(file)

    @classmethod
    def load(cls, file: Path) -> Self | None:
        """Return the course that was saved; None where none was, or by another version, or its workspace is gone."""
        try:
            course = _JSON.validate_json(file.read_bytes())
        except (OSError, ValidationError):
            return None
        made = course.prepared.workspace
        return course if made.path.is_dir() and made.git_dir.is_dir() else None  # pyright: ignore[reportReturnType]


def attempt_of(metrics: ExecutionMetrics) -> Attempt:
    """Return an attempt as the policy sees it."""
    return Attempt(metrics.model_requested, FailureKind(metrics.failure) if metrics.failure else None)


_JSON = TypeAdapter(Course)
