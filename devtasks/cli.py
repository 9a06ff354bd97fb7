"""The command line. Exit codes: 0 success, 1 the task or check failed, 2 wrong usage, 3 a service cannot be reached.

Prefect is imported inside the commands: its settings are read at import, and the stack's commands first give it a
home of their own.
"""

import asyncio
import os
import sys
from contextlib import suppress
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from pydantic import ValidationError
from rich.markup import escape

from deployments.console import err, out, print_metrics, print_report, say, say_nothing, show_progress, until_signal
from devtasks import (
    cli_batch,
    cli_doctor,
    cli_models,
    cli_queue,
    cli_runs,
    cli_spool,
    cli_validate,
    cli_watch,
)
from devtasks.cli_client import open_client
from devtasks.cli_models import ledger_url
from devtasks.config import DEMO, STACK, OpenHandsConfig
from devtasks.errors import DevtasksError, InvalidInput, ServiceUnreachable
from devtasks.task import Complexity, Delivery, DevTask, EnvironmentChoice, TaskCategory, TaskLimits, TaskPriority

if TYPE_CHECKING:
    from deployments.stack import Stack
    from devtasks.report import TaskReport


def _shown(default: object) -> str | None:
    """Return a default as the help shows it, None for one that says nothing."""
    return None if default is None or default is False or default == "" else str(default)


app = App(
    name="devtasks",
    help="AI development tasks as Prefect flows, on OpenRouter's models, independently validated.",
    help_epilogue=(
        "`devtasks doctor` says what is missing. Exit codes: 0 success, 1 the task or check failed, 2 wrong usage, "
        "3 a service cannot be reached, 130 ended by Ctrl-C."
    ),
    default_parameter=Parameter(show_default=_shown),
)
app.register_install_completion_command(  # pyright: ignore[reportUnknownMemberType]
    help="Install completion for the shell in use: into the user's folders, and a line in the shell's start-up file."
)
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON document for machines.")]
Ready = Annotated[
    bool, Parameter(name="--json", negative="", help="Print one line of JSON when tasks can be submitted.")
]
INTERRUPTED, CLOSED = 130, 141
cli_batch.register(app)
cli_doctor.register(app)
cli_models.register(app)
cli_queue.register(app)
cli_runs.register(app)
cli_spool.register(app)
cli_validate.register(app)
cli_watch.register(app)


