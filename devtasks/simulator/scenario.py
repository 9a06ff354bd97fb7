"""The scenario file: which models there are, what each says turn by turn, and which faults strike.

    name: one-model
    seed: 7                                        # of every random draw
    keys: [sk-simulated]                           # accepted keys; absent: any key that is not empty
    limits: {requests_per_minute: 20, free_requests_per_day: 50, is_free_tier: true}
    variables: {workspace: 'Workspace: (\\S+)'}     # one group, searched in the conversation
    models:
      - id: acme/coder-small:free
        latency: {distribution: fixed, seconds: 0.2}
        faults: [{kind: upstream_429, calls: [1, 2], retry_after: 1}, {kind: http_502, rate: 0.15}]
        conversations:
          - match: unit tests                      # searched in the first user message; the first match wins
            turns:
              - text: I look first.
                tool_calls: [{name: terminal, arguments: {command: 'ls ${workspace}'}}]
              - finish: Done.                      # the same as a call of the tool `finish`

The turn played is the number of assistant messages already in the request. A fault strikes the calls listed, a random
share of them, or every call; a turn's own fault strikes each time that turn is played. `${name}` stands for a variable
of the scenario; any other `${...}` is left as it is.
"""

import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import AfterValidator, Field, JsonValue, ValidationError, model_validator
from pydantic_core import ErrorDetails

from devtasks.errors import InvalidInput
from devtasks.simulator.faults import Fault, FaultKind, FaultRule
from devtasks.simulator.latency import FixedLatency, Latency
from devtasks.simulator.strict import Strict


class ToolCall(Strict):
    """A tool the model calls, and with which arguments."""

    name: Annotated[str, Field(min_length=1)]
    arguments: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])


class Turn(Strict):
    """One answer of the model: text, tool calls or both, or the closing `finish`; spoilt by its fault if it has one."""

    text: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish: str | None = None
    fault: Fault | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.finish is not None and self.tool_calls:
            raise ValueError("tool_calls or finish, not both")
        if self.text is None and not self.calls and self.fault is None:
            raise ValueError("at least one of text, tool_calls, finish, fault")
        if self.fault and self.fault.kind is FaultKind.TRUNCATED_ARGUMENTS and not self.calls:
            raise ValueError("tool_calls or finish for the fault truncated_arguments")
        return self

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, with `finish` written out."""
        if self.finish is None:
            return self.tool_calls
        return (ToolCall(name="finish", arguments={"message": self.finish}),)


class Conversation(Strict):
    """The turns played when `match` is found in the first user message."""

    match: re.Pattern[str] = re.compile("")
    turns: Annotated[tuple[Turn, ...], Field(min_length=1)]


Price = Annotated[Decimal, Field(ge=0)]


class Model(Strict):
    """One model of the simulated catalogue; prices in USD per token, `served_model` when another one answers."""

    id: Annotated[str, Field(pattern=r"^[^/\s]+/\S+$")]
    name: str | None = None
    description: str = "A simulated model."
    created: int = 1_750_000_000
    context_length: Annotated[int, Field(ge=1)] = 131_072
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    prompt_price: Price = Decimal(0)
    completion_price: Price = Decimal(0)
    supported_parameters: tuple[str, ...] = ("tools", "tool_choice", "max_tokens")
    expiration_date: date | None = None
    served_model: str | None = None
    latency: Latency = FixedLatency(distribution="fixed", seconds=0)
    faults: tuple[FaultRule, ...] = ()
    conversations: tuple[Conversation, ...] = ()

    @property
    def is_free(self) -> bool:
        """Whether the account's limits for free models hold for it."""
        return self.id.endswith(":free") or not (self.prompt_price or self.completion_price)


class Limits(Strict):
    """The account's limits for free models, over a minute and a day of UTC; None is no limit.

    `minute_seconds` makes the minute shorter, for tests that cannot wait for a whole one.
    """

    requests_per_minute: Annotated[int, Field(ge=0)] | None = None
    minute_seconds: Annotated[int, Field(ge=1, le=60)] = 60
    free_requests_per_day: Annotated[int, Field(ge=0)] | None = None
    is_free_tier: bool = True


def _one_group(pattern: re.Pattern[str]) -> re.Pattern[str]:
    if pattern.groups != 1:
        raise ValueError("a regular expression with exactly one group")
    return pattern


Variable = Annotated[re.Pattern[str], AfterValidator(_one_group)]


class Scenario(Strict):
    """Everything the simulator plays; see the module for the file's form."""

    name: Annotated[str, Field(min_length=1)]
    seed: int = 0
    keys: tuple[Annotated[str, Field(min_length=1)], ...] | None = None
    limits: Limits = Limits()
    variables: dict[str, Variable] = Field(default_factory=dict[str, Variable])
    models: Annotated[tuple[Model, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct_models(self) -> Self:
        ids = [model.id for model in self.models]
        if len(set(ids)) < len(ids):
            raise ValueError("models with distinct ids")
        return self

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Return the scenario of this YAML file; raise InvalidInput with file and place of the first error."""
        try:
            data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InvalidInput("scenario", str(path), f"a file that can be read ({error.strerror})") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            problem = " ".join(str(error).split())
            raise InvalidInput("scenario", str(path), f"YAML in UTF-8 ({problem})") from None
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise _refusal(path, error.errors(include_url=False)[0]) from None


def _refusal(path: Path | str, first: ErrorDetails) -> InvalidInput:
    place = ".".join(str(part) for part in first["loc"])
    field = f"{path}: {place}" if place else str(path)
    if first["type"] == "unknown_key":
        return InvalidInput(field, first.get("ctx", {})["key"], first["msg"])
    if first["type"] == "missing":
        return InvalidInput(field, None, "a value: this key is required")
    value = first["input"]
    shown = value if isinstance(value, str | int | float | None) else type(value).__name__
    return InvalidInput(field, shown, first["msg"].removeprefix("Value error, ").removeprefix("Input should be "))
