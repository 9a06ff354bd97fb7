"""The commands about batches: many tasks submitted as one, looked at, stopped, taken up again."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.markup import escape
from rich.table import Table

from deployments.console import out
from devtasks.batch.rendering import Format
from devtasks.cli_batch_submit import (
    INTERRUPTED,
    NO_LIMITS,
    Json,
    Limits,
    ask,
    print_id,
    print_json,
    print_summary,
    submit,
)
from devtasks.errors import InvalidInput
from devtasks.recovery import FailureKind

if TYPE_CHECKING:
    from deployments.batches import Batches
    from devtasks.batch.summary import BatchSummary

Id = Annotated[str, Parameter(help="A batch's id or name.")]

batch = App(name="batch", help="Submit many tasks as one, with limits of the whole, and one summary.")
batch.command(submit)


def register(app: App) -> None:
    """Add the commands to the command line."""
    app.command(batch)


@batch.command(name="list")
def list_batches(*, limit: Annotated[int, Parameter(help="At most so many.")] = 20, json: Json = False) -> int:
    """List batches, the newest first, and what they last said of themselves."""
    if not 1 <= limit <= 200:
        raise InvalidInput("--limit", limit, "a whole number from 1 to 200")
    found = ask(lambda batches: batches.list(limit))
    if found is None:
        return INTERRUPTED
    if json:
        print_json([asdict(each) for each in found])
        return 0
    table = Table("batch", "state", "tasks", "name", "progress", box=None, pad_edge=False)
    for each in found:
        table.add_row(each.batch_id, each.state, str(each.tasks), escape(each.name), escape(each.progress))
    out.print(table if found else "no batches", soft_wrap=True)
    return 0


@batch.command
def show(
    batch: Id,
    /,
    *,
    format: Annotated[Format, Parameter(help="How it is written.")] = Format.MARKDOWN,
    json: Json = False,
) -> int:
    """Show where a batch stands, or what came of it. Exit code 0 only if every task was accepted."""
    summary = ask(lambda batches: _summary(batches, batch))
    return INTERRUPTED if summary is None else print_summary(summary, Format.JSON if json else format)


@batch.command
def cancel(batch: Id, /, *, json: Json = False) -> int:
    """Cancel a batch and those of its own tasks that wait or run; `resume` takes it up again."""

    async def answer(batches: "Batches") -> str:
        return str((await batches.cancel(await batches.find(batch))).id)

    return print_id(ask(answer), json=json)


@batch.command
def resume(batch: Id, /, *, limits: Limits = NO_LIMITS, json: Json = False) -> int:
    """Go on with a batch that was cancelled, stopped by a limit, failed or crashed; what is done is not done again.

    Limits that are given take the place of the batch's.
    """

    async def answer(batches: "Batches") -> str:
        return str((await batches.resume(await batches.find(batch), **limits.given())).id)

    return print_id(ask(answer), json=json)


@batch.command
def retry(
    batch: Id,
    /,
    *,
    failed: Annotated[
        str, Parameter(help="Only tasks whose last failure is one of these kinds, separated by commas: stuck,rejected.")
    ] = "",
    json: Json = False,
) -> int:
    """Submit a new batch of the tasks of one that were not accepted, and print its id."""
    kinds = [_kind(each.strip()) for each in failed.split(",") if each.strip()]

    async def answer(batches: "Batches") -> str:
        return str((await batches.retry(await batches.find(batch), kinds)).id)

    return print_id(ask(answer), json=json)


def _kind(name: str) -> FailureKind:
    if name not in set(FailureKind):
        raise InvalidInput.unknown("--failed", name, list(FailureKind))
    return FailureKind(name)


async def _summary(batches: "Batches", batch: str) -> "BatchSummary":
    return await batches.summary(await batches.find(batch))
