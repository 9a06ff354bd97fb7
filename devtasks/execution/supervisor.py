"""The process under which everything untrusted of one run lives: the agent, its shell and the validation commands.

`python -m devtasks.execution.supervisor` reads jobs as JSON lines on standard input and answers each, one at a time,
as JSON lines on standard output: that it has begun, events, one result. Meanwhile a line `{"extend": SECONDS}`
prolongs it, and `{"stop": [STATUS, DETAIL]}` ends it.
Conversations are forks of this process, which has OpenHands imported (in a thread, while the first commands already
run), so only the first of a run pays the import; a supervisor that is itself the fork of a preloaded server pays
nothing.

Nothing outlives a job: this process adopts orphans (Linux's child subreaper) and kills every descendant when a job
ends, whatever session or process group it fled to. Nothing outlives the run: when standard input closes, because the
flow closed it or was killed, everything is killed and the process leaves. Where there is no subreaper (macOS), a
daemon that detaches itself while a job runs can escape. A job whose processes use more than its limits is killed too.

With the argument `alone` it has a process namespace to itself: it then kills all of it at once, which nothing escapes,
and no other process of its user may look into it or its conversations.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urlsplit

import psutil

from devtasks.execution.limits import ResourceLimits, Watch, bound
from devtasks.execution.runtime import AgentRequest, AgentResult, AgentStatus, Stop

MAX_OUTPUT = 65_536
"""Bytes of a command's output that are kept, from its end."""

ALONE = "alone"
"""The argument that says there is nothing but this process and what it starts in its process namespace."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_POLL_SECONDS = 0.02
_SCORE_BYTES = 8

Message = dict[str, Any]


def main(*, alone: bool = False) -> None:
    """Serve jobs until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the flow, which then closes our input
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    victims = Victims()
    if alone:
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints goes to the log, never into the protocol
    with contextlib.suppress(KeyboardInterrupt):
        Supervisor(Jobs(0), answers, victims, alone=alone).serve()


def forked(request: Mapping[str, Any]) -> None:
    """Serve jobs in a fork of a preloaded server, as a new process with this environment and folder would."""
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    time.tzset()
    tempfile.tempdir = None  # which the import of a library may have settled
    main()


class Jobs:
    """The job lines on a file descriptor, with a look at whether it was closed meanwhile."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = b""
        self.closed = False

    def next(self) -> Message | None:
        """Wait for the next job; None when the other side has gone."""
        while not self.closed:
            while b"\n" in self._buffer:
                message = self._take()
                if "job" in message:  # and not about one that had ended already
                    return message
            self.poll(None)
        return None

    def told(self) -> tuple[float, Stop | None]:
        """Return by how many seconds the running job was prolonged since the last call, and whether to stop it."""
        seconds, stop = 0.0, None
        while b"\n" in self._buffer:
            message = self._take()
            seconds += message.get("extend", 0.0)
            if "stop" in message:
                stop = Stop(AgentStatus(message["stop"][0]), message["stop"][1])
        return seconds, stop

    def _take(self) -> Message:
        line, _, self._buffer = self._buffer.partition(b"\n")
        return cast(Message, json.loads(line))

    def poll(self, timeout: float | None) -> None:
        """Take in what is there within `timeout` seconds, and see whether the other side has gone."""
        if select.select([self._descriptor], [], [], timeout)[0]:
            chunk = os.read(self._descriptor, 65_536)
            self.closed = not chunk
            self._buffer += chunk


class Victims:
    """What the kernel kills first where it runs out of memory: all that is begun here, and not this process.

    It is inherited: by the time that it could be set from outside, a job may have forked.
    """

    def __init__(self) -> None:
        """Open this process's own setting, which it may not any more once nobody may look into it."""
        self._score: int | None = None
        with contextlib.suppress(OSError):
            self._score = os.open("/proc/self/oom_score_adj", os.O_RDWR)

    @contextlib.contextmanager
    def begin(self) -> Generator[None]:
        """Begin in this context what is to be killed first."""
        if self._score is None:
            yield
            return
        own = os.pread(self._score, _SCORE_BYTES, 0)
        os.pwrite(self._score, b"1000", 0)
        try:
            yield
        finally:
            os.pwrite(self._score, own, 0)

    def close(self) -> None:
        """Let go of the setting, in a fork of this process."""
        if self._score is not None:
            os.close(self._score)


