"""What a person sees in the terminal: progress, reports, and an orderly end on Ctrl-C. Light to import, no Prefect."""

import asyncio
import signal
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from devtasks.terminal import harmless

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun, Log

    from devtasks.metrics_collector import ModelMetrics, SystemMetrics
    from devtasks.report import TaskReport

# Without emoji: rich would make one of `:free:` in a model's id that a colon follows.
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

NOISE = ("Beginning flow run", "Finished in state", "Created task run", "Opening process", "Downloading flow code")
"""How Prefect's own lines begin that say nothing a person who follows a task wants to know."""


DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def say(message: str) -> None:
    """Tell the person what is being done, on standard error."""
    err.print(f"[dim]{escape(message)}[/]", soft_wrap=True)


def say_nothing(_: str) -> None:
    """Tell nobody: standard output is for a machine."""


def until_signal[T](main: Coroutine[Any, Any, T]) -> T | None:
    """Run to the end, or until Ctrl-C or SIGTERM, which cancel it; None if it was cancelled so.

    Only the first signal counts: what is being stopped is stopped in order.
    """

    async def run() -> T | None:
        task = asyncio.ensure_future(main)
        loop = asyncio.get_running_loop()

        def cancel() -> None:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, lambda: None)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return None

    return asyncio.run(run())


async def show_progress(client: "PrefectClient", flow_run: "FlowRun", *, quiet: bool) -> "TaskReport":
    """Print a run's states and log lines as they come, unless quiet, and return its report when it has ended."""
    from prefect.client.schemas.objects import FlowRun

    from deployments.client import follow
    from flows.reports import read_report

    async for item in follow(client, flow_run.id):
        if isinstance(item, FlowRun):
            flow_run = item
        if not quiet:
            print_progress(item)
    return await read_report(client, flow_run)


def print_report(report: "TaskReport") -> None:
    """Print the verdict, the attempts, the diff and where it is."""
    from devtasks.report import attempt_rows

    colour = "green" if report.outcome == "accepted" else "red"
    out.print(f"\n[bold {colour}]{report.state}[/]{report.mark}: {escape(report.title)}", soft_wrap=True)
    out.print(escape(harmless(report.reason)), soft_wrap=True)
    if report.attempts:
        table = Table(box=None, pad_edge=False)
        for column in ("#", "model", "outcome", "score", "calls", "tokens", "cost", "seconds"):
            table.add_column(column, overflow="fold")
        for row in attempt_rows(report.attempts):
            table.add_row(*row)
        out.print(table)
    if report.diff_path and Path(report.diff_path).is_file():
        print_diff(Path(report.diff_path).read_text(errors="replace"))
    patch = "patch" if report.outcome == "accepted" else "last attempt"
    places = ((patch, report.diff_path), ("branch", report.branch), ("pull request", report.pull_request))
    for label, value in (*places, ("isolation", report.isolation)):
        if value:
            out.print(f"{label}: {escape(value)}", soft_wrap=True)


def print_metrics(system: "SystemMetrics", models: "Iterable[ModelMetrics]", *, simulated: bool) -> None:
    """Print the sums over all tasks and one row for each model; each rate stands beside its sample size."""
    mark = " (simulated)" if simulated else ""
    out.print(
        f"{system.accepted_tasks} of {system.tasks} tasks accepted{mark}, {system.attempts} attempts, "
        f"{system.llm_calls} calls, {system.prompt_tokens + system.completion_tokens:,} tokens, ${system.cost_usd:.4f}"
    )
    table = Table("model", "accepted", "mean score", "p50 s", "p95 s", "cost", "failures", box=None, pad_edge=False)
    for model in models:
        failures = ", ".join(f"{kind} {count}" for kind, count in model.failures.items())
        accepted = f"{model.accepted} of {model.attempts}"
        seconds = (f"{model.p50_seconds:.1f}", f"{model.p95_seconds:.1f}")
        table.add_row(model.model_id, accepted, f"{model.mean_score:.2f}", *seconds, f"${model.cost_usd:.4f}", failures)
    if table.row_count:
        out.print(table)


def print_diff(diff: str) -> None:
    """Print a diff in colours."""
    for line in diff.splitlines():
        out.print(Text(harmless(line), style=DIFF_STYLES.get(line[:1], "")), soft_wrap=True)


def print_progress(item: "FlowRun | Log", prefix: str = "") -> None:
    """Print a run's state or a line of its log, unless that is noise; `prefix` tells whose it is."""
    from prefect.client.schemas.objects import FlowRun

    if isinstance(item, FlowRun):
        out.print(f"{prefix}[bold cyan]{escape(item.state_name or '')}[/] {escape(item.name)}", soft_wrap=True)
    elif not item.message.startswith(NOISE):
        style = "red" if item.level >= 40 else "yellow" if item.level >= 30 else "default"
        message = f"[{style}]{escape(harmless(item.message))}[/]"
        out.print(f"{prefix}  [dim]{item.timestamp:%H:%M:%S}[/] {message}", soft_wrap=True)
