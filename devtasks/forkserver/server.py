"""A preloaded server: imports libraries once, then forks a child for each job that comes over its socket.

`server.py LISTENER CONTROL` (two descriptors). Started by path, with the standard library alone, so that no code of
the project is in the children before they import it anew. It has one thread: forking is safe. The first line on the
control socket is the server's configuration: the modules to `preload`, the function that is each child's `entry`,
and one to `prepare` with, or null; a line goes back when all is imported. The server leaves when that socket has
closed and its last child has ended.

A job is a connection to the listener: a byte with three descriptors (the child's standard input, output and error),
then the request, a JSON object, to its end. Back go the child's process number and later its exit code, a line each.
"""

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

REQUEST_SECONDS = 10.0
"""How long a request may take to arrive; meanwhile no other job is taken."""

_CHUNK = 65_536


def main() -> None:
    """Serve until the control socket closes; in a child, run its job and exit as it does."""
    listener, control = (socket.socket(fileno=int(descriptor)) for descriptor in sys.argv[1:3])
    for each in (listener, control):
        each.set_inheritable(False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # whoever wants it gone closes the socket, or kills it
    configuration = json.loads(_line(control))
    preload(configuration["preload"])
    if configuration["prepare"]:
        name, argument = configuration["prepare"]
        function(name)(argument)
    check_threads()
    gc.collect()
    gc.freeze()  # the collector of a child would otherwise write to, and so copy, every shared page
    control.sendall(b"\n")
    server = Server(listener, control)
    request = server.serve()
    if request is not None:
        sys.exit(function(configuration["entry"])(request))


def preload(names: list[str]) -> None:
    """Import modules by name."""
    for name in names:
        importlib.import_module(name)


def check_threads() -> None:
    """Leave with a message where an import has started threads, which a fork would not take along."""
    threads = len(os.listdir("/proc/self/task")) if sys.platform == "linux" else threading.active_count()  # noqa: PTH208
    if threads != 1:
        sys.exit(f"the preloaded libraries started {threads - 1} threads: forking would not be safe")


def function(name: str) -> Callable[[Any], Any]:
    """Return the function that `module:function` names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


class Server:
    """Forks children and reports how they end."""

    def __init__(self, listener: socket.socket, control: socket.socket) -> None:
        self._listener = listener
        self._control = control
        self._jobs: dict[int, socket.socket] = {}
        self._own_job: socket.socket | None = None
        self._ended, self._wakeup = socket.socketpair()
        self._selector = selectors.DefaultSelector()

    def serve(self) -> dict[str, Any] | None:
        """Return a job's request in each child; None in the server itself when its work is over."""
        self._ended.setblocking(False)
        self._wakeup.setblocking(False)
        signal.signal(signal.SIGCHLD, _notice)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        for readable in (self._listener, self._control, self._ended):
            self._selector.register(readable, selectors.EVENT_READ)
        serving = True
        while serving or self._jobs:
            for key, _ in self._selector.select():
                if key.fileobj is self._ended:
                    self._reap()
                elif key.fileobj is self._control:
                    serving = False
                    self._selector.unregister(self._control)
                    self._selector.unregister(self._listener)
                    self._listener.close()
                elif serving and (request := self._take()) is not None:
                    return request
        return None

    def _take(self) -> dict[str, Any] | None:
        """Take one job; return its request in the child, None in the server."""
        job, _ = self._listener.accept()
        job.settimeout(REQUEST_SECONDS)
        descriptors: list[int] = []
        try:
            _, descriptors, _, _ = socket.recv_fds(job, 1, 3)
            _input, _output, _error = descriptors
            request = json.loads(b"".join(iter(lambda: job.recv(_CHUNK), b"")))
            job.settimeout(None)
            return request if self._fork(job, descriptors) else None
        except (OSError, ValueError) as error:
            print(f"no child was forked: {type(error).__name__}: {error}", file=sys.stderr)
            job.close()
            return None
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _fork(self, job: socket.socket, outputs: list[int]) -> bool:
        """Fork; return whether this is the child."""
        ready, leading = os.pipe()
        try:
            pid = os.fork()
            if pid == 0:
                os.setsid()
                self._leave_server(outputs)
                self._own_job = job  # held open: it tells who asked for the child that it lives
                return True
            os.close(leading)
            leading = -1
            os.read(ready, 1)  # until the child leads its own group, so that signals to the group reach it
        finally:
            for descriptor in (ready, leading):
                if descriptor >= 0:
                    os.close(descriptor)
        self._jobs[pid] = job
        _tell(job, pid)
        return False

    def _leave_server(self, streams: list[int]) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._selector.close()
        for other in (self._listener, self._control, self._ended, self._wakeup, *self._jobs.values()):
            other.close()
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._ended.recv(_CHUNK):
                pass
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                job = self._jobs.pop(ended[0])
                _tell(job, os.waitstatus_to_exitcode(ended[1]))
                job.close()


def _line(control: socket.socket) -> bytes:
    """Return the bytes up to the first line break; leave with 0 where the other side has gone before."""
    received = b""
    while not received.endswith(b"\n"):
        chunk = control.recv(_CHUNK)
        if not chunk:
            sys.exit(0)
        received += chunk
    return received


def _notice(_number: int, _frame: object) -> None:
    """Let the signal reach the wake-up socket, which an ignored one does not."""


def _tell(job: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # whoever asked for it is gone
        job.sendall(b"%d\n" % number)


if __name__ == "__main__":
    main()
