"""The command that looks whether everything is there that tasks need."""

import sys
from dataclasses import asdict
from json import dumps
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.markup import escape
from rich.table import Table

from deployments.console import out, until_signal
from devtasks.cli_client import find_connection, up_folder
from devtasks.cli_models import ledger_url
from devtasks.config import OpenHandsConfig

if TYPE_CHECKING:
    from deployments.doctor.checks import Check

INTERRUPTED = 130

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


def register(app: App) -> None:
    """Add the command to the command line."""
    app.command(doctor)


def doctor(
    *,
    offline: Annotated[bool, Parameter(negative="", help="Do not ask the service that the key is for.")] = False,
    json: Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON document for machines.")] = False,
) -> int:
    """Check what tasks need (this machine, server, worker, blocks, key, ledger), and say how to mend what is missing.

    Exit code 0 where nothing failed (warnings are about what can be done without), 1 where something did, 3 where the
    server, the key's service or the ledger's database does not answer.
    """
    config = OpenHandsConfig.from_env()

    async def look() -> "list[Check]":
        from deployments.doctor.diagnosis import diagnose

        return await diagnose(config, find_connection(), ledger_url(config), up_folder(config), offline=offline)

    checks = until_signal(look())
    if checks is None:
        return INTERRUPTED
    from deployments.doctor.checks import exit_code

    if json:
        document = {"healthy": exit_code(checks) == 0, "checks": [asdict(check) for check in checks]}
        sys.stdout.write(dumps(document, indent=2) + "\n")
    else:
        _print(checks)
    return exit_code(checks)


def _print(checks: "list[Check]") -> None:
    from deployments.doctor.diagnosis import first_step

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        mend = f"\n[bold]→[/] {escape(check.mend)}" if check.mend else ""
        table.add_row(f"[{_STYLES[check.status]}]{check.status}[/]", check.name, f"{escape(check.found)}{mend}")
    out.print(table)
    if step := first_step(checks):
        out.print(f"first: {escape(step)}", soft_wrap=True)
    else:
        out.print("nothing is missing that tasks need")
