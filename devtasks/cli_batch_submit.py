"""`devtasks batch submit`, and what the commands about batches share."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table

from deployments.console import out, say, say_nothing, until_signal
from devtasks.batch.order import IN_FLIGHT, BatchLimits, BatchOrder
from devtasks.batch.rendering import Format, render
from devtasks.batch.selection import Rule, Selection, parse_slice
from devtasks.cli_client import open_client
from devtasks.cli_models import ledger_url
from devtasks.config import OpenHandsConfig
from devtasks.errors import InvalidInput, ServiceUnreachable
from devtasks.task import DevTask

if TYPE_CHECKING:
    from deployments.batches import Batches
    from devtasks.batch.forecast import Forecast
    from devtasks.batch.summary import BatchSummary

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON document for machines.")]
INTERRUPTED = 130


@Parameter(name="*")
@dataclass(frozen=True)
class Limits:
    """The limits of the whole batch, as options; what is not given is no limit, or stays as it is."""

    max_tasks: Annotated[int | None, Parameter(help="Submit at most so many tasks.")] = None
    max_cost_usd: Annotated[float | None, Parameter(help="US dollars that all its tasks may spend.")] = None
    max_llm_calls: Annotated[int | None, Parameter(help="Calls to models that all its tasks may make.")] = None
    max_hours: Annotated[float | None, Parameter(help="Hours after which no task begins.")] = None
    max_failures: Annotated[int | None, Parameter(help="Tasks that may end without a result.")] = None
    max_in_flight: Annotated[
        int | None, Parameter(help=f"Tasks that wait or run at the same time; {IN_FLIGHT} by default.")
    ] = None

    def given(self) -> dict[str, float]:
        """Return what was given, by the names that `BatchLimits` has for it."""
        return {name.removeprefix("max_"): value for name, value in asdict(self).items() if value is not None}


NO_LIMITS = Limits()


@Parameter(name="*")
@dataclass(frozen=True)
class Choice:
    """Which tasks are submitted, as options."""

    filter: Annotated[str, Parameter(help="Only tasks whose target file matches this pattern, such as 'src/*.py'.")] = (
        ""
    )
    shuffle: Annotated[bool, Parameter(negative="", help="In random order, the same for the same --seed.")] = False
    seed: Annotated[int, Parameter(help="With --shuffle: the number the order comes from.")] = 0
    slice: Annotated[str, Parameter(help="A:B, only those from A (counted from 0) up to, but without, B.")] = ":"
    limit: Annotated[int | None, Parameter(help="Only the first so many of what is left.")] = None

    def selection(self) -> Selection:
        """Return the selection; raise InvalidInput for what is none."""
        if self.limit is not None and self.limit < 1:
            raise InvalidInput("--limit", self.limit, "a whole number from 1")
        return Selection(self.filter, self.seed if self.shuffle else None, parse_slice(self.slice), self.limit)


def submit(
    file: Annotated[Path | None, Parameter(help="A manifest: .yaml, .json, .jsonl or .csv.")] = None,
    /,
    *,
    discover: Annotated[Rule | None, Parameter(help="Find the tasks in a repository instead, by this rule.")] = None,
    repository: Annotated[Path, Parameter(help="With --discover: the repository.")] = Path(),
    threshold: Annotated[float, Parameter(help="For uncovered: modules that tests cover less, 0 to 1.")] = 0.8,
    coverage: Annotated[
        Path | None, Parameter(help="For uncovered: a coverage.json, coverage.xml or .coverage file; else measured.")
    ] = None,
    since: Annotated[str, Parameter(help="For changed: the branch, tag or commit to compare with.")] = "HEAD~1",
    complexity: Annotated[int, Parameter(help="For complex: functions with more paths.")] = 10,
    name: Annotated[str, Parameter(help="What the batch is called; the file or the rule by default.")] = "",
    choice: Choice = Choice(),
    limits: Limits = NO_LIMITS,
    one_branch: Annotated[
        str, Parameter(help="Put all accepted patches together on a new branch of this name, in each repository.")
    ] = "",
    pull_request: Annotated[
        bool, Parameter(negative="", help="With --one-branch: push it, and open a draft pull request on GitHub.")
    ] = False,
    github: Annotated[str, Parameter(help="With --pull-request: name of a devtasks GitHub Credentials block.")] = (
        "default"
    ),
    credentials: Annotated[str, Parameter(help="Name of an OpenRouter Credentials block.")] = "default",
    use_docker: Annotated[
        bool, Parameter(negative="", help="Work in containers, also where the runtime block says local.")
    ] = False,
    dry_run: Annotated[
        bool, Parameter(negative="", help="Only show the tasks and what they would take; submit nothing.")
    ] = False,
    wait: Annotated[
        bool,
        Parameter(negative="", help="Show progress and the summary; exit code 1 unless all were accepted."),
    ] = False,
    json: Json = False,
) -> int:
    """Submit a batch from a manifest, or of what a rule finds in a repository, and print its id.

    Every mistake of a manifest is named, and then nothing is submitted. What waits, runs or was accepted already is not
    submitted again.
    """
    from devtasks.batch.manifest import check_repositories, read_manifest

    if (file is None) == (discover is None):
        raise InvalidInput("batch", None if file is None else str(file), "a manifest, or --discover with a rule")
    bounds = BatchLimits.parse(**limits.given())
    selection = choice.selection()
    if file is not None:
        found, source = read_manifest(file), file.stem
    else:
        assert discover
        from tasks.discovery import Options, discover_tasks

        options = Options(threshold, coverage, since, complexity)
        told = say_nothing if json else say
        root = repository.expanduser().resolve()
        discovered = until_signal(discover_tasks(discover, root, options, docker=use_docker, say=told))
        if discovered is None:
            return INTERRUPTED
        found, source = discovered, f"{discover} {root.name}"
    tasks = selection.of(found)
    if not tasks:
        raise InvalidInput("batch", source, "something to do: no task was found, or none is left of them")
    check_repositories(str(file or source), tasks)
    order = BatchOrder.parse(
        name=name or source,
        tasks=tasks,
        limits=bounds,
        one_branch=one_branch,
        pull_request=pull_request,
        github=github,
        credentials=credentials,
        use_docker=use_docker,
    )
    order.parameters()
    return _show_dry_run(order, json=json) if dry_run else _submit(order, wait=wait, json=json)


def _submit(order: BatchOrder, *, wait: bool, json: bool) -> int:
    async def question(batches: "Batches") -> "str | BatchSummary":
        submitted = await batches.submit(order)
        if not wait:
            return str(submitted.id)
        if not json:
            say(f"batch {submitted.id}")
        following = asyncio.create_task(_follow(batches, str(submitted.id))) if not json else None
        try:
            return await batches.summary(await batches.wait(submitted))
        finally:
            if following:
                following.cancel()

    answer = ask(question)
    if answer is None or isinstance(answer, str):
        return print_id(answer, json=json)
    return print_summary(answer, Format.JSON if json else Format.MARKDOWN)


async def _follow(batches: "Batches", batch: str) -> None:
    """Say what a batch says of itself, each time it says something else, until cancelled."""
    said = ""
    while True:
        progress = await batches.progress(await batches.find(batch))
        if progress != said:
            say(progress)
            said = progress
        await asyncio.sleep(2)


def _show_dry_run(order: BatchOrder, *, json: bool) -> int:
    forecast = until_signal(_forecast(order.tasks))
    if forecast is None:
        return INTERRUPTED
    if json:
        tasks = [task.model_dump(mode="json", exclude_defaults=True) for task in order.tasks]
        print_json({"name": order.name, "tasks": tasks, "forecast": asdict(forecast)})
        return 0
    table = Table("task", "category", "target", "priority", "description", box=None, pad_edge=False)
    for task in order.tasks:
        first = task.description.splitlines()[0]
        table.add_row(task.task_id, task.category, escape(task.target_file or ""), task.priority, escape(first))
    out.print(table, soft_wrap=True)
    _print_forecast(forecast)
    return 0


async def _forecast(tasks: tuple[DevTask, ...]) -> "Forecast":
    from deployments.queue_stats import day_quota
    from devtasks.batch.forecast import forecast
    from devtasks.ledger import Ledger

    config = OpenHandsConfig.from_env()
    async with Ledger.open(ledger_url(config)) as ledger:
        used, limit = 0, None
        try:
            async with open_client():
                used, limit = await day_quota(ledger, config)
        except ServiceUnreachable:
            pass  # Which account it is, the server's block says.
        return forecast(tasks, await ledger.attempts(include_simulated=False), used=used, limit=limit)


def _print_forecast(forecast: "Forecast") -> None:
    unknown = "not known yet"
    calls = unknown if forecast.llm_calls is None else f"about {forecast.llm_calls:.0f}"
    share = unknown if forecast.quota_share is None else f"{forecast.quota_share:.0%} of a day's free requests"
    money = unknown if forecast.cost_usd is None else f"about ${forecast.cost_usd:.4f}"
    time = unknown if forecast.seconds is None else f"about {forecast.seconds / 60:.0f} min, one task at a time"
    known = ", ".join(f"{number} {category}" for category, number in forecast.known.items())
    out.print(
        f"{forecast.tasks} tasks; nothing was submitted. Calls: {calls}. Quota: {share}. Money: {money}. Time: {time}.",
        soft_wrap=True,
    )
    out.print(f"[dim]from the tasks that the ledger knows, without simulated ones: {known}[/]", soft_wrap=True)


def ask[T](question: "Callable[[Batches], Awaitable[T]]") -> T | None:
    """Ask about batches at the server that is up; None on Ctrl-C."""

    async def run() -> T:
        from deployments.batches import Batches

        async with open_client() as client:
            return await question(Batches(client))

    return until_signal(run())


def print_summary(summary: "BatchSummary", to: Format) -> int:
    """Print a summary; return exit code 0 only if every task was accepted, and the pull request of them opened."""
    text = render(summary, to)
    if to is Format.MARKDOWN and out.is_terminal:
        out.print(Markdown(text))
    else:
        sys.stdout.write(text)
    return 0 if summary.delivered else 1


def print_id(batch: str | None, *, json: bool) -> int:
    """Print a batch's id, None where the question was interrupted; return the exit code."""
    if batch is None:
        return INTERRUPTED
    if json:
        print_json({"batch_id": batch})
    else:
        out.print(batch)
    return 0


def print_json(answer: object) -> None:
    """Print a document for machines."""
    sys.stdout.write(dumps(answer, indent=2, default=str) + "\n")
