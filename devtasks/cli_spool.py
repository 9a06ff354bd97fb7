"""The command that submits what waits in files."""

import sys
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.markup import escape

from deployments.console import out, until_signal
from devtasks.cli_client import open_client
from devtasks.config import OpenHandsConfig
from devtasks.errors import InvalidInput

if TYPE_CHECKING:
    from devtasks.spool import Spool

INTERRUPTED = 130


def register(app: App) -> None:
    """Add the command to the command line."""
    app.command(submit_spooled)


def submit_spooled(
    *,
    repository: Annotated[Path, Parameter(help="Path of the git repository whose hook has kept tasks.")] = Path(),
    credentials: Annotated[str, Parameter(help="Name of an OpenRouter Credentials block.")] = "default",
    json: Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON document for machines.")] = False,
) -> int:
    """Submit the tasks that the hook devtasks-submit has kept, each once, and print their flow runs' ids.

    What cannot be submitted now stays; what never can is laid aside, and the exit code is 1.
    """
    from devtasks.spool import Spool

    spool = Spool.of(repository.expanduser().resolve())
    with spool.held():
        done = until_signal(_submit(spool, credentials)) if any(spool.files()) else []
    if done is None:
        return INTERRUPTED
    if json:
        sys.stdout.write(dumps(done, indent=2) + "\n")
    else:
        for each in done:
            out.print(escape(f"{each['title']}: {each['flow_run_id'] or each['refused']}"), soft_wrap=True)
        out.print("" if done else "nothing is spooled", end="" if done else "\n")
    return 1 if any(each["refused"] for each in done) else 0


async def _submit(spool: "Spool", credentials: str) -> list[dict[str, str]]:
    from deployments.task_queue import TaskQueue
    from devtasks.spool import read_task

    done: list[dict[str, str]] = []
    async with open_client() as client:
        queue = TaskQueue(client, OpenHandsConfig.from_env().queue_max_size)
        for file in spool.files():
            title, entered, refused = file.name, None, ""
            try:
                task = read_task(file)
                title = task.title
                entered = await queue.enqueue(task, credentials=credentials)
            except InvalidInput as error:
                if error.field == "deployment":  # the server is not set up yet, which is no fault of the task's
                    raise
                refused = f"laid aside as {spool.refuse(file)}: {error}"
            else:
                file.unlink(missing_ok=True)
            done.append(
                {"title": title, "flow_run_id": str(entered.flow_run.id) if entered else "", "refused": refused}
            )
    return done
