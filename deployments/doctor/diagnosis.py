"""All checks in the order in which they are mended: what comes first is needed by what follows."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from prefect.client.orchestration import PrefectClient, get_client

from deployments.doctor import account, machine, server
from deployments.doctor.checks import Check, Finding, Probe, Status, examine, skipped
from deployments.stack import Connection
from devtasks.config import OpenHandsConfig, environment_secrets
from devtasks.errors import ServiceUnreachable
from devtasks.redaction import Redactor

SET_UP = "`devtasks setup`"

ON_SERVER: Mapping[str, tuple[Callable[[PrefectClient], Awaitable[Finding]], str]] = {
    "pool and queues": (server.pool, SET_UP),
    "deployments": (server.deployments, SET_UP),
    "worker": (server.worker, "`devtasks up` has one; for a server of PREFECT_API_URL start `devtasks run-engine`"),
    "runtime block": (server.runtime, SET_UP),
    "credentials block": (server.credentials, "set OPENROUTER_API_KEY and run `devtasks setup`, or make it in the UI"),
}
"""What is looked at on a server that answers, and how to mend it."""


async def diagnose(
    config: OpenHandsConfig, connection: Connection | None, ledger_url: str, folder: Path, *, offline: bool = False
) -> list[Check]:
    """Return what every check found; `connection` is None where no server is known, `folder` the stack's.

    With `offline` the service that the key is for is not asked.
    """
    known = {"password": connection.auth.partition(":")[2]} if connection and connection.auth else {}
    redactor = Redactor(environment_secrets() | known)

    async def look(probes: Sequence[Probe]) -> list[Check]:
        return list(await asyncio.gather(*(examine(probe, redactor) for probe in probes)))

    checks = await look(_machine(config, folder))
    checks += await look([_server(connection)])
    up = connection if checks[-1].status in (Status.OK, Status.WARNING) else None
    if up:
        with up.settings():
            async with get_client() as client:
                checks += await look(
                    [Probe(name, partial(check, client), mend) for name, (check, mend) in ON_SERVER.items()]
                )
            payer = None if offline else await account.find_payer(config)
    else:
        checks += await look([Probe(name, partial(_skip, "no server to ask"), "") for name in ON_SERVER])
        payer = account.payer_of(config)
    return checks + await look(_paying(payer, ledger_url, offline=offline))


def first_step(checks: Sequence[Check]) -> str | None:
    """Return how to mend the first check that failed, None where none did."""
    return next((check.mend for check in checks if check.status is Status.FAILED), None)


def _machine(config: OpenHandsConfig, folder: Path) -> list[Probe]:
    return [
        Probe("environment", machine.environment, "`make setup` in the checkout of devtasks, or install it anew"),
        Probe("git", machine.git, "install git (Debian, Ubuntu: apt install git)"),
        Probe("bubblewrap", machine.sandbox, "Debian, Ubuntu: apt install bubblewrap; docs/isolation.md"),
        Probe("docker", partial(machine.docker, config), "start Docker and run `make image`; docs/isolation.md"),
        Probe("disk", partial(machine.disk, folder), "`devtasks gc`, or DEVTASKS_HOME on a larger disk"),
        Probe("models file", partial(machine.own_models, config), "mend the file; docs/model-selection.md"),
    ]


def _server(connection: Connection | None) -> Probe:
    async def look() -> Finding:
        if connection is None:
            reason = "PREFECT_API_URL is not set and no stack is up"
            raise ServiceUnreachable("a Prefect server", "(no address)", reason)
        return await server.server(connection)

    up = "`devtasks up` starts one with all that belongs to it; or set PREFECT_API_URL to a server of yours"
    return Probe("server", look, up)


def _paying(payer: account.Payer | None, ledger_url: str, *, offline: bool) -> list[Probe]:
    ask = partial(_skip, "--offline") if offline else partial(account.key, payer, ledger_url)
    mend = "make a key at https://openrouter.ai/settings/keys, and put it into the block OpenRouter Credentials default"
    return [
        Probe("key", ask, mend),
        Probe("ledger", partial(account.ledger, ledger_url), "mend DEVTASKS_DATABASE_URL, or start its database"),
    ]


async def _skip(why: str) -> Finding:
    return skipped(why)
