"""The parts of the embedded stack that need no server."""

import asyncio
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from deployments.automations import Silence
from deployments.orphans import end_processes
from deployments.stack import Connection, Stack, StackBusy, open_stack, read_connection, write_connection
from devtasks.config import OpenHandsConfig
from devtasks.errors import ServiceUnreachable

CONNECTION = Connection("http://127.0.0.1:4201/api", "devtasks:secret")


def ignore(_: str) -> None:
    return None


async def enter(folder: Path, config: OpenHandsConfig) -> None:
    async with open_stack(folder, config, ignore):
        pass


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> OpenHandsConfig:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("DEVTASKS_DATABASE_URL", raising=False)
    return OpenHandsConfig.from_env()


def test_a_connection_is_read_back_and_only_the_user_may_read_it(tmp_path: Path) -> None:
    write_connection(tmp_path, CONNECTION)
    assert read_connection(tmp_path) == CONNECTION
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}


def test_a_shell_that_sources_the_connection_has_prefects_variables(tmp_path: Path) -> None:
    write_connection(tmp_path, CONNECTION)
    script = '. "$1"/client.env; echo "$PREFECT_API_URL $PREFECT_API_AUTH_STRING"'
    shown = subprocess.run(["sh", "-c", script, "sh", tmp_path], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == [CONNECTION.api_url, CONNECTION.auth]


@pytest.mark.parametrize(
    "content", [None, "", "[]", '{"api_url": 1, "what": 2}'], ids=["none", "empty", "list", "keys"]
)
def test_no_connection_is_read_from_a_file_that_is_not_one(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "client.json").write_text(content)
    assert read_connection(tmp_path) is None


def test_the_stacks_processes_do_not_inherit_the_key(
    tmp_path: Path, config: OpenHandsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-simulated")
    monkeypatch.setenv("DEVTASKS_NOTIFY_URL", "https://hooks.test/secret")
    monkeypatch.setenv("SOMETHING_ELSE", "kept")
    environment = Stack(tmp_path, config, ignore).environment()
    assert not {"sk-or-simulated", "https://hooks.test/secret"} & set(environment.values())
    assert environment["SOMETHING_ELSE"] == "kept"
    assert environment["PREFECT_HOME"] == str(tmp_path / "prefect")


def test_the_runs_of_the_stack_s_workers_send_heartbeats_at_the_pace_that_the_automation_waits_for(
    tmp_path: Path, config: OpenHandsConfig
) -> None:
    pace = timedelta(seconds=int(Stack(tmp_path, config, ignore).environment()["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]))
    assert pace * 3 == Silence().within


def test_a_folder_whose_stack_is_up_is_refused(tmp_path: Path, config: OpenHandsConfig) -> None:
    holder = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    command = [sys.executable, "-c", holder, tmp_path / "lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        with pytest.raises(StackBusy, match="is up already"):
            asyncio.run(enter(tmp_path, config))
        process.kill()


def test_a_server_that_is_named_but_does_not_answer_is_unreachable(tmp_path: Path, config: OpenHandsConfig) -> None:
    named = config.model_copy(update={"prefect_api_url": "http://127.0.0.1:9/api"})
    with pytest.raises(ServiceUnreachable, match="PREFECT_API_URL"):
        asyncio.run(enter(tmp_path, named))


def test_a_process_that_does_not_end_when_asked_is_killed_with_its_children(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deployments.orphans.STOP_SECONDS", 0.2)
    script = 'trap "" TERM; sleep 60 & echo started; wait; wait'
    process = psutil.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout.readline() == b"started\n"
    (child,) = process.children()
    end_processes([psutil.Process(process.pid)])
    assert not process.is_running()
    child.wait(5)
    process.stdout.close()