def main() -> None:
    """Run the command line and exit with its code; a refusal is one line on standard error, never a traceback."""
    try:
        code = app(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has left; nothing is left to be said, at exit neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = CLOSED
    except DevtasksError as error:
        err.print(f"[bold red]devtasks:[/] {escape(str(error))}", soft_wrap=True)
        code = error.exit_code
    except ValidationError as error:
        code = _refuse_setting(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


def _refuse_setting(error: ValidationError) -> int:
    """Say which of Prefect's settings Prefect could not read; any other error of this kind is a defect, and raised."""
    if not error.title.endswith("Settings"):
        raise error
    first = error.errors(include_url=False)[0]
    name = "_".join(map(str, (error.title.removesuffix("Settings"), *first["loc"])))
    err.print(
        f"[bold red]devtasks:[/] a PREFECT_ variable, {escape(name.upper())}: {escape(first['msg'])}", soft_wrap=True
    )
    return InvalidInput.exit_code


@app.command
def up(
    *,
    limit: Annotated[int, Parameter(help="Flow runs at the same time.")] = 2,
    json: Ready = False,
) -> int:
    """Keep the embedded stack running: PostgreSQL, Prefect server, pool, queues, deployments and one worker.

    Ends cleanly on Ctrl-C or SIGTERM. With PREFECT_API_URL set, only the worker is started, for that server.
    """
    _from_one("--limit", limit)
    return _keep_up(OpenHandsConfig.from_env(), limit, json=json)


@app.command
def run_engine(
    *,
    max_concurrent_tasks: Annotated[int, Parameter(help="Flow runs at the same time.")] = 5,
    json: Ready = False,
) -> int:
    """Keep a worker running for the Prefect server that PREFECT_API_URL names; it is set up where that is missing.

    Ends cleanly on Ctrl-C or SIGTERM. `devtasks up` also brings a server of its own.
    """
    _from_one("--max-concurrent-tasks", max_concurrent_tasks)
    config = OpenHandsConfig.from_env()
    if config.prefect_api_url is None:
        reason = "PREFECT_API_URL is not set; `devtasks up` brings a server of its own"
        raise ServiceUnreachable("a Prefect server", "(no address)", reason)
    return _keep_up(config, max_concurrent_tasks, json=json)


def _from_one(option: str, limit: int) -> None:
    if limit < 1:
        raise InvalidInput(option, limit, "a whole number from 1")


def _keep_up(config: OpenHandsConfig, limit: int, *, json: bool) -> int:
    folder = stack_folder(config, STACK)

    async def keep() -> None:
        from deployments.execution_engine import ExecutionEngine
        from deployments.setup import has_credentials

        async with ExecutionEngine(config, limit, folder=folder, say=say) as engine:
            if not await has_credentials():
                say("there is no key yet: set OPENROUTER_API_KEY and start again, or make the block in the UI")
            say(f"ready: {engine.stack.connection.ui_url}")
            if json:
                _print_ready(engine.stack)
            if engine.stack.embedded:
                say(f"for the Prefect CLI: source {folder / 'client.env'} (the UI asks for its password)")
            await engine.wait()

    until_signal(keep())
    say("stopped")
    return 0


def _print_ready(stack: "Stack") -> None:
    """Print where the server is; its password only as the name of the file that holds it."""
    client_env = str(stack.folder / "client.env") if stack.embedded else None
    document = {"api_url": stack.connection.api_url, "ui_url": stack.connection.ui_url, "client_env": client_env}
    sys.stdout.write(dumps(document) + "\n")
    sys.stdout.flush()


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
    folder = stack_folder(config, DEMO)

    async def run() -> "TaskReport":
        from deployments.demo import SCENARIO, SIMULATED, demo_task, fresh_example, simulated_models
        from deployments.execution_engine import ExecutionEngine

        async with (
            ExecutionEngine(config, 1, folder=folder, say=say_nothing if json else say) as engine,
            simulated_models(SCENARIO, SIMULATED),
        ):
            repository = await asyncio.to_thread(fresh_example, folder)
            entered = await engine.submit_task(demo_task(repository), name="demo", force=True, credentials=SIMULATED)
            report = await show_progress(engine.queue.client, entered.flow_run, quiet=json)
            if not json:
                print_report(report)
                address = f"{engine.stack.connection.ui_url}/runs/flow-run/{entered.flow_run.id}"
                out.print(f"in the Prefect UI: {address}", soft_wrap=True)
            if keep:
                say(f"until Ctrl-C; the UI's password is in {folder / 'client.env'}")
                with suppress(asyncio.CancelledError):
                    await engine.wait()
            return report

    report = until_signal(run())
    if json:
        _print(report, json=True)
    else:
        say(f"nothing is left running; `devtasks demo --keep` keeps the UI up. State: {folder}")
    return _exit_code(report)


@app.command
def setup(*, json: Json = False) -> int:
    """Set a Prefect server up for devtasks (pool, queues, blocks, deployments); repeating it changes nothing.

    The server is that of PREFECT_API_URL, the stack that is up, or the active Prefect profile's.
    """

    async def run() -> str:
        from prefect.settings import get_current_settings

        from deployments.setup import set_up

        async with open_client() as client:
            await set_up(OpenHandsConfig.from_env(), os.environ | get_current_settings().to_environment_variables())
            return str(client.api_url)

    server = until_signal(run())
    if server is None:
        return INTERRUPTED
    if json:
        sys.stdout.write(dumps({"api_url": server, "set_up": True}) + "\n")
    else:
        say("set up: pool devtasks with its queues, blocks, deployments development-task/critical, high, normal, low")
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
    allow_path: Annotated[
        list[str] | None,
        Parameter(negative="", help="A pattern as in .gitignore of files that may change, instead of the category's."),
    ] = None,
    environment: Annotated[
        EnvironmentChoice, Parameter(help="Make the project's environment, or use the interpreter of devtasks.")
    ] = EnvironmentChoice.AUTO,
    setup_command: Annotated[str, Parameter(help="A shell command that completes the environment, run once.")] = "",
    acceptance_test: Annotated[
        list[str] | None,
        Parameter(negative="", help="A test file of the repository that generated code has to pass."),
    ] = None,
    build_command: Annotated[str, Parameter(help="The shell command that a build script is run by, twice.")] = "",
    priority: Annotated[TaskPriority, Parameter(help="The queue it waits in.")] = TaskPriority.NORMAL,
    complexity: Annotated[Complexity, Parameter(help="How hard it is.")] = Complexity.MODERATE,
    quality_threshold: Annotated[float, Parameter(help="The least score of an accepted result, 0 to 1.")] = 0.7,
    delivery: Annotated[
        Delivery, Parameter(help="A patch file; also a commit on a new branch; also a draft pull request of it.")
    ] = Delivery.PATCH,
    model: Annotated[str, Parameter(help="A model's id, to use that one alone.")] = "",
    max_cost_usd: Annotated[
        float | None,
        Parameter(help="US dollars it may cost; none is no limit, and lets a model of unknown price work."),
    ] = TaskLimits().cost_usd,
    review_hours: Annotated[
        float, Parameter(help="Hours to wait for a person's answer where no attempt was accepted; 0 asks nobody.")
    ] = 0,
    batch: Annotated[str, Parameter(help="Name of a batch, whose tasks share the next limit.")] = "",
    max_batch_cost_usd: Annotated[
        float | None, Parameter(help="US dollars that all tasks of the batch may cost together.")
    ] = None,
    credentials: Annotated[str, Parameter(help="Name of an OpenRouter Credentials block.")] = "default",
    github: Annotated[str, Parameter(help="Name of a devtasks GitHub Credentials block.")] = "default",
    use_docker: Annotated[
        bool, Parameter(negative="", help="Work in a container, also where the runtime block says local.")
    ] = False,
    force: Annotated[
        bool, Parameter(negative="", help="Submit it also where the same task waits, runs, or was accepted.")
    ] = False,
    idempotency_key: Annotated[
        str | None, Parameter(help="A name of your own: what was first submitted with it is the answer to all others.")
    ] = None,
    wait: Annotated[bool, Parameter(negative="", help="Show what happens, and exit with the task's outcome.")] = False,
    json: Json = False,
) -> int:
    """Submit a task to its priority's queue and print the flow run's id.

    The same task on the same commit is not submitted twice: the answer is the flow run that waits, runs, or was
    accepted. At most DEVTASKS_QUEUE_MAX_SIZE tasks wait.
    """
    from devtasks import workspace

    task = DevTask.parse(
        task_id="new",
        category=category,
        description=description,
        target_file=target_file or None,
        repository=_absolute(repository),
        base_ref=base_ref,
        allowed_paths=allow_path or [],
        environment=environment,
        setup_command=setup_command or None,
        acceptance_tests=acceptance_test or [],
        build_command=build_command or None,
        priority=priority,
        complexity=complexity,
        quality_threshold=quality_threshold,
        delivery=delivery,
        model=model or None,
        review_hours=review_hours,
        batch=batch or None,
        limits={"cost_usd": max_cost_usd, "batch_cost_usd": max_batch_cost_usd},
    )
    workspace.check_repository(task)
    config = OpenHandsConfig.from_env()

    async def run() -> "TaskReport":
        from deployments.client import check_github, check_price
        from deployments.task_queue import TaskQueue
        from flows.reports import read_report

        async with open_client() as client:
            await check_price(task, credentials)
            await check_github(task, github)
            named = {"github": github} if delivery is Delivery.PULL_REQUEST else {}
            entered = await TaskQueue(client, config.queue_max_size).enqueue(
                task,
                force=force,
                idempotency_key=idempotency_key,
                credentials=credentials,
                use_docker=use_docker,
                **named,
            )
            if not entered.created:
                say("this task was submitted before, at the same commit; --force submits it again")
            if wait:
                return await show_progress(client, entered.flow_run, quiet=json)
            return await read_report(client, entered.flow_run)

    report = until_signal(run())
    if report and not wait and not json:
        out.print(report.flow_run_id)
    else:
        _print(report, json=json)
    return _exit_code(report) if wait or report is None else 0


@app.command
def get_status(task: Annotated[str, Parameter(help="A flow run's id or name.")], /, *, json: Json = False) -> int:
    """Show where a task stands: state, attempts, findings, cost and what was delivered."""

    async def run() -> "TaskReport":
        from deployments.task_queue import TaskQueue

        async with open_client() as client:
            return await TaskQueue(client).get(task)

    report = until_signal(run())
    _print(report, json=json)
    return 0 if report else INTERRUPTED


@app.command
def metrics(
    *,
    simulated: Annotated[bool, Parameter(negative="", help="Sum up the simulated attempts instead.")] = False,
    json: Json = False,
) -> int:
    """Sum up what the ledger holds: tasks, acceptance, calls and cost, by model.

    The ledger is DEVTASKS_DATABASE_URL's, the one of the stack that is up, or the SQLite file under DEVTASKS_HOME.
    """
    from devtasks.ledger import Ledger
    from devtasks.metrics_collector import MetricsCollector

    url = ledger_url(OpenHandsConfig.from_env())

    async def run() -> MetricsCollector:
        async with Ledger.open(url) as ledger:
            return MetricsCollector(await ledger.attempts(), simulated=simulated)

    collector = until_signal(run())
    if collector is None:
        return INTERRUPTED
    if json:
        document = {"system": asdict(collector.system()), "models": [asdict(model) for model in collector.models()]}
        sys.stdout.write(dumps(document, indent=2) + "\n")
    else:
        print_metrics(collector.system(), collector.models(), simulated=simulated)
    return 0


def stack_folder(config: OpenHandsConfig, name: str) -> Path:
    """Return a stack's folder, and keep this process's Prefect, not imported yet, out of the user's profile."""
    folder = (config.home / name).expanduser().resolve()
    if config.prefect_api_url is None:
        home = folder / "prefect"
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput("DEVTASKS_HOME", str(config.home), f"a folder to write in ({error.strerror})") from None
        os.environ["PREFECT_HOME"] = str(home)
    return folder


def _print(report: "TaskReport | None", *, json: bool) -> None:
    if report and json:
        sys.stdout.write(report.model_dump_json(indent=2) + "\n")
    elif report:
        print_report(report)


def _exit_code(report: "TaskReport | None") -> int:
    if report is None:
        return INTERRUPTED
    return 0 if report.outcome == "accepted" else 1


def _absolute(repository: str) -> str:
    return (
        str(Path(repository).expanduser().resolve())
        if "://" not in repository and "@" not in repository
        else repository
    )


if __name__ == "__main__":
    main()
