"""Every private interface of Prefect and asyncio that the prefork worker stands on; its test fails when one changes.

Prefect's process worker starts Python in two places: for a flow run, and for the hooks of one that was killed. Both
call the function `run_process` of their own module, which is what `starting_with` replaces; everything around it
(polling, control channel, cancellation, crash detection, states, events) stays Prefect's own. In the fork, the code
that would run in the new process is called as it is, except for its one `exec`.
"""

# pyright: reportPrivateUsage=false

import os
import re
import runpy
import signal
import ssl
import sys
import warnings
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

import anyio
import certifi
import prefect.context
import pydantic
from prefect._internal import version_checking, websockets
from prefect.client import orchestration
from prefect.logging.configuration import setup_logging
from prefect.runner import (
    _starter_engine,
    _workspace_hook_runner,
    _workspace_runtime_bootstrap,
    _workspace_supervisor,
)
from prefect.settings import get_current_settings
from prefect.utilities import processutils
from prefect.utilities.processutils import run_process as stock_run_process
from prefect.workers.process import ProcessJobConfiguration

RunProcess = Callable[..., Coroutine[Any, Any, Any]]
"""The signature of Prefect's `run_process`: a command, then keyword options; returns the ended process."""

ENGINE = "prefect.engine"
SUPERVISOR = "prefect.runner._workspace_supervisor"
BOOTSTRAP = Path(_workspace_runtime_bootstrap.__file__)

PRELOAD = (
    *(
        ENGINE,
        "prefect.flow_engine",
        SUPERVISOR,
        "prefect.runner._workspace_runtime_bootstrap",
        "prefect.workers.process",
    ),
    *("anyio._backends._asyncio", "pydantic.v1", "rich._emoji_codes", "encodings.idna"),
)
"""The modules that Prefect imports in a flow run's process, at its start or lazily."""

OUT_OF_MEMORY = 247
"""The exit code that Prefect's own table explains with high memory usage."""

_TLS_USERS = (orchestration, version_checking, websockets)
_CALLERS = (_starter_engine, _workspace_hook_runner)
_start: ContextVar[RunProcess | None] = ContextVar("start", default=None)


@dataclass(frozen=True)
class Program:
    """What one of Prefect's Python commands runs: a flow run's supervisor, or one kind of hook."""

    kind: Literal["flow", "hook"]
    arguments: tuple[str, ...]


def parse_command(command: Sequence[str]) -> Program | None:
    """Return what a command of Prefect's runs in this Python; None for any other command."""
    match [str(word) for word in command]:
        case [python, "-m", module, config] if (python, module) == (sys.executable, SUPERVISOR):
            return Program("flow", (config,))
        case [python, script, "hook", *arguments] if (python, script) == (sys.executable, str(BOOTSTRAP)):
            return Program("hook", tuple(arguments))
        case _:
            return None


@contextmanager
def starting_with(run_process: RunProcess) -> Generator[None]:
    """Let Prefect start its processes with `run_process` in this context, and in the tasks started from it."""
    for module in _CALLERS:
        module.run_process = _dispatch  # pyright: ignore[reportAttributeAccessIssue, reportPrivateImportUsage]
    token = _start.set(run_process)
    try:
        yield
    finally:
        _start.reset(token)


async def _dispatch(command: list[str], **options: Any) -> Any:
    return await (_start.get() or stock_run_process)(command, **options)


class WithoutRunsUnderWay:
    """A worker's part that leaves out runs whose earlier process has not ended: resumed just after their suspension.

    Prefect's own worker dies of such a run when it has a limit ("this borrower is already holding ...").
    """

    async def _submit_scheduled_flow_runs(self, flow_run_response: list[Any]) -> list[Any]:
        worker, above = cast(Any, self), cast(Any, super())
        limiter: anyio.CapacityLimiter | None = worker._limiter
        held = limiter.statistics().borrowers if limiter else ()
        fresh = [each for each in flow_run_response if each.flow_run.id not in held]
        return await above._submit_scheduled_flow_runs(fresh)


def names_command(configuration: ProcessJobConfiguration) -> bool:
    """Whether the job names its own command."""
    return configuration._command_configured