class Supervisor:
    """Runs one job after the other and lets no process outlive its job."""

    def __init__(self, jobs: Jobs, answers: IO[bytes], victims: Victims, *, alone: bool = False) -> None:
        self._jobs = jobs
        self._answers = answers
        self._victims = victims
        self._alone = alone
        self._watch = Watch(ResourceLimits(), ())
        self._preload = threading.Thread(target=_preload, daemon=True)
        self._preload.start()

    def serve(self) -> None:
        """Answer jobs until the other side has gone."""
        while (job := self._jobs.next()) is not None:
            run = self._run_agent if job["job"] == "agent" else self._run_command
            limits = ResourceLimits(**job["limits"])
            bound(limits)
            self._watch = Watch(limits, [Path.cwd()])
            try:
                result = run(job)
            except OSError as error:
                result = {"error": f"{type(error).__name__}: {error}"}
            finally:
                self._kill()
            self._send({"type": "result", **result})

    def _send(self, message: Message) -> None:
        # The line break in front ends a line that a killed conversation may have left half written.
        self._answers.write(b"\n" + json.dumps(message).encode() + b"\n")

    def _run_command(self, job: Message) -> Message:
        self._send({"type": "begun"})
        started = time.monotonic()
        with tempfile.TemporaryFile() as output:
            with self._victims.begin():
                process = subprocess.Popen(
                    job["argv"],
                    cwd=job["cwd"],
                    env={**os.environ, **in_front(job["env"])},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            stop = self._wait(process.pid, lambda: process.poll() is not None, started + job["timeout"])
            self._kill()
            process.wait()
            return {
                "exit_code": None if stop else process.returncode,
                "output": _tail(output),
                "seconds": time.monotonic() - started,
                "timed_out": stop is not None and stop.status is AgentStatus.DEADLINE,
                "exceeded": stop.detail if stop else "",
            }

    def _run_agent(self, job: Message) -> Message:
        self._preload.join()  # forking is safe only while this is the single thread
        request = _with_relay(AgentRequest.model_validate(job["request"]))
        self._send({"type": "begun"})
        started = time.monotonic()
        # A file and not a pipe, which is full at 64 KiB while nobody reads it yet.
        with tempfile.TemporaryFile() as results:
            with self._victims.begin():
                pid = os.fork()
                if pid == 0:
                    self._victims.close()
                    _converse(request, self._answers, results)
            codes: list[int] = []

            def ended() -> bool:
                done, code = os.waitpid(pid, os.WNOHANG)
                if done:
                    codes.append(code)
                return bool(done)

            if stop := self._wait(pid, ended, started + job["deadline"]):
                self._kill()
                stopped = AgentResult(status=stop.status, detail=stop.detail, seconds=time.monotonic() - started)
                return {"result": stopped.model_dump(mode="json")}
            self._kill()
            results.seek(0)
            if line := results.readline():
                return {"result": json.loads(line)}
        return {"error": f"the agent's process ended with {_ending(codes[0])} and no result"}

    def _wait(self, pid: int, done: Callable[[], bool], deadline: float) -> Stop | None:
        """Wait for the end of the job, which is this child; return why to stop it before, None where it is not."""
        while not done():
            _bury_others(pid)
            self._jobs.poll(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))
            if self._jobs.closed:
                self._kill()
                raise SystemExit(0)
            seconds, stop = self._jobs.told()
            deadline += seconds
            if stop:
                return stop
            if time.monotonic() >= deadline:
                return Stop(AgentStatus.DEADLINE)
            if exceeded := self._watch.exceeded():
                return Stop(AgentStatus.RESOURCES, exceeded)
        return Stop(AgentStatus.RESOURCES, killed) if (killed := self._watch.killed()) else None

    def _kill(self) -> None:
        if self._alone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        kill_descendants()


def in_front(environment: Mapping[str, str]) -> dict[str, str]:
    """Return a job's variables, with its PATH put in front of this process's."""
    if "PATH" not in environment:
        return dict(environment)
    path = os.pathsep.join((environment["PATH"], os.environ.get("PATH", os.defpath)))
    return {**environment, "PATH": path}


def _bury_others(pid: int) -> None:
    """Reap the dead children but this one: adopted orphans, which would take up the job's processes until its end."""
    if sys.platform == "linux":
        with contextlib.suppress(ChildProcessError):
            while (dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and dead.si_pid != pid:
                os.waitpid(dead.si_pid, os.WNOHANG)


def kill_descendants() -> None:
    """Kill and reap every process below this one, again and again until none is left."""
    while descendants := psutil.Process().children(recursive=True):
        for process in descendants:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.005)


def _preload() -> None:
    from devtasks.execution import agent

    agent.preload()


def _with_relay(request: AgentRequest) -> AgentRequest:
    """Return the request as it can be met here; where the gateway is a socket, a child of this process relays to it."""
    if not request.gateway_socket:
        return request
    from devtasks.execution import relay

    with relay.listen() as listener:
        if os.fork() == 0:
            try:
                _leave_with_parent()
                relay.serve(listener, request.gateway_socket)
            finally:
                os._exit(1)
        port = listener.getsockname()[1]
    url = urlsplit(request.base_url)._replace(netloc=f"127.0.0.1:{port}")
    return request.model_copy(update={"base_url": url.geturl()})


def _converse(request: AgentRequest, answers: IO[bytes], results: IO[bytes]) -> None:
    """Run the conversation in this forked child, which never returns."""
    code = 1
    try:
        _leave_with_parent()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        import random

        from devtasks.execution.agent import run_conversation

        random.seed()
        os.environ.update(in_front(request.environment))

        def emit(event: Message) -> None:
            answers.write(json.dumps(event).encode() + b"\n")

        result = run_conversation(request, emit)
        results.write(result.model_dump_json().encode() + b"\n")
        results.flush()
        code = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _leave_with_parent() -> None:
    """Take a session of its own, and die with the supervisor, so that our end of the protocol closes with it."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _tail(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - MAX_OUTPUT))
    return output.read().decode(errors="replace")


def _ending(status: int) -> str:
    return (
        f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.waitstatus_to_exitcode(status)}"
    )


if __name__ == "__main__":
    main(alone=ALONE in sys.argv)
