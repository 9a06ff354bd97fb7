"""What the steps of one flow run share: its folder, ledger, gateway and runtime, opened and closed together."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.exceptions import Abort
from prefect.runtime import flow_run

from blocks import GitHubCredentials, OpenHandsRuntime, OpenRouterCredentials, load_block
from devtasks.config import OpenHandsConfig, environment_secrets
from devtasks.evidence import About
from devtasks.execution.runtime import Runtime
from devtasks.ledger import Ledger
from devtasks.openrouter.account import Account, fingerprint
from devtasks.openrouter.gateway import Gateway
from devtasks.openrouter.pacing import LedgerPacing
from devtasks.openrouter.route import Service
from devtasks.openrouter.upstream import Upstream
from devtasks.quota import AccountLimits, Budgets, Order
from devtasks.redaction import Redactor
from devtasks.run_folder import RunFolder
from devtasks.selection.capability import Endpoint
from devtasks.task import Delivery, DevTask, TaskLimits
from tasks.sandbox import Sandbox, choose_sandbox, make_runtime

ANSWER_SECONDS = 5.0
"""What the server may take to say how a run stands."""

SOCKET = "gateway/socket"
"""The file in the part of a run's folder that goes, on which the gateway listens for a sandbox without a network."""


class Run:
    """The shared parts of one flow run; a plain class, so that Prefect does not look into it for inputs."""

    def __init__(
        self,
        *,
        task: DevTask,
        flow_run_id: str,
        folder: RunFolder,
        ledger: Ledger,
        services: "Services",
        gateway: Gateway,
        runtime: Runtime,
        settings: OpenHandsRuntime,
        credentials: OpenRouterCredentials,
        github: GitHubCredentials | None,
        redactor: Redactor,
        starts: int,
    ) -> None:
        self.task = task
        self.flow_run_id = flow_run_id
        self.folder = folder
        self.ledger = ledger
        self.services = services
        self.gateway = gateway
        self.runtime = runtime
        self.settings = settings
        self.credentials = credentials
        self.github = github
        self.redactor = redactor
        self.starts = starts  # of the flow run, this one included
        self.simulated = False  # until the catalogue or an answer says so


class Services:
    """The services that a run's calls go to, each opened when it is first asked for and closed with `stack`."""

    def __init__(
        self,
        stack: AsyncExitStack,
        ledger: Ledger,
        task: DevTask,
        flow_run_id: str,
        *,
        breaker: bool,
        redactor: Redactor,
    ) -> None:
        self._stack = stack
        self._ledger = ledger
        self._task = task
        self._flow_run_id = flow_run_id
        self._breaker = breaker
        self._redactor = redactor
        self._open: dict[str, Service] = {}

    async def of(self, endpoint: Endpoint | None, keys: OpenRouterCredentials) -> Service:
        """Return the service at a model's own endpoint, with the key of that one's block; without one the run's."""
        if endpoint:
            own = await load_block(OpenRouterCredentials, "credentials", endpoint.credentials)
            keys = own.model_copy(update={"base_url": endpoint.base_url})
        self._redactor.learn("model service's key", keys.api_key.get_secret_value())
        name = fingerprint(keys.base_url, keys.api_key)
        if name not in self._open:
            upstream = await self._stack.enter_async_context(Upstream(keys.base_url, keys.api_key))
            self._open[name] = Service(upstream, await self._pacing(keys))
        return self._open[name]

    async def _pacing(self, keys: OpenRouterCredentials) -> LedgerPacing:
        """Return the pacing of calls to a service, after it was asked what it counts of the account's day."""
        limits = self._task.limits
        account = Account(self._ledger, keys.base_url, keys.api_key)
        return LedgerPacing(
            self._ledger,
            Order(account.name, self._flow_run_id, keys.base_url, batch=self._task.batch),
            await account.limits(AccountLimits(keys.requests_per_minute, keys.requests_per_day)),
            Budgets(limits.cost_usd, limits.batch_cost_usd, keys.max_cost_usd_per_day),
            breaker=self._breaker,
            recheck=account.correct,
        )


