"""Git as this package calls it: no hooks, no prompts, bounded in time, blind to the caller's GIT_* variables."""

import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from devtasks.errors import WorkspaceError

LOCAL_SECONDS = 300.0
NETWORK_SECONDS = 900.0
MAX_OUTPUT_BYTES = 256 * 1024 * 1024
CONNECT_SECONDS = 20
_MAX_WORDS = 400
_USER_INFO = re.compile(r"(\w+://)[^/\s@]*:[^/\s@]*@|(https?://)[^/\s@]+@")

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.quotePath=false",
    "core.excludesFile=/dev/null",
    "core.attributesFile=/dev/null",
    "commit.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.writeCommitGraph=false",
    "http.lowSpeedLimit=100",
    "http.lowSpeedTime=60",
)
_OPTIONS = tuple(word for setting in _SETTINGS for word in ("-c", setting))

_ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_ALLOW_PROTOCOL": "https:ssh:file",
    "GIT_ASKPASS": "",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "SSH_ASKPASS_REQUIRE": "never",
}


@dataclass(frozen=True)
class Git:
    """Git in one place; `environment` comes on top of the caller's, freed of every GIT_* variable.

    `kept` are file descriptors that git and its children keep open, such as a lock's.
    """

    cwd: Path
    environment: Mapping[str, str]
    kept: tuple[int, ...] = ()

    @classmethod
    def at(cls, repository: Path) -> Self:
        """Return git on exactly this repository, with the configuration of the person it belongs to."""
        return cls(repository, {"GIT_CEILING_DIRECTORIES": str(repository.parent)})

    @classmethod
    def isolated(cls, git_dir: Path, work_tree: Path) -> Self:
        """Return git on this git dir and work tree, which reads no configuration but the git dir's."""
        places = {"GIT_DIR": str(git_dir), "GIT_WORK_TREE": str(work_tree)}
        return cls(work_tree, places | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"})

    def having(self, **environment: str) -> Self:
        """Return the same git with these variables added."""
        return replace(self, environment={**self.environment, **environment})

    def over_network(self) -> Self:
        """Return the same git whose ssh asks nothing and gives up on a host that does not answer.

        The user's own `core.sshCommand` stays in use where that is OpenSSH's.
        """
        try:
            command = shlex.split(self.line("config", "--default", "ssh", "core.sshCommand"))
        except (WorkspaceError, ValueError):
            command = []
        if not command or Path(command[0]).name != "ssh":
            return self
        asked = ("BatchMode=yes", f"ConnectTimeout={CONNECT_SECONDS}", "ServerAliveInterval=20")
        options = [word for option in asked for word in ("-o", option)]
        return self.having(GIT_SSH_COMMAND=shlex.join([*command, *options]), GIT_SSH_VARIANT="ssh")

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        seconds: float = LOCAL_SECONDS,
        accept: tuple[int, ...] = (0,),
        limit: int = MAX_OUTPUT_BYTES,
    ) -> bytes:
        """Return what the command printed; at most `limit` bytes.

        Raises:
            WorkspaceError: git is not there, ended with a status outside `accept`, took too long or printed too much.
        """
        name = f"git {next(word for word in arguments if not word.startswith('-'))}"
        with tempfile.TemporaryFile() as stdout:
            try:
                status, stderr = self._wait(arguments, stdin, stdout.fileno(), seconds)
            except (OSError, ValueError) as error:
                raise WorkspaceError(f"{name} cannot be started: {error}") from error
            except subprocess.TimeoutExpired:
                raise WorkspaceError(f"{name} was stopped after {seconds:g} seconds") from None
            if status not in accept:
                raise WorkspaceError(f"{name}: {words(stderr) or f'ended with status {status}'}")
            if stdout.seek(0, os.SEEK_END) > limit:
                raise WorkspaceError(f"{name} printed more than {limit:,} bytes")
            stdout.seek(0)
            return stdout.read()

    def line(self, *arguments: str) -> str:
        """Return what the command printed, as text without surrounding white space."""
        return os.fsdecode(self.run(*arguments)).strip()

    def _wait(self, arguments: tuple[str, ...], stdin: bytes, stdout: int, seconds: float) -> tuple[int, bytes]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        with subprocess.Popen(
            ["git", *_OPTIONS, *arguments],
            cwd=self.cwd,
            env={**inherited, **_ENVIRONMENT, **self.environment},
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=self.kept,
        ) as process:
            try:
                _, stderr = process.communicate(stdin, timeout=seconds)
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        return process.returncode, stderr


def names(output: bytes) -> list[bytes]:
    """Return the entries of NUL-terminated output."""
    return output.split(b"\0")[:-1]


def words(stderr: bytes) -> str:
    """Return the telling lines of what a command complained about, as one printable line of bounded length."""
    text = without_user_info(stderr.decode(errors="replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "ERROR:"))] or lines
    return "".join(char if char.isprintable() else "?" for char in "; ".join(telling))[:_MAX_WORDS]


def without_user_info(text: str) -> str:
    """Return a text whose URLs show no password or token: configuration may rewrite a URL to one that has them."""
    return _USER_INFO.sub(lambda found: f"{found[1] or found[2]}…@", text)


def disk_error(what: str, error: OSError) -> WorkspaceError:
    """Return the error to raise for a file operation that failed, with the end of the file's name."""
    return WorkspaceError(f"{what}: {error.strerror or error}: {str(error.filename)[-200:]!r}")
