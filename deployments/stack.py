"""The embedded stack: PostgreSQL, a Prefect server and one worker, all of this machine and of one folder.

Everything it writes lies in that folder (its own PREFECT_HOME among it). The server listens on loopback and asks for
a password, because Prefect's API hands secrets out in clear text to whoever may call it, and the agent shares the
loopback interface. Where PREFECT_API_URL names a server, only the worker is started.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import socket
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import psutil
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from deployments.postgres import EmbeddedPostgres
from devtasks import removal
from devtasks.config import NOTIFY_URL, OpenHandsConfig
from devtasks.errors import DevtasksError, ServiceUnreachable
from devtasks.processes import kill_tree

SERVER_SECONDS = 180.0
"""The first start migrates a fresh database; on two slow cores 10 s were measured, 32 s without compiled bytecode."""

STOP_SECONDS = 20.0

HEARTBEAT_SECONDS = 30
"""Between two heartbeats of a run, the least that Prefect allows; deployments/automations.py waits for them."""

TEMPORARY = "tmp"
"""The folder of a stack for the temporary files of its worker and runs."""

MAX_TEMPORARY_PATH = 64
"""Bytes of its path, so that those of the sockets below it stay within the 103 that macOS allows."""

SECRET_VARIABLES = ("OPENROUTER_API_KEY", NOTIFY_URL)
"""Variables that no process of the stack inherits: key and address live in blocks."""

Say = Callable[[str], None]


class StackFailed(DevtasksError):
    """A part of the stack did not start; the message says where its log is."""


class StackBusy(DevtasksError):
    """Another process keeps a stack of this folder up."""

    exit_code = 2


@dataclass(frozen=True)
class Connection:
    """How clients reach the stack: its server, with `auth` as `user:password` if it asks for one, and its ledger."""

    api_url: str
    auth: str | None
    ledger_url: str | None = None

    @property
    def ui_url(self) -> str:
        """The address of the Prefect UI."""
        return self.api_url.removesuffix("/api")

    def variables(self) -> dict[str, str]:
        """Return the environment variables by which Prefect's clients find the server."""
        auth = {"PREFECT_API_AUTH_STRING": self.auth} if self.auth else {}
        return {"PREFECT_API_URL": self.api_url} | auth

    @contextlib.contextmanager
    def settings(self) -> Generator[None]:
        """Let this process's own Prefect clients talk to the server."""
        updates = {PREFECT_API_URL: self.api_url, PREFECT_API_AUTH_STRING: self.auth}
        with temporary_settings(updates={name: value for name, value in updates.items() if value}):
            yield


def write_connection(folder: Path, connection: Connection) -> None:
    """Write the connection to files that only the user may read: `client.env` for shells, `client.json` for us."""
    lines = "".join(f"export {name}='{value}'\n" for name, value in connection.variables().items())
    _write_private(folder / "client.env", lines)
    _write_private(folder / "client.json", json.dumps(asdict(connection)))


