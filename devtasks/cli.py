"""The command line. Exit codes: 0 success, 1 the task or check failed, 2 wrong usage, 3 a service cannot be reached.

Prefect is imported inside the commands: its settings are read at import, and the stack's commands first give it a
home of their own.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from devtasks.config import OpenHandsConfig
from devtasks.errors import DevtasksError, ServiceUnreachable
from devtasks.task import Complexity, Delivery, DevTask, TaskCategory, TaskPriority

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun, Log

    from devtasks.report import TaskReport

app = App(
    name="devtasks", help="AI development tasks as Prefect flows, on OpenRouter's models, independently validated."
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON document for machines.")]
STACK, DEMO = "stack", "demo"


def main() -> None:
    """Run the command line and exit with its code; a refusal is one line on standard error, never a traceback."""
    try:
        code = app()
    except DevtasksError as error:
        err.print(f"[bold red]devtasks:[/] {escape(str(error))}", soft_wrap=True)
        code = error.exit_code
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


@app.command
def up(
    *,
    limit: Annotated[int, Parameter(help="Flow runs at the same time.")] = 2,
) -> int:
    """Keep the embedded stack running: PostgreSQL, Prefect server, pool, queues, deployments and one worker.

    Ends cleanly on Ctrl-C or SIGTERM. With PREFECT_API_URL set, only the worker is started, for that server.
    """
    if limit < 1:
        _usage(f"--limit: {limit} is not allowed; expected a whole number from 1")
    config = OpenHandsConfig.from_env()
    folder = _own_prefect(config, STACK)

    async def keep() -> None:
        from deployments.stack import open_stack
        from deployments.up import WorkerKeeper

        async with open_stack(folder, config, _say) as stack:
            keeper = WorkerKeeper(stack, limit)
            try:
                await keeper.start()
                _say(f"ready: {stack.connection.ui_url}")
                if stack.embedded:
                    _say(f"for the Prefect CLI: source {folder / 'client.env'} (the UI asks for its password)")
                await keeper.keep()
            finally:
                _say("stopping …")
                await keeper.stop()

    _until_signal(keep())
    _say("stopped")
    return 0


@app.command
def demo(
    *,
    keep: Annotated[bool, Parameter(negative="", help="Keep the stack up until Ctrl-C, to look at the UI.")] = False,
    json: Json = False,
) -> int:
    """Run one task through the whole picture, with a simulated model, and stop everything again.

    Exit code 0 only if the task was accepted.
    """
    config = OpenHandsConfig.from_env()
    folder = _own_prefect(config, DEMO)
    say = _say_nothing if json else _say

    async def run() -> "TaskReport":
        from prefect.client.orchestration import get_client

        from deployments import client as tasks
        from deployments.demo import PARAMETERS, fresh_example, simulated_models
        from deployments.stack import open_stack
        from deployments.up import WorkerKeeper

        async with open_stack(folder, config, say) as stack:
            keeper = WorkerKeeper(stack, limit=1)
            try:
                await keeper.start()
                with stack.settings():
                    async with simulated_models(), get_client() as client:
                        repository = await asyncio.to_thread(fresh_example, folder)
                        parameters = PARAMETERS | {"repository": str(repository)}
                        flow_run = await tasks.submit(client, TaskPriority.NORMAL, parameters, name="demo")
                        say(f"submitted {flow_run.id} with a simulated model")
                        flow_run = await _show_progress(client, flow_run, None if json else out)
                        report = await tasks.read_report(client, flow_run)
                        if not json:
                            _print_report(report, f"{stack.connection.ui_url}/runs/flow-run/{flow_run.id}")
                        if keep:
                            say(f"until Ctrl-C; the UI's password is in {folder / 'client.env'}")
                            with suppress(asyncio.CancelledError):
                                await keeper.keep()
                        return report
            finally:
                say("stopping …")
                await keeper.stop()

    report = _until_signal(run())
    if report is None:
        return 130
    if json:
        sys.stdout.write(report.model_dump_json(indent=2) + "\n")
    else:
        _say(f"nothing is left running; `devtasks up` keeps a stack, this demo's is in {folder}")
    return 0 if report.outcome == "accepted" else 1


@app.command
def setup() -> int:
    """Set a Prefect server up for devtasks (pool, queues, blocks, deployments); repeating it changes nothing.

    The server is that of PREFECT_API_URL, the stack that is up, or the active Prefect profile's.
    """

    async def run() -> None:
        from deployments.setup import set_up

        async with _client():
            await set_up(OpenHandsConfig.from_env(), os.environ)

    _until_signal(run())
    _say("set up: pool devtasks with its queues, blocks, deployments development-task/critical, high, normal, low")
    return 0


@app.command
def submit_task(
    *,
    category: Annotated[
        TaskCategory,
        Parameter(name=("--category", "--task-type"), name_transform=str.lower, help="The kind of work."),
    ],
    description: Annotated[str, Parameter(help="What to do.")],
    target_file: Annotated[str, Parameter(help="The file it is about, relative to the root.")] = "",
    repository: Annotated[str, Parameter(help="Path or URL of the git repository.")] = ".",
    base_ref: Annotated[str, Parameter(help="Branch, tag or commit to start from.")] = "HEAD",
    priority: Annotated[TaskPriority, Parameter(help="The queue it waits in.")] = TaskPriority.NORMAL,
    complexity: Annotated[Complexity, Parameter(help="How hard it is.")] = Complexity.MODERATE,
    quality_threshold: Annotated[float, Parameter(help="The least score of an accepted result, 0 to 1.")] = 0.7,
    delivery: Annotated[Delivery, Parameter(help="A patch file, or a commit on a new branch.")] = Delivery.PATCH,
    model: Annotated[str, Parameter(help="A model's id, to use that one alone.")] = "",
    credentials: Annotated[str, Parameter(help="Name of an OpenRouter Credentials block.")] = "default",
    wait: Annotated[bool, Parameter(negative="", help="Show what happens, and exit with the task's outcome.")] = False,
    json: Json = False,
) -> int:
    """Submit a task to its priority's queue and print the flow run's id."""
    from devtasks import workspace
    from devtasks.validation.validator import require_rules

    asked: dict[str, Any] = {
        "category": category,
        "description": description,
        "target_file": target_file,
        "repository": _absolute(repository),
        "base_ref": base_ref,
        "complexity": complexity,
        "quality_threshold": quality_threshold,
        "delivery": delivery,
        "model": model,
    }
    checked = asked | {"target_file": target_file or None, "model": model or None}
    task = DevTask.parse(task_id="new", priority=priority, **checked)
    require_rules(task.category)
    workspace.check_repository(task)

    async def run() -> "TaskReport":
        from deployments import client as tasks

        async with _client() as client:
            flow_run = await tasks.submit(client, priority, asked | {"credentials": credentials}, name=task.title)
            if wait:
                flow_run = await _show_progress(client, flow_run, None if json else out)
            return await tasks.read_report(client, flow_run)

    report = _until_signal(run())
    if report is None:
        return 130
    if json:
        sys.stdout.write(report.model_dump_json(indent=2) + "\n")
    elif wait:
        _print_report(report, None)
    else:
        out.print(report.flow_run_id)
    return 0 if not wait or report.outcome == "accepted" else 1


@app.command
def get_status(task: Annotated[str, Parameter(help="A flow run's id or name.")], /, *, json: Json = False) -> int:
    """Show where a task stands: state, attempts, findings, cost and what was delivered."""

    async def run() -> "TaskReport":
        from deployments import client as tasks

        async with _client() as client:
            return await tasks.read_report(client, await tasks.find_flow_run(client, task))

    report = _until_signal(run())
    if report is None:
        return 130
    if json:
        sys.stdout.write(report.model_dump_json(indent=2) + "\n")
    else:
        _print_report(report, None)
    return 0


def _own_prefect(config: OpenHandsConfig, name: str) -> Path:
    """Return the stack's folder, and keep this process's Prefect out of the user's profile."""
    folder = (config.home / name).expanduser().resolve()
    if config.prefect_api_url is None:
        home = folder / "prefect"
        home.mkdir(parents=True, exist_ok=True)
        os.environ["PREFECT_HOME"] = str(home)
    return folder


