"""Makes a project's environment with uv, once for each content of what describes it.

This is the only step of a run that uses the network besides the calls to models: it installs packages, and so may run
their build scripts, and the set-up command, with a scrubbed environment: as programs of this machine, or in containers
for runs that work in one. It works on the base commit, before any agent does.
"""

import asyncio
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from devtasks import removal
from devtasks.environments.builder import DOWNLOADS, Builder, HostBuilder, Step
from devtasks.environments.description import Description, describe, is_installable
from devtasks.errors import ProjectEnvironmentError
from devtasks.processes import kill_tree
from devtasks.shared_folders import SharedFolder
from devtasks.task import DevTask, EnvironmentChoice
from devtasks.validation.reports import tail
from devtasks.workspace import Workspace
from devtasks.workspace.git import without_user_info

TOOLS = ("pytest>=7", "coverage>=7.6")
"""What the validator runs in the environment; versions that the project pins stay, where they are no older."""

COMMAND_SECONDS = 900.0
"""The longest that one command may take."""

PASSED_ON = (
    *("PATH", "LANG", "LC_ALL", "TZ"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS"),
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX"),
    *("UV_OFFLINE", "UV_CONFIG_FILE", "UV_CACHE_DIR", "UV_HTTP_TIMEOUT", "UV_HTTP_RETRIES", "UV_LINK_MODE"),
)
"""The variables of this process that uv and the set-up command get to see: how to reach an index, and no key."""

_MARKER = "complete.json"
_SCM_VERSION = "0.0.0"


@dataclass(frozen=True)
class ProjectEnvironment:
    """The interpreter that runs a project's tests; `folder` is what a sandbox shows read-only, at the same path.

    `described_by` names what it was made from; None, as the folder, for the interpreter of devtasks itself.
    """

    python: Path
    folder: Path | None = None
    described_by: str | None = None


async def project_environment(
    task: DevTask,
    workspace: Workspace,
    cache: Path,
    home: Path,
    log: Callable[[str], None],
    *,
    builder: Builder | None = None,
) -> ProjectEnvironment:
    """Return the environment of the project in an untouched workspace, made where no run has needed it before.

    Args:
        task: says whether an environment is wanted, and the set-up command.
        workspace: at the base commit; the environment counts as used for as long as its git dir exists.
        cache: the folder that all environments are in.
        home: HOME of the commands, the run's own folder.
        log: is told what happens.
        builder: where the commands run, and with which interpreter; by default as processes of this machine.

    Raises:
        ProjectEnvironmentError: a command failed or took longer than 900 s.
    """
    builder = builder or HostBuilder()
    found = await asyncio.to_thread(describe, workspace.path)
    if task.environment is EnvironmentChoice.NONE or (found is None and task.setup_command is None):
        return ProjectEnvironment(builder.python)
    tree = workspace.git.line("rev-parse", f"{workspace.base_commit}^{{tree}}") if found and found.local else None
    shared = SharedFolder(cache / environment_key(found, task.setup_command, tree, await builder.identity()))
    source = " and ".join(filter(None, (found and found.source, task.setup_command and "the set-up command")))
    made = ProjectEnvironment(shared.path / "venv" / "bin" / "python", shared.path, source)
    async with shared.changed_async() as lock:
        shared.register(workspace.git_dir)
        if not (shared.path / _MARKER).is_file():
            log(f"making the project's environment from {source}")
            removal.remove(shared.path)
            shared.path.mkdir()
            await _Maker(task, workspace, shared.path, home, lock, log, builder).make(found)
    return made


def environment_key(
    found: Description | None, setup_command: str | None, tree: str | None, builder: Sequence[str]
) -> str:
    """Return the name of an environment: the same for all that would come out alike."""
    described = found or Description("", {}, ())
    facts = {
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(described.files.items())},
        "arguments": described.arguments,
        "requirements": described.requirements,
        "tree": tree,
        "setup_command": setup_command,
        "tools": TOOLS,
        "builder": builder,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class _Maker:
    """The commands that make one environment in `folder`, while `lock` is held."""

    task: DevTask
    workspace: Workspace
    folder: Path
    home: Path
    lock: int
    log: Callable[[str], None]
    builder: Builder

    async def make(self, found: Description | None) -> None:
        """Run them all in a copy of the workspace, which is gone afterwards, and write the marker last."""
        self.home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="setup-", dir=self.home.parent) as scratch:
            copy = Path(scratch) / "project"
            (Path(scratch) / "uv.toml").touch()  # uv looks no further up for settings
            ignored = shutil.ignore_patterns(".git")
            await asyncio.to_thread(shutil.copytree, self.workspace.path, copy, symlinks=True, ignore=ignored)
            await self._uv(
                copy, "venv", "--no-project", "--python", str(self.builder.python), str(self.folder / "venv")
            )
            if found:
                await self._install(found, copy)
            await self._uv(copy, "pip", "install", *TOOLS)
            if self.task.setup_command:
                await self._run(copy, ("sh", "-c", self.task.setup_command))
            await self._run(copy, ("python", "-I", "-c", "import coverage, pytest"))
            await self._run(copy, ("chmod", "-R", "a-w", str(self.folder / "venv")))
        facts = {"described_by": found and found.source, "setup_command": self.task.setup_command}
        (self.folder / _MARKER).write_text(json.dumps(facts) + "\n")

    async def _install(self, found: Description, copy: Path) -> None:
        if found.arguments:
            await self._uv(copy, *found.arguments)
        if found.requirements:
            (copy / ".devtasks-requirements.txt").write_text("\n".join(found.requirements) + "\n")
            await self._uv(copy, "pip", "install", "-r", ".devtasks-requirements.txt")
        if is_installable(copy):
            # The copy goes, and with it the code: what stays is the project's metadata and its console scripts.
            try:
                await self._uv(copy, "pip", "install", "--no-deps", "--editable", ".")
            except ProjectEnvironmentError as error:
                self.log(f"the project's own metadata is not installed: {error.output or error}")

    async def _uv(self, cwd: Path, *arguments: str) -> None:
        compiled = ("--compile-bytecode",) if arguments[0] != "venv" else ()
        await self._run(cwd, (self.builder.uv, *arguments, *compiled, "--quiet"))

    async def _run(self, cwd: Path, argv: tuple[str, ...]) -> None:
        """Run a command to its end; a run that is killed leaves it to itself, with the lock, until then."""
        step = Step(argv, cwd, self._environment(cwd.parent), (self.folder, self.home, cwd.parent))
        started, environment = await self.builder.start(step)
        with tempfile.TemporaryFile() as output:
            try:
                process = await asyncio.create_subprocess_exec(
                    *started,
                    cwd=cwd,
                    env=environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    pass_fds=(self.lock,),
                )
            except OSError as error:
                raise self._failed(argv, "cannot be started", str(error)) from error
            try:
                async with asyncio.timeout(COMMAND_SECONDS):
                    status = await process.wait()
            except TimeoutError:
                raise self._failed(argv, f"was stopped after {COMMAND_SECONDS:g} s", _read(output)) from None
            finally:
                if process.returncode is None:
                    kill_tree(process.pid)
                    await process.wait()
                    await self.builder.kill()
            if status != 0:
                raise self._failed(argv, f"ended with status {status}", _read(output))

    def _failed(self, argv: tuple[str, ...], how: str, output: str) -> ProjectEnvironmentError:
        shown = " ".join((Path(argv[0]).name, *argv[1:])).replace(str(self.folder), "…")
        return ProjectEnvironmentError(without_user_info(shown), how, without_user_info(output))

    def _environment(self, temporary: Path) -> Mapping[str, str]:
        venv, shown = self.folder / "venv", {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        # uv's own configuration file is the user's, who may name an index there.
        config = os.environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
        places = {"HOME": str(self.home), "TMPDIR": str(temporary), "XDG_CONFIG_HOME": config}
        return {
            "UV_CACHE_DIR": str(self.folder.with_name(DOWNLOADS)),
            **shown,
            **places,
            "PATH": os.pathsep.join((str(venv / "bin"), self.builder.path(shown.get("PATH", os.defpath)))),
            "VIRTUAL_ENV": str(venv),
            "UV_PROJECT_ENVIRONMENT": str(venv),
            "UV_PYTHON": str(venv / "bin" / "python"),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_PROGRESS": "1",
            "NO_COLOR": "1",
            "PYTHONUTF8": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "SETUPTOOLS_SCM_PRETEND_VERSION": _SCM_VERSION,  # the copy has no history to ask
        }


def _read(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - 16_384))
    return tail(output.read().decode(errors="replace"))
