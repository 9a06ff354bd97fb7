"""What a batch is asked to do: its tasks, the limits of the whole, and how its results are handed over."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from devtasks.errors import InvalidInput
from devtasks.task import DevTask, refusals

MAX_BYTES = 500_000
"""Of a batch as a flow run's parameters; Prefect's server refuses more than 512 KiB."""

IN_FLIGHT = 20

_PREFIX = "max_"


class BatchLimits(BaseModel):
    """Bounds of a whole batch; None is none. `in_flight` is how many of its tasks wait or run at the same time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: Annotated[int, Field(ge=1)] | None = None
    cost_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    llm_calls: Annotated[int, Field(ge=1)] | None = None
    hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    failures: Annotated[int, Field(ge=1)] | None = None
    in_flight: Annotated[int, Field(ge=1, le=1_000)] = IN_FLIGHT

    @classmethod
    def parse(cls, **values: Any) -> Self:
        """Return the limits; raise InvalidInput for the first that is not allowed."""
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise InvalidInput.worded(f"{_PREFIX}{first['loc'][0]}", first["input"], first["msg"]) from None


class BatchOrder(BaseModel):
    """A batch as it is submitted; the `task_id` of each task is its own in the batch, unlike all others.

    `one_branch` is the name of the branch that the accepted patches are put together on, empty for none; with
    `pull_request` it is pushed, and a draft opened, with the token of the block that `github` names. Credentials,
    runtime and container are those of every task.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
    tasks: Annotated[tuple[DevTask, ...], Field(min_length=1)]
    limits: BatchLimits = BatchLimits()
    one_branch: Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)] = ""
    pull_request: bool = False
    github: str = "default"
    credentials: str = "default"
    runtime_block: str = "default"
    use_docker: bool = False

    @classmethod
    def parse(cls, **values: Any) -> Self:
        """Return the batch of these values; raise InvalidInput for the first that is not allowed."""
        try:
            order = cls(**values)
        except ValidationError as error:
            raise refusals(error, cls)[0] from None
        if order.pull_request and not order.one_branch:
            raise InvalidInput("pull_request", True, "false, or the name of one_branch, which it is made of")
        names = [task.task_id for task in order.tasks]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InvalidInput("task_id", twice, "a name that no other task of the batch has")
        return order

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """Return the batch of a flow run's parameters; raise InvalidInput where they make none."""
        limits = {name: parameters.get(f"{_PREFIX}{name}") for name in BatchLimits.model_fields}
        given = {name: value for name, value in limits.items() if value is not None}
        others = {name: parameters[name] for name in cls.model_fields if name in parameters}
        return cls.parse(limits=BatchLimits.parse(**given), **others)

    def parameters(self) -> dict[str, Any]:
        """Return the batch as its flow's parameters; raise InvalidInput for one that is too large for a flow run."""
        tasks = [task.model_dump(mode="json", exclude_defaults=True) for task in self.tasks]
        limits = {f"{_PREFIX}{name}": value for name, value in self.limits.model_dump(mode="json").items()}
        others = self.model_dump(mode="json", exclude={"tasks", "limits"})
        parameters = {**others, "tasks": tasks, **limits}
        size = len(json.dumps(parameters).encode())
        if size > MAX_BYTES:
            allowed = (
                f"at most {MAX_BYTES:,} bytes as a flow run's parameters (split the batch, or shorten descriptions)"
            )
            raise InvalidInput("batch", f"{len(tasks)} tasks of {size:,} bytes", allowed)
        return parameters