@asynccontextmanager
async def _client() -> "AsyncGenerator[PrefectClient]":
    """Yield a client of PREFECT_API_URL's server, else of the stack that is up, else of the active profile's."""
    from deployments.stack import read_connection

    config = OpenHandsConfig.from_env()
    connection = read_connection((config.home / STACK).expanduser().resolve())
    if config.prefect_api_url is None and connection:
        os.environ.update(connection.variables())
    from httpx import HTTPError
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, get_current_settings

    address = str(PREFECT_API_URL.value() or "")
    if not address or (get_current_settings().server.ephemeral.enabled and not address):
        raise ServiceUnreachable(
            "a Prefect server", "PREFECT_API_URL", "it is not set and no stack is up; `devtasks up`"
        )
    try:
        async with get_client() as client:
            yield client
    except (HTTPError, OSError) as error:
        raise ServiceUnreachable("the Prefect server", address, f"{type(error).__name__}: {error}") from error


def _until_signal[T](main: Coroutine[Any, Any, T]) -> T | None:
    """Run to the end, or until Ctrl-C or SIGTERM, which cancel it once; None if it was cancelled so."""

    async def run() -> T | None:
        task = asyncio.ensure_future(main)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return None

    return asyncio.run(run())


async def _show_progress(client: "PrefectClient", flow_run: "FlowRun", console: Console | None) -> "FlowRun":
    """Print a run's states and log lines as they come; return it as it ended."""
    from prefect.client.schemas.objects import FlowRun

    from deployments import client as tasks

    async for item in tasks.follow(client, flow_run.id):
        if isinstance(item, FlowRun):
            flow_run = item
        if console:
            _print_progress(console, item)
    return flow_run