def interrupt_is_ignored() -> bool:
    """Whether Prefect's command line found SIGINT ignored, as a script's background process does.

    Its handlers turn SIGTERM into SIGINT and pass that on to the handler they found: such a worker never ends.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.SIG_IGN:
        return True
    code, cells = getattr(handler, "__code__", None), getattr(handler, "__closure__", None)
    if code is None or cells is None or getattr(handler, "__module__", "") != processutils.__name__:
        return False
    found = dict(zip(code.co_freevars, (cell.cell_contents for cell in cells), strict=True))
    return found.get("original_handler") is signal.SIG_IGN


def settings_environment() -> dict[str, str]:
    """Return the variables that Prefect adds to a flow run's environment for the settings in force here."""
    return get_current_settings().to_environment_variables(exclude_unset=True)


def is_setting(name: str) -> bool:
    """Whether Prefect's settings or its logging may be read from this variable; not those of one flow run."""
    return name in ("HOME", "SSL_CERT_FILE") or bool(re.match(r"PREFECT_(?!_)", name, re.IGNORECASE))


Sources = tuple[Mapping[str, str], Mapping[str, int]]


def settings_sources(variables: Mapping[str, str]) -> Sources:
    """Return, as a value that can be compared, all that Prefect would read its settings and logging from here.

    That is the environment, files in the working directory, and those files of the user's that the settings in
    force name.
    """
    pyproject = Path("pyproject.toml")
    settings = get_current_settings()
    files = [Path(".env"), Path("prefect.toml"), settings.profiles_path, settings.logging.config_path]
    if pyproject.is_file() and "tool.prefect" in pyproject.read_text(errors="replace"):
        files.append(pyproject)
    times = {str(file.absolute()): file.stat().st_mtime_ns for file in files if file and file.is_file()}
    return {name: value for name, value in variables.items() if is_setting(name)}, times


_in_force: list[Sources] = []


def renew_settings() -> None:
    """Let Prefect read its settings and set up its logging as in a new process here; 0.2 s if anything is new."""
    if settings_sources(os.environ) not in _in_force:
        prefect.context.refresh_global_settings_context()
        setup_logging(incremental=False)
        _in_force[:] = [settings_sources(os.environ)]


class _SharedTls(ModuleType):
    """The module `ssl` as Prefect's client uses it, with one context for each certificate file."""

    def __getattr__(self, name: str) -> Any:
        return getattr(ssl, name)

    @staticmethod
    def create_default_context(*, cafile: str | None = None) -> ssl.SSLContext:
        return _context_of(cafile) if cafile else ssl.create_default_context()


@cache
def _context_of(cafile: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=cafile)


def share_tls_contexts() -> None:
    """Let Prefect's clients in this process share their TLS context: making one costs 25 ms, a run makes nine.

    The one for the certificates that the settings in force name is made now, so that forks share it too.
    """
    _context_of(get_current_settings().api.ssl_cert_file or certifi.where())
    for module in _TLS_USERS:
        module.ssl = _SharedTls("ssl")  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]


def complete_models() -> None:
    """Let pydantic build what Prefect's models leave to their first use, so that forks have it: 0.15 s."""
    left = pydantic.BaseModel.__subclasses__()
    while left:
        model = left.pop()
        left += model.__subclasses__()
        if not model.__pydantic_complete__:
            model.model_rebuild(raise_errors=False)


@dataclass(frozen=True)
class Launch:
    """The command, folder and environment with which a flow run's supervisor would replace itself."""

    command: list[str]
    folder: Path
    environment: Mapping[str, str]

    def is_engine(self) -> bool:
        """Whether it is this Python's engine, not for example one that `uv run` starts."""
        return self.command == [sys.executable, "-m", ENGINE]

    def execute(self) -> None:
        """Replace this process by the command."""
        os.chdir(self.folder)
        os.execvpe(self.command[0], self.command, self.environment)  # noqa: S606


def supervise(config: str) -> Launch | int:
    """Prepare a flow run's workspace as Prefect's supervisor does; return what is to follow, or its exit code."""
    launches: list[Launch] = []

    async def launch(command: list[str], *, cwd: Path, environment: dict[str, str]) -> int:
        launches.append(Launch(command, cwd, environment))
        return 0

    _workspace_supervisor._launch_engine = launch
    code = _workspace_supervisor.main([config])
    return launches[0] if launches else code


def run_engine() -> None:
    """Run the flow run that the environment names, as `python -m prefect.engine` does; leaves by SystemExit too."""
    sys.argv = [str(Path(prefect.__file__).parent / "engine.py")]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*found in sys.modules after import of package", module="runpy")
        runpy.run_module(ENGINE, run_name="__main__", alter_sys=True)


def run_hook(arguments: Sequence[str]) -> int:
    """Run a killed flow run's hooks, as Prefect does in a process of their own; return the exit code."""
    return _workspace_runtime_bootstrap.main(["hook", *arguments])
