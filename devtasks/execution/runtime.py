"""The seam between the flow and whatever runs its agent and its commands."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field


@dataclass(frozen=True)
class Command:
    """A command to run in the sandbox; `timeout` in seconds, `env` is added to the sandbox's own.

    A PATH in it comes in front of the sandbox's.
    """

    argv: tuple[str, ...]
    cwd: Path
    timeout: float
    env: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class CommandResult:
    """How a command ended; `exit_code` is None when it was stopped, `output` the last 64 KiB of both streams.

    `exceeded` says of what its processes used too much, where that is why they were stopped.
    """

    exit_code: int | None
    output: str
    seconds: float
    timed_out: bool = False
    exceeded: str = ""


class CommandRunner(Protocol):
    """Anything that runs a command under the sandbox's isolation and limits, and leaves no process behind."""

    async def run(self, command: Command) -> CommandResult:
        """Run the command to its end or its timeout; raise AgentCrashed if the sandbox itself died."""
        ...


class AgentRequest(BaseModel):
    """What the agent's process is told; the token opens only this run's gateway and dies with it.

    `gateway_socket` is where the gateway listens too, for a sandbox that cannot reach `base_url`. `environment` is
    added to the sandbox's own, for the agent's shell; a PATH in it comes in front of the sandbox's. `resume_message` is
    said in place of `message` in a conversation that knows that one already, because its process was killed. An agent
    that tells of no event for `max_silence_seconds`, or of more than `max_output_bytes` in all, is stopped. With
    `project_guidance` it is shown the repository's own AGENTS.md, skills and microagents, as OpenHands does it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    conversation_id: str
    workspace: Path
    persistence_dir: Path
    model: str
    base_url: str
    gateway_socket: Path | None = None
    token: str
    message: str
    resume_message: str | None = None
    max_iterations: int
    max_silence_seconds: float = 600.0
    max_output_bytes: int = 16 << 20
    max_input_tokens: int
    max_output_tokens: int
    native_tool_calling: bool = True
    project_guidance: bool = True
    environment: dict[str, str] = Field(default_factory=dict[str, str])


class AgentStatus(StrEnum):
    """How the agent stopped; FINISHED says only that it believes it is done."""

    FINISHED = "finished"
    MAX_ITERATIONS = "max_iterations"
    STUCK = "stuck"
    ERROR = "error"
    NO_TOOL_CALL = "no_tool_call"
    EMPTY_ANSWERS = "empty_answers"
    REPETITIVE = "repetitive"
    DEADLINE = "deadline"
    SILENCE = "silence"
    OUTPUT = "output"
    RESOURCES = "resources"


class Stop(NamedTuple):
    """Why an agent was stopped that had not ended; `detail` is for people."""

    status: AgentStatus
    detail: str = ""


class AgentResult(BaseModel):
    """The agent's end as its process reported it; `detail` names the SDK's error, or of what too much was used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: AgentStatus
    iterations: int = 0
    final_message: str = ""
    detail: str = ""
    seconds: float = 0.0


AgentEvent = dict[str, Any]
OnEvent = Callable[[AgentEvent], None]


class Runtime(CommandRunner, Protocol):
    """Runs the agent and commands in one kind of isolation, named by `isolation`."""

    @property
    def isolation(self) -> str:
        """The isolation in force, for the log and the verdict."""
        ...

    @property
    def python(self) -> Path:
        """The sandbox's interpreter that has pytest and coverage."""
        ...

    async def run_agent(self, request: AgentRequest, *, deadline: float, on_event: OnEvent) -> AgentResult:
        """Run one conversation for at most `deadline` seconds; nothing it started is alive on return."""
        ...

    def show(self, folder: Path) -> None:
        """Let the sandbox show a folder, read-only and at its own path; to be called before anything runs there."""
        ...

    def extend(self, seconds: float) -> None:
        """Give the agent at work so many seconds more, because it waits for something that is not its fault."""
        ...

    async def close(self) -> None:
        """End every process of this runtime."""
        ...
