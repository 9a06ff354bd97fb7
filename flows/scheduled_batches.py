"""The batches that a schedule submits: tests for what is covered least, and docstrings where they are missing."""

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from devtasks.batch.order import BatchLimits
from devtasks.batch.selection import Rule
from devtasks.task import TaskCategory
from flows.found_batch import Wanted, run_found_batch

Repositories = Annotated[list[str], Field(min_length=1)]
Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Number = Annotated[int, Field(ge=1)]


@flow(name="test-generation")
async def generate_tests(  # noqa: PLR0917 - each parameter is a field of the form in the UI
    repositories: Repositories,
    coverage_threshold: Annotated[float, Field(gt=0, le=1)] = 0.8,
    branch: str = "devtasks/tests",
    max_tasks: Number = 10,
    max_cost_usd: Usd = 0.0,
    max_llm_calls: Number | None = None,
    credentials: str = "default",
    runtime_block: str = "default",
    use_docker: bool = False,
) -> State[Any]:
    """Find the least covered modules of repositories, and submit tasks for tests of as many as quota and money allow.

    Args:
        repositories: Absolute paths of git repositories on the worker's machine; their suites are run.
        coverage_threshold: A module is taken of which less is covered, 0 to 1.
        branch: Beginning of the name of the new branch that the accepted tests are put on; empty delivers patches.
        max_tasks: Tasks at most, of all repositories together.
        max_cost_usd: US dollars that all tasks may spend together; 0 leaves only free models.
        max_llm_calls: Calls to models at most, by all tasks together.
        credentials: Name of an OpenRouter Credentials block.
        runtime_block: Name of an OpenHands Runtime block.
        use_docker: Work in containers, also where the runtime block says local.
    """
    return await run_found_batch(
        Wanted(
            kind="test generation",
            category=TaskCategory.UNIT_TEST,
            rule=Rule.UNCOVERED,
            repositories=repositories,
            branch=branch,
            limits=BatchLimits.parse(tasks=max_tasks, cost_usd=max_cost_usd, llm_calls=max_llm_calls),
            threshold=coverage_threshold,
            credentials=credentials,
            runtime_block=runtime_block,
            use_docker=use_docker,
        )
    )


@flow(name="documentation")
async def write_docstrings(  # noqa: PLR0917 - each parameter is a field of the form in the UI
    repositories: Repositories,
    branch: str = "devtasks/docstrings",
    max_tasks: Number = 10,
    max_cost_usd: Usd = 0.0,
    max_llm_calls: Number | None = None,
    credentials: str = "default",
    runtime_block: str = "default",
    use_docker: bool = False,
) -> State[Any]:
    """Find modules with public names that have no docstring, and submit tasks for as many as quota and money allow.

    Args:
        repositories: Absolute paths of git repositories on the worker's machine.
        branch: Beginning of the name of the new branch that the accepted docstrings are put on; empty delivers patches.
        max_tasks: Tasks at most, of all repositories together.
        max_cost_usd: US dollars that all tasks may spend together; 0 leaves only free models.
        max_llm_calls: Calls to models at most, by all tasks together.
        credentials: Name of an OpenRouter Credentials block.
        runtime_block: Name of an OpenHands Runtime block.
        use_docker: Work in containers, also where the runtime block says local.
    """
    return await run_found_batch(
        Wanted(
            kind="documentation",
            category=TaskCategory.DOCUMENTATION,
            rule=Rule.UNDOCUMENTED,
            repositories=repositories,
            branch=branch,
            limits=BatchLimits.parse(tasks=max_tasks, cost_usd=max_cost_usd, llm_calls=max_llm_calls),
            credentials=credentials,
            runtime_block=runtime_block,
            use_docker=use_docker,
        )
    )
