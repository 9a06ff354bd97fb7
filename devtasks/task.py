"""The development task: what a person asks for, checked where it enters."""

from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Self

from pathspec import GitIgnoreSpec
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator
from pydantic_core import ErrorDetails

from devtasks.errors import InvalidInput


class TaskCategory(StrEnum):
    """The kind of work asked for; decides the prompt and the validation rules."""

    UNIT_TEST = "unit_test"
    REFACTORING = "refactoring"
    DOCUMENTATION = "documentation"
    CODE_GENERATION = "code_generation"
    ANALYSIS = "analysis"
    BUILD_SCRIPT = "build_script"


class TaskPriority(StrEnum):
    """The work queue a task waits in; critical is served first."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class TaskStatus(StrEnum):
    """Where a task stands; the values from ACCEPTED on are the names of its Prefect states.

    APPROVED is a result that was not accepted by validation, but by a person; UNDELIVERED one of either kind that lies
    on its branch, but without the pull request that was asked for.
    """

    PENDING = "Pending"
    RUNNING = "Running"
    ACCEPTED = "Accepted"
    APPROVED = "Approved"
    UNDELIVERED = "Undelivered"
    REJECTED = "Rejected"
    NEEDS_REVIEW = "NeedsReview"
    AWAITING_QUOTA = "AwaitingQuota"
    AWAITING_RETRY = "AwaitingRetry"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    CRASHED = "Crashed"


class Complexity(StrEnum):
    """How hard the task is, as the person who submits it sees it."""

    SIMPLE = "simple"
    MODERATE = "moderate"
    COMPLEX = "complex"


class Delivery(StrEnum):
    """How an accepted result reaches the user: a patch file, also a commit on a new branch, also a draft on GitHub."""

    PATCH = "patch"
    BRANCH = "branch"
    PULL_REQUEST = "pull_request"


class TaskLimits(BaseModel):
    """Bounds of one task over all its attempts; reaching one ends the agent and every process it started.

    `cost_usd` None is no bound on money, the only way to use a model whose price is unknown; `batch_cost_usd` bounds
    what all tasks of the same batch spend together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: Annotated[float, Field(gt=0, le=86_400)] = 900
    llm_calls: Annotated[int, Field(ge=1, le=1_000)] = 40
    tokens: Annotated[int, Field(ge=1_000)] = 1_000_000
    cost_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = 0.50
    batch_cost_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    iterations: Annotated[int, Field(ge=1, le=500)] = 30
    attempts: Annotated[int, Field(ge=1, le=20)] = 4

    def enlarged(self, by: float, first: Self) -> Self:
        """Return these limits with `by` times what `first` allows added; steps of one attempt and batch as they are."""
        more = {name: getattr(self, name) + round(by * getattr(first, name)) for name in ("llm_calls", "tokens")}
        more |= {"seconds": self.seconds + by * first.seconds, "attempts": self.attempts + round(by * first.attempts)}
        if self.cost_usd is not None and first.cost_usd is not None:
            more["cost_usd"] = self.cost_usd + by * first.cost_usd
        return self.model_copy(update=more)


class EnvironmentChoice(StrEnum):
    """Where a project's tests run: an environment made from what describes its dependencies, or devtasks's own."""

    AUTO = "auto"
    NONE = "none"


RelativePath = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_024)]


class DevTask(BaseModel):
    """One development task; every value is checked, and the repository's own facts by `check_repository`.

    `allowed_paths` are patterns as in a .gitignore file, `()` for the category's own (devtasks.allowed_paths);
    `acceptance_tests` are test files of the repository that generated code has to pass, `build_command` the shell
    command that a build script is run by. `review_hours` is how long a person is waited for where no attempt was
    accepted, 0 asks nobody.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    category: TaskCategory
    description: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20_000)]
    repository: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    base_ref: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] = "HEAD"
    target_file: RelativePath | None = None
    context_files: tuple[RelativePath, ...] = ()
    allowed_paths: tuple[RelativePath, ...] = ()
    environment: EnvironmentChoice = EnvironmentChoice.AUTO
    setup_command: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4_096)] | None = (
        None
    )
    priority: TaskPriority = TaskPriority.NORMAL
    complexity: Complexity = Complexity.MODERATE
    quality_threshold: Annotated[float, Field(ge=0, le=1)] = 0.7
    model: str | None = None
    delivery: Delivery = Delivery.PATCH
    review_hours: Annotated[float, Field(ge=0, le=720)] = 0
    batch: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)] | None = None
    limits: TaskLimits = TaskLimits()
    acceptance_tests: tuple[RelativePath, ...] = ()
    build_command: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4_096)] | None = (
        None
    )
    metadata: dict[str, str] = Field(default_factory=dict)

    @field_validator("base_ref")
    @classmethod
    def _no_option(cls, ref: str) -> str:
        if ref.startswith("-"):
            raise ValueError("a git ref that does not begin with '-'")
        return ref

    @field_validator("target_file", "context_files", "acceptance_tests")
    @classmethod
    def _inside_repository(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for name in (value,) if isinstance(value, str) else value or ():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise ValueError("a path inside the repository, relative to its root")
            if ".git" in path.parts:
                raise ValueError("a path outside .git")
        return value

    @field_validator("allowed_paths")
    @classmethod
    def _patterns_that_match(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                matching = all(each.include for each in GitIgnoreSpec.from_lines([pattern]).patterns)
            except ValueError:
                matching = False
            if not matching or not {".", "..", ".git"}.isdisjoint(pattern.split("/")):
                raise ValueError(f"patterns as in a .gitignore file, without '!' and outside .git; {pattern!r} is none")
        return patterns

    @classmethod
    def parse(cls, **values: Any) -> Self:
        """Return the task of these values; raise InvalidInput for the first field that is not allowed."""
        try:
            task = cls(**values)
        except ValidationError as error:
            raise refusals(error)[0] from None
        if task.setup_command and task.environment is EnvironmentChoice.NONE:
            raise InvalidInput("setup_command", task.setup_command, "none, as the task asks for no environment")
        if task.limits.batch_cost_usd is not None and task.batch is None:
            raise InvalidInput("batch", None, "the name of the batch that the money limit is for")
        return task

    @property
    def title(self) -> str:
        """The short name a person recognises in a list, such as `unit_test src/auth.py`."""
        return f"{self.category} {self.target_file or self.repository.rstrip('/').rsplit('/', 1)[-1]}"


def refusals(error: ValidationError, model: type[BaseModel] = DevTask) -> list[InvalidInput]:
    """Return a refusal for each value of a model that is not allowed, the first one first."""
    return [_refusal(each, model) for each in error.errors(include_url=False)]


def _refusal(details: ErrorDetails, model: type[BaseModel]) -> InvalidInput:
    field = ".".join(str(part) for part in details["loc"]) or "task"
    if details["type"] == "extra_forbidden":
        known = model if len(details["loc"]) == 1 else TaskLimits
        return InvalidInput.unknown("parameter", field, list(known.model_fields))
    value = None if details["type"] == "missing" else details["input"]
    return InvalidInput.worded(field, value, details["msg"])
