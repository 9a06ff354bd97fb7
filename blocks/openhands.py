"""The block that says how the agent runs."""

from typing import Literal

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl


class OpenHandsRuntime(Block):
    """How OpenHands agents run on a worker, and who signs what they deliver.

    Attributes:
        runtime: The isolation of the agent and of the validation commands; None as the worker's environment says.
        image: The container image of the docker runtime; None is the one that `make image` makes.
        sandbox: What the local runtime's processes are shut in.
        max_memory_mb: The most memory (MiB) a task's processes may use together.
        max_processes: The most processes a task may run at a time.
        max_disk_mb: The most disk (MiB) a task may fill.
        max_cpus: The processors a run's container may use.
        max_seconds: The longest a task may take, whatever it asks for.
        max_silence_seconds: The longest an agent may tell of no event.
        max_llm_calls: The most calls to a model a task may make, whatever it asks for.
        max_output_tokens: The most tokens of one answer.
        project_guidance: Whether agents are shown the repository's own AGENTS.md, skills and microagents.
        keep_prompts: Whether a run's folder keeps the messages sent to the agent.
        author_name: The name commits are authored by.
        author_email: The address commits are authored by.
    """

    _block_type_name = "OpenHands Runtime"
    _block_type_slug = "openhands-runtime"
    _description = "How OpenHands agents run on a worker: isolation, upper bounds of every task, commit identity."
    _documentation_url = HttpUrl("https://docs.openhands.dev")

    runtime: Literal["local", "docker"] | None = Field(
        default=None,
        title="Runtime",
        description="local: processes of the worker's machine with a scrubbed environment. docker: a container for "
        "each run. Empty: docker where OPENHANDS_USE_DOCKER_RUNTIME is set for the worker. A task may ask for docker.",
    )
    image: str | None = Field(
        default=None,
        title="Image",
        description="An image made FROM devtasks-agent, with what your projects need; empty: devtasks-agent itself.",
    )
    sandbox: Literal["auto", "bubblewrap", "none"] = Field(
        default="auto",
        title="Sandbox",
        description="What shuts in the local runtime's processes. auto: bubblewrap where it works, and a warning in "
        "the run's log where it does not. bubblewrap: a task is refused where it does not work. none: nothing; they "
        "see your files and the network.",
    )
    max_memory_mb: int = Field(
        default=4_096,
        ge=512,
        title="Max memory",
        description="The most memory (MiB) the agent and its commands may use together; shared memory counts for each.",
    )
    max_processes: int = Field(
        default=512,
        ge=16,
        title="Max processes",
        description="The most processes the agent and its commands may run at a time.",
    )
    max_disk_mb: int = Field(
        default=4_096,
        ge=64,
        title="Max disk",
        description="The most disk (MiB) the workspace and the agent's other folders may fill.",
    )
    max_cpus: float = Field(
        default=2.0,
        gt=0,
        title="Max CPUs",
        description="The most processors a run's container may keep busy; the local runtime does not bound them.",
    )
    max_seconds: float = Field(
        default=3_600, gt=0, le=86_400, title="Max seconds", description="The longest any task's agents may run."
    )
    max_silence_seconds: float = Field(
        default=600,
        ge=1,
        le=86_400,
        title="Max silence",
        description="The longest (seconds) an agent may do nothing that can be seen; one long command is nothing else.",
    )
    max_llm_calls: int = Field(
        default=200, ge=1, le=1_000, title="Max LLM calls", description="The most model calls any task may make."
    )
    max_output_tokens: int = Field(
        default=8_192,
        ge=256,
        le=65_536,
        title="Max output tokens",
        description="The most tokens of one answer; a large value makes OpenRouter refuse small balances (402).",
    )
    project_guidance: bool = Field(
        default=True,
        title="Project guidance",
        description="Show agents the repository's own AGENTS.md, OpenHands skills and microagents.",
    )
    keep_prompts: bool = Field(
        default=False,
        title="Keep prompts",
        description="Keep the messages sent to the agent in the run's folder, beside what the agent did.",
    )
    author_name: str = Field(
        default="devtasks", min_length=1, title="Author name", description="Commits are authored by this name."
    )
    author_email: str = Field(
        default="devtasks@localhost", min_length=3, title="Author email", description="… and by this address."
    )
