"""What the scheduled batches have in common: find tasks in projects, submit those that quota and money allow, wait."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun, State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from blocks import OpenRouterCredentials, load_block
from devtasks.batch.order import BatchLimits, BatchOrder
from devtasks.batch.selection import Rule
from devtasks.config import OpenHandsConfig
from devtasks.errors import DevtasksError, InvalidInput
from devtasks.ledger import Ledger
from devtasks.metrics_collector import ExecutionMetrics, MetricsCollector
from devtasks.openrouter.account import fingerprint
from devtasks.quota import tasks_within
from devtasks.selection.capability import CALLS
from devtasks.task import DevTask, TaskCategory, TaskPriority
from flows.batch import submit_batch
from flows.giving_back import await_tasks
from flows.overlap import skip_if_running
from tasks.discovery import Options, discover_tasks

LOOK = timedelta(minutes=2)
"""Between two looks at the batch, for which a process is started."""


@dataclass(frozen=True)
class Wanted:
    """What is looked for, where, and within which bounds; `branch` is the beginning of the name of a new branch."""

    kind: str
    category: TaskCategory
    rule: Rule
    repositories: Sequence[str]
    branch: str
    limits: BatchLimits
    threshold: float = 0.8
    credentials: str = "default"
    runtime_block: str = "default"
    use_docker: bool = False


@dataclass(frozen=True)
class Chosen:
    """The tasks that are submitted, and in words what was found and what is left for another time."""

    tasks: tuple[DevTask, ...]
    report: tuple[str, ...]


async def run_found_batch(wanted: Wanted) -> State[Any]:
    """Submit what is found as one batch, and end when the batch does; between looks the worker slot is given back.

    Ends at once where another run of the deployment is still going, and where there is nothing to do.
    """
    if skipped := await skip_if_running():
        return skipped
    key = f"devtasks-scheduled:{flow_run.id}"
    try:
        async with get_client() as client:
            batch = await _find(client, key)
            if batch is None:
                chosen = await _choose(wanted)
                if not chosen.tasks:
                    return Completed(message="; ".join(chosen.report))
                batch = await submit_batch(client, _order(wanted, chosen), idempotency_key=key)
            if batch.state is None or not batch.state.is_final():
                await await_tasks(UUID(flow_run.id), f"waits for the batch {batch.name} ({batch.id})", LOOK)
            return _end(batch)
    except DevtasksError as error:
        get_run_logger().error("%s: %s", type(error).__name__, error)
        return Failed(message=str(error))


def choose(
    found: Sequence[DevTask], history: Sequence[ExecutionMetrics], used: int, limit: int | None, most: int | None
) -> tuple[Sequence[DevTask], str]:
    """Return the first tasks that `used` of `limit` requests and `most` tasks allow, and why not more.

    A task is taken to make as many calls as those in `history` did on average, which are the category's without
    simulated ones; without any, as many as one attempt is taken to make.
    """
    system = MetricsCollector(history).system()
    calls = system.llm_calls / system.tasks if system.tasks else CALLS
    room = tasks_within(used, limit, calls)
    allowed = min(each for each in (room, most, len(found)) if each is not None)
    why = f"{len(found)} tasks found, {allowed} submitted"
    if room is not None and allowed == room < len(found):
        why += f": {used} of {limit} free requests of today are used, and a task makes about {calls:.0f}"
    return found[:allowed], why


async def _choose(wanted: Wanted) -> Chosen:
    found, report, refused = list[DevTask](), list[str](), list[str]()
    for repository in wanted.repositories:
        try:
            tasks = await _discover(wanted, repository)
        except DevtasksError as error:
            get_run_logger().error("%s: %s", repository, error)
            refused.append(f"{repository}: {error}")
        else:
            report.append(f"{repository}: {len(tasks)} found")
            found += tasks
    if len(refused) == len(wanted.repositories):
        raise InvalidInput("repositories", "; ".join(refused), "repositories in which tasks can be looked for")
    config = OpenHandsConfig.from_env()
    async with Ledger.open(config.ledger_url) as ledger:
        rows = [row for row in await ledger.attempts(include_simulated=False) if row.category == wanted.category]
        keys = await load_block(OpenRouterCredentials, "credentials", wanted.credentials)
        use = await ledger.day_use(fingerprint(keys.base_url, keys.api_key))
    chosen, why = choose(found, rows, use.used, use.limit, wanted.limits.tasks)
    numbered = tuple(_bounded(task, str(number), wanted) for number, task in enumerate(chosen, 1))
    lines = (*report, *refused, why)
    text = "\n".join([f"# {wanted.kind}", "", *(f"- {line}" for line in lines), ""])
    await acreate_markdown_artifact(text, key="found-tasks", description="What was found, and what was submitted")
    get_run_logger().info("%s", "; ".join(lines))
    return Chosen(numbered, lines)


async def _discover(wanted: Wanted, repository: str) -> tuple[DevTask, ...]:
    root = Path(repository)
    if not root.is_absolute():
        raise InvalidInput("repositories", repository, "absolute paths of repositories on the worker's machine")
    options = Options(threshold=wanted.threshold)
    return await discover_tasks(wanted.rule, root, options, docker=wanted.use_docker, say=get_run_logger().info)


def _bounded(task: DevTask, name: str, wanted: Wanted) -> DevTask:
    """Return a task for the night: after everything else, and with no more money than the whole batch has."""
    costs = [cost for cost in (wanted.limits.cost_usd, task.limits.cost_usd) if cost is not None]
    limits = task.limits.model_copy(update={"cost_usd": min(costs, default=None)})
    return task.model_copy(update={"task_id": name, "priority": TaskPriority.LOW, "limits": limits})


def _order(wanted: Wanted, chosen: Chosen) -> BatchOrder:
    today, number = f"{datetime.now(UTC):%Y-%m-%d}", str(flow_run.id)[-8:]
    return BatchOrder.parse(
        name=f"{wanted.kind} {today}",
        tasks=chosen.tasks,
        limits=wanted.limits,
        one_branch=f"{wanted.branch}-{today}-{number}" if wanted.branch else "",
        credentials=wanted.credentials,
        runtime_block=wanted.runtime_block,
        use_docker=wanted.use_docker,
    )


async def _find(client: PrefectClient, key: str) -> FlowRun | None:
    named = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[key]))
    found = await client.read_flow_runs(flow_run_filter=named, limit=1)
    return found[0] if found else None


def _end(batch: FlowRun) -> State[Any]:
    """Return the end of the run, which is that of its batch."""
    assert batch.state
    message = f"the batch {batch.name} ({batch.id}) is {batch.state.name}: {batch.state.message or ''}"
    return Completed(message=message) if batch.state.is_completed() else Failed(message=message)
