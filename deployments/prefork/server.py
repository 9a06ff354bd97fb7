"""The preloaded server: imports the libraries once, then forks a child for each job that comes over its socket.

Started by path, with the standard library alone, so that neither this package nor any other code of the project is
in the children before they import it anew. It has one thread: forking is safe. A job is one byte on the control
socket with three descriptors: the job's own socket, and the child's standard output and error. Over the job's socket
comes the request (JSON, to its end); back go the child's process number and later its exit code, a line each. When
the control socket closes, no more jobs come: the server leaves as soon as its last child has.
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
from typing import Any

CHILD = "deployments.prefork.child"
_CHUNK = 65_536


def main() -> None:
    """Serve until the control socket closes; in a child, run its job and exit as it does."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # whoever wants it gone closes the socket, or kills it
    preload(sys.argv[2:])
    control.sendall(b"\n")
    request = Server(control).serve()
    if request is not None:
        sys.exit(importlib.import_module(CHILD).main(request))


def preload(names: list[str]) -> None:
    """Import modules by name, and see that this left nothing behind that a fork would break."""
    for name in names:
        importlib.import_module(name)
    threads = len(os.listdir("/proc/self/task")) if sys.platform == "linux" else threading.active_count()  # noqa: PTH208
    if threads != 1:
        sys.exit(f"the preloaded libraries started {threads - 1} threads: forking would not be safe")
    gc.collect()
    gc.freeze()  # the collector of a child would otherwise write to, and so copy, every shared page


class Server:
    """Forks children and reports how they end."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._jobs: dict[int, socket.socket] = {}
        self._ended, self._wakeup = socket.socketpair()
        self._selector = selectors.DefaultSelector()

    def serve(self) -> dict[str, Any] | None:
        """Return a job's request in each child; None in the server itself when its work is over."""
        self._ended.setblocking(False)
        self._wakeup.setblocking(False)
        signal.signal(signal.SIGCHLD, _notice)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        for readable in (self._control, self._ended):
            self._selector.register(readable, selectors.EVENT_READ)
        open_ = True
        while open_ or self._jobs:
            for key, _ in self._selector.select():
                if key.fileobj is self._ended:
                    self._reap()
                    continue
                data, descriptors, _, _ = socket.recv_fds(self._control, 1, 3)
                if not data:
                    open_ = False
                    self._selector.unregister(self._control)
                elif (request := self._fork(*descriptors)) is not None:
                    return request
        return None

    def _fork(self, job_fd: int, *outputs: int) -> dict[str, Any] | None:
        for descriptor in (job_fd, *outputs):
            os.set_inheritable(descriptor, False)
        job = socket.socket(fileno=job_fd)
        request = b"".join(iter(lambda: job.recv(_CHUNK), b""))
        ready, leading = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            print(f"cannot fork: {error}", file=sys.stderr)
            _close(ready, leading, *outputs)
            job.close()
            return None
        if pid == 0:
            os.setsid()
            _close(ready, leading)
            self._leave_server(outputs)
            return {**json.loads(request), "job": job}  # held open: it tells the worker that the child lives
        os.close(leading)
        os.read(ready, 1)  # until the child leads its own group, so that signals to the group reach it
        _close(ready, *outputs)
        self._jobs[pid] = job
        _tell(job, pid)
        return None

    def _leave_server(self, outputs: tuple[int, ...]) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._selector.close()
        for other in (self._control, self._ended, self._wakeup, *self._jobs.values()):
            other.close()
        for number, descriptor in enumerate(outputs, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._ended.recv(_CHUNK):
                pass
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                job = self._jobs.pop(ended[0])
                _tell(job, os.waitstatus_to_exitcode(ended[1]))
                job.close()


def _notice(_number: int, _frame: object) -> None:
    """Let the signal reach the wake-up socket, which an ignored one does not."""


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _tell(job: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # the worker is gone
        job.sendall(b"%d\n" % number)


if __name__ == "__main__":
    main()