def _print_progress(console: Console, item: "FlowRun | Log") -> None:
    from prefect.client.schemas.objects import FlowRun

    if isinstance(item, FlowRun):
        console.print(f"[bold cyan]{escape(item.state_name or '')}[/] {escape(item.name)}", soft_wrap=True)
        return
    engine_noise = item.name == "prefect.flow_runs" and item.message.startswith(("Beginning", "Finished"))
    if item.message.startswith(("Finished in state", "Created task run", "Opening process")) or engine_noise:
        return
    style = "red" if item.level >= 40 else "yellow" if item.level >= 30 else "default"
    console.print(f"  [dim]{item.timestamp:%H:%M:%S}[/] [{style}]{escape(item.message)}[/]", soft_wrap=True)


def _print_report(report: "TaskReport", address: str | None) -> None:
    from devtasks.report import attempt_rows

    colour = "green" if report.outcome == "accepted" else "red"
    out.print(f"\n[bold {colour}]{report.state}[/]{report.mark}: {escape(report.title)}", soft_wrap=True)
    out.print(escape(report.reason), soft_wrap=True)
    if report.attempts:
        table = Table(box=None, pad_edge=False)
        for column in ("#", "model", "outcome", "score", "calls", "tokens", "cost", "seconds"):
            table.add_column(column, overflow="fold")
        for row in attempt_rows(report.attempts):
            table.add_row(*row)
        out.print(table)
    if report.diff_path and Path(report.diff_path).is_file():
        out.print(Syntax(Path(report.diff_path).read_text(errors="replace"), "diff", theme="ansi_dark", word_wrap=True))
    for label, value in (("patch", report.diff_path), ("branch", report.branch), ("isolation", report.isolation)):
        if value:
            out.print(f"{label}: {escape(value)}", soft_wrap=True)
    if address:
        out.print(f"in the Prefect UI: {address}", soft_wrap=True)


def _absolute(repository: str) -> str:
    return (
        str(Path(repository).expanduser().resolve())
        if "://" not in repository and "@" not in repository
        else repository
    )


def _say(message: str) -> None:
    err.print(f"[dim]{escape(message)}[/]", soft_wrap=True)


def _say_nothing(_: str) -> None:
    return None


def _usage(message: str) -> None:
    err.print(f"[bold red]devtasks:[/] {escape(message)}")
    sys.exit(2)


if __name__ == "__main__":
    main()