@asynccontextmanager
async def open_run(
    task: DevTask, flow_run_id: str, *, credentials: str, runtime: str, github: str = "default", docker: bool = False
) -> AsyncGenerator[Run]:
    """Open what a run needs; on leaving, however that happens, nothing of it is left running or half removed.

    What it has done so far is kept where its process is being ended and nobody has cancelled it, or where the server is
    gone: another process goes on there. `credentials`, `runtime` and, for a pull request, `github` name blocks;
    `docker` is whether the task asks for a container.
    """
    config = OpenHandsConfig.from_env()
    keys = await load_block(OpenRouterCredentials, "credentials", credentials)
    settings = await load_block(OpenHandsRuntime, "runtime", runtime)
    wanted = task.delivery is Delivery.PULL_REQUEST
    hub = await load_block(GitHubCredentials, "github", github) if wanted else None
    sandbox = await choose_sandbox(docker, settings, config, get_run_logger().warning)
    task = task.model_copy(update={"limits": capped(task.limits, settings)})
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(claimed_folder(config, flow_run_id))
        async with get_client() as client:
            starts = (await client.read_flow_run(UUID(flow_run_id))).run_count
        ledger = await stack.enter_async_context(Ledger.open(config.ledger_url))
        redactor = Redactor(environment_secrets())
        if hub:
            redactor.learn("GitHub token", hub.token.get_secret_value())
        services = Services(stack, ledger, task, flow_run_id, breaker=config.enable_circuit_breaker, redactor=redactor)
        earlier = await ledger.calls(flow_run_id)
        socket = folder.work / SOCKET if sandbox is not Sandbox.NONE else None
        gateway = Gateway(flow_run_id=flow_run_id, limits=task.limits, earlier=earlier, socket=socket)
        await stack.enter_async_context(gateway)
        redactor.learn("run token", gateway.token)
        entered = await stack.enter_async_context(make_runtime(sandbox, folder.work, settings, config, socket))
        name = redactor.text(str(flow_run.name or ""))
        about = About(flow_run_id=flow_run_id, name=name, title=redactor.text(task.title), repository=task.repository)
        about.save(folder)
        yield Run(
            task=task,
            flow_run_id=flow_run_id,
            folder=folder,
            ledger=ledger,
            services=services,
            gateway=gateway,
            runtime=entered,
            settings=settings,
            credentials=keys,
            github=hub,
            redactor=redactor,
            starts=starts,
        )


async def check_ours(run: Run) -> None:
    """Raise Prefect's Abort, which ends the process and nothing else, where the run is not this process's any more.

    One that was cut off from the server may come back when another has gone on with the run, or ended it.
    """
    async with get_client() as client:
        now = await client.read_flow_run(UUID(run.flow_run_id))
    if now.state is None or not now.state.is_running() or now.run_count != run.starts:
        reason = f"this process ends here: its run is {now.state_name}, after {now.run_count} starts"
        get_run_logger().warning("%s", reason)
        raise Abort(reason)


@asynccontextmanager
async def claimed_folder(config: OpenHandsConfig, flow_run_id: str) -> AsyncGenerator[RunFolder]:
    """Yield a run's folder, this process's while it works there.

    It says that the run goes on where the process is being ended and nobody has cancelled it, or the server is gone.
    """
    folder, goes_on = RunFolder.claim(config.runs_folder, flow_run_id), False
    try:
        yield folder
    except Exception:  # the flow has failed; or the server is gone, and nobody knows
        goes_on = await _state(flow_run_id) is None
        raise
    except BaseException:  # this process is being ended
        goes_on = not await asyncio.shield(is_cancelled(flow_run_id))
        raise
    finally:
        if not goes_on:
            folder.release()


async def is_cancelled(flow_run_id: str) -> bool:
    """Tell whether somebody has cancelled the run; False where nobody can tell."""
    return await _state(flow_run_id) in {StateType.CANCELLING, StateType.CANCELLED}


async def _state(flow_run_id: str) -> StateType | None:
    """Return the kind of state that the run is in, None where nobody can tell."""
    with suppress(Exception):
        async with asyncio.timeout(ANSWER_SECONDS), get_client() as client:
            return (await client.read_flow_run(UUID(flow_run_id))).state_type
    return None


def capped(limits: TaskLimits, settings: OpenHandsRuntime) -> TaskLimits:
    """Return a task's limits within the upper bounds of the runtime block."""
    return limits.model_copy(
        update={
            "seconds": min(limits.seconds, settings.max_seconds),
            "llm_calls": min(limits.llm_calls, settings.max_llm_calls),
        }
    )
