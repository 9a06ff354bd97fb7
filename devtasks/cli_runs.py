"""The commands about what runs leave behind: looking at it, and clearing it up."""

import sys
from dataclasses import asdict
from json import dumps
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.markup import escape

from deployments.console import out, say, until_signal
from devtasks.cli_client import open_client
from devtasks.config import OpenHandsConfig
from devtasks.errors import InvalidInput, ServiceUnreachable

if TYPE_CHECKING:
    from devtasks.retention import Removed, Standing

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON document for machines.")]
INTERRUPTED = 130


def register(app: App) -> None:
    """Add the commands to the command line."""
    app.command(show)
    app.command(gc)


def show(
    run: Annotated[str, Parameter(help="A flow run's id, the beginning of it, or its name.")],
    /,
    *,
    attempt: Annotated[int | None, Parameter(help="Number of the attempt; the last one by default.")] = None,
    full: Annotated[bool, Parameter(negative="", help="Show every text whole.")] = False,
    step: Annotated[bool, Parameter(negative="", help="Wait for Enter before each step, on a terminal.")] = False,
    json: Json = False,
) -> int:
    """Replay an attempt step by step from what the run's folder keeps; no server is asked."""
    from deployments.replay_view import print_replay
    from devtasks.replay import find_run, read_replay
    from devtasks.run_folder import RunFolder

    places = dict.fromkeys(place.runs_folder for place in OpenHandsConfig.from_env().places())
    replay = read_replay(find_run([each for place in places for each in RunFolder.all(place)], run), attempt)
    if json:
        sys.stdout.write(dumps(replay.document(), indent=2) + "\n")
    else:
        print_replay(replay, full=full, step=step)
    return 0


def gc(
    *,
    dry_run: Annotated[bool, Parameter(negative="", help="Only say what would be removed.")] = False,
    older_than: Annotated[
        float | None, Parameter(help="Days, in place of DEVTASKS_KEEP_RUNS_DAYS and DEVTASKS_KEEP_CACHES_DAYS.")
    ] = None,
    json: Json = False,
) -> int:
    """Remove what runs left behind: evidence past its time, work and processes of dead runs, unused caches.

    Never touches a run that is alive or will go on. Where no Prefect server answers, what only it can tell is spared.
    Exit code 1 where something could not be removed.
    """
    if older_than is not None and not 0 <= older_than <= 36_500:
        raise InvalidInput("--older-than", older_than, "a number of days from 0 to 36500")
    config = OpenHandsConfig.from_env()

    async def ask() -> "dict[str, Standing]":
        from deployments.retention import ask_standings

        async with open_client() as client:
            return await ask_standings(client, config)

    reachable = True
    try:
        standings = until_signal(ask())
    except ServiceUnreachable as error:
        standings, reachable = {}, False
        say(f"{error}; runs that may go on are spared")
    if standings is None:
        return INTERRUPTED
    from deployments.retention import collect_all, summary

    removed = collect_all(config, standings, days=older_than, dry_run=dry_run)
    if json:
        document = {"dry_run": dry_run, "server": reachable, "removed": [asdict(each) for each in removed]}
        sys.stdout.write(dumps(document, indent=2) + "\n")
    else:
        _print_removed(removed)
        out.print(f"{'would remove' if dry_run else 'removed'}: {summary(removed)}", soft_wrap=True)
    return 1 if any(each.error for each in removed) else 0


def _print_removed(removed: "list[Removed]") -> None:
    for each in removed:
        what = f"{each.bytes / 1_000_000:,.1f} MB" if not each.error else f"[red]not removed:[/] {escape(each.error)}"
        out.print(f"{each.kind} {escape(each.what)} {what}", soft_wrap=True)