def read_connection(folder: Path) -> Connection | None:
    """Return the connection of the stack that is up in a folder, None where none is."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Connection(**json.loads((folder / "client.json").read_text()))
    return None


class Stack:
    """The parts of a stack that is up; made by `stack`."""

    def __init__(self, folder: Path, config: OpenHandsConfig, say: Say) -> None:
        self.folder = folder
        self.config = config
        self.say = say
        self.embedded = config.prefect_api_url is None
        self.postgres = EmbeddedPostgres(folder / "postgres")
        self.connection = Connection(config.prefect_api_url or "", os.environ.get("PREFECT_API_AUTH_STRING"))
        self.ledger_url = config.ledger_url
        self.server: Process | None = None

    @property
    def runs_folder(self) -> Path:
        """Where this stack's runs keep their folders."""
        return (self.config.workspace_root or self.folder / "runs").expanduser().resolve()

    def environment(self) -> dict[str, str]:
        """Return the environment of the stack's processes: nothing secret but the server's password."""
        inherited = {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}
        # Bytecode has to be written somewhere, or every process compiles Prefect anew.
        inherited.pop("PYTHONDONTWRITEBYTECODE", None)
        return inherited | self.connection.variables() | self._own_variables()

    def _own_variables(self) -> dict[str, str]:
        own = {
            "DEVTASKS_HOME": str(self.folder),
            "DEVTASKS_DATABASE_URL": self.ledger_url,
            "OPENHANDS_WORKSPACE_ROOT": str(self.runs_folder),
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_WORKER_PREFETCH_SECONDS": "0",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        return own | ({"PREFECT_HOME": str(self.folder / "prefect")} if self.embedded else {})

    async def open_server(self, exits: AsyncExitStack) -> None:
        """Start PostgreSQL and the Prefect server; on leaving `exits` they end in turn."""
        exits.push_async_callback(asyncio.to_thread, self.postgres.stop)
        self.say("starting PostgreSQL …")
        await asyncio.to_thread(self.postgres.start, ("prefect", "devtasks"))
        if not self.config.database_url:
            self.ledger_url = self.postgres.url("devtasks")
        port = _free_port(self.folder / "port")
        password = secrets.token_urlsafe(24)
        self.connection = Connection(f"http://127.0.0.1:{port}/api", f"devtasks:{password}", self.ledger_url)
        exits.push_async_callback(self._end_server)
        await self.start_server()
        write_connection(self.folder, self.connection)
        exits.callback(_forget_connection, self.folder)

    async def start_server(self) -> None:
        """Start the Prefect server, for the first time or after it died, and wait until it answers."""
        variables = {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.postgres.url("prefect"),
            "PREFECT_SERVER_API_AUTH_STRING": self.connection.auth or "",
            "PREFECT_SERVER_UI_API_URL": self.connection.api_url,
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        }
        self.say(f"starting the Prefect server at {self.connection.ui_url} …")
        command = ("server", "start", "--host", "127.0.0.1", "--port", str(httpx.URL(self.connection.api_url).port))
        self.server = await self._spawn("server", command, variables)
        await self._wait_healthy(self.server)

    async def _end_server(self) -> None:
        if self.server:
            await end_process(self.server)

    async def start_worker(self, limit: int) -> Process:
        """Start a worker on the pool's queues."""
        options = ("--pool", "devtasks", "--type", "prefork", "--limit", str(limit), "--install-policy", "never")
        return await self._spawn("worker", ("worker", "start", *options), self._temporary())

    def _temporary(self) -> dict[str, str]:
        """Have the next worker and its runs leave their temporary files where they are found: those before it are gone.

        Where the path is too long for the sockets that lie there too, they go where everybody's go.
        """
        folder = self.folder / TEMPORARY
        removal.remove(folder)
        if len(os.fsencode(folder)) > MAX_TEMPORARY_PATH:
            return {}
        folder.mkdir(mode=0o700)
        return {"TMPDIR": str(folder)}

    async def _spawn(self, name: str, command: tuple[str, ...], variables: dict[str, str]) -> Process:
        # Its own session: a Ctrl-C reaches only this process, which then ends its children in order.
        with (self.folder / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "prefect", "--no-prompt", *command),
                cwd=self.folder,
                env=self.environment() | variables,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _wait_healthy(self, server: Process) -> None:
        deadline = time.monotonic() + SERVER_SECONDS
        async with httpx.AsyncClient() as client:
            while server.returncode is None and time.monotonic() < deadline:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(f"{self.connection.api_url}/health")).is_success:
                        return
                await asyncio.sleep(0.2)
        raise StackFailed(f"the Prefect server did not start; its log is {self.folder / 'server.log'}")


@asynccontextmanager
async def open_stack(folder: Path, config: OpenHandsConfig, say: Say) -> AsyncGenerator[Stack]:
    """Bring up the server, its set-up and the recovery of what a dead worker left; on leaving all of it ends in order.

    Raises StackBusy where a stack of this folder is up, ServiceUnreachable where PREFECT_API_URL does not answer.
    """
    async with AsyncExitStack() as exits:
        exits.enter_context(_locked(folder))
        exits.callback(removal.remove, folder / TEMPORARY)
        stack = Stack(folder, config, say)
        if stack.embedded:
            await asyncio.to_thread(_end_leftovers, folder)
            await stack.open_server(exits)
        else:
            await _check_server(stack.connection)
        yield stack


async def end_process(process: Process) -> None:
    """Ask a process of the stack to end, and kill it with its descendants if it does not within STOP_SECONDS."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            await asyncio.to_thread(kill_tree, process.pid)
            await process.wait()


@contextlib.contextmanager
def _locked(folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackBusy(f"a stack is up already in {folder}; stop it, or set DEVTASKS_HOME") from None
        yield


def _end_leftovers(folder: Path) -> None:
    """End the server and worker of a stack whose owner was killed; they are known by the folder they run in."""
    mine = str(folder)
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            command: list[str] = process.info["cmdline"] or []
            if "prefect" in command and process.cwd() == mine and process.pid != os.getpid():
                process.kill()
    _forget_connection(folder)


async def _check_server(connection: Connection) -> None:
    try:
        async with httpx.AsyncClient(timeout=10) as client:
            (await client.get(f"{connection.api_url}/health")).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceUnreachable("the Prefect server of PREFECT_API_URL", connection.api_url, str(error)) from error


def _free_port(memory: Path) -> int:
    """Return the port used last time where it is free, so that the UI keeps its address; else any free one."""
    remembered = int(memory.read_text()) if memory.exists() and memory.read_text().isdigit() else 0
    for port in (remembered, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            free: int = probe.getsockname()[1]
            memory.write_text(str(free))
            return free
    raise StackFailed("no port is free on 127.0.0.1")


def _write_private(path: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent)  # mode 0600
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(name).rename(path)


def _forget_connection(folder: Path) -> None:
    for name in ("client.env", "client.json"):
        (folder / name).unlink(missing_ok=True)
