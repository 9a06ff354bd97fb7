"""The command line as a person meets it: help, and one message with the right exit code for a mistake."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import make_attempt

from devtasks import cli
from devtasks.ledger import Ledger

SUBMIT = ("submit-task", "--category", "unit_test", "--description", "x")


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["devtasks", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    code = end.value.code
    return code if isinstance(code, int) else 1


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PREFECT_API_URL", "OPENHANDS_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DEVTASKS_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))


@pytest.mark.parametrize(
    "command",
    [
        *("up", "run-engine", "demo", "setup", "submit-task", "get-status", "metrics", "gc", "show"),
        *("list", "queue-stats", "cancel", "retry", "set-priority", "submit-spooled"),
    ],
)
def test_every_command_explains_itself(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, command, "--help") == 0
    assert f"devtasks {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("bogus",), "bogus", id="unknown command"),
        pytest.param(("up", "--limit", "0"), "--limit", id="limit below one"),
        pytest.param(("run-engine", "--max-concurrent-tasks", "0"), "--max-concurrent-tasks", id="no task at a time"),
        pytest.param(("gc", "--older-than", "-1"), "--older-than", id="days below zero"),
        pytest.param(("up", "--limit", "many"), "--limit", id="limit that is no number"),
        pytest.param((*SUBMIT[:2], "weird", *SUBMIT[3:]), "unit_test", id="unknown category"),
        pytest.param((*SUBMIT, "--quality-threshold", "1.5"), "1.5", id="threshold above one"),
        pytest.param((*SUBMIT[:4], " "), "description", id="empty description"),
        pytest.param((*SUBMIT, "--target-file", "../a.py"), "inside the repository", id="target outside"),
        pytest.param((*SUBMIT, "--target-file", "a.py", "--repository", "/"), "git repository", id="no repository"),
        pytest.param((*SUBMIT, "--target-file", "no/such.py"), "no/such.py", id="target absent"),
        pytest.param(
            (*SUBMIT, "--allow-path", "a/**", "--allow-path", "!b"), "'!b' is none", id="pattern that is none"
        ),
        pytest.param(
            (*SUBMIT, "--setup-command", "x", "--environment", "none"), "setup_command", id="set-up of nothing"
        ),
        pytest.param((*SUBMIT, "--max-cost-usd", "inf"), "finite", id="cost without end"),
        pytest.param((*SUBMIT, "--max-batch-cost-usd", "1"), "name of the batch", id="batch limit without batch"),
        pytest.param((*SUBMIT, "--priority", "urgent"), "critical", id="unknown priority"),
    ],
)
def test_wrong_usage_is_one_message_and_exit_code_2(
    words: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    assert run(monkeypatch, *words) == 2
    shown = capsys.readouterr()
    assert message in " ".join((shown.out + shown.err).split())
    assert "Traceback" not in shown.err


def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OPENHANDS_TIMEOUT", "-1")
    assert run(monkeypatch, "up") == 2
    assert "OPENHANDS_TIMEOUT" in capsys.readouterr().err


def test_a_home_that_is_no_folder_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DEVTASKS_HOME", str(tmp_path / "file"))
    assert run(monkeypatch, "up") == 2
    assert capsys.readouterr().err.startswith("devtasks: DEVTASKS_HOME: ")


def test_a_setting_that_prefect_cannot_read_is_named() -> None:
    # In a process of its own: Prefect reads its settings once.
    command = [sys.executable, "-m", "devtasks.cli", "list"]
    variables = os.environ | {"PREFECT_LOGGING_LEVEL": "loud"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=variables)
    assert done.returncode == 2
    assert "LOGGING_LEVEL: Input should be 'DEBUG'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["up", "run-engine"])
@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "garbage"])
def test_a_server_that_does_not_answer_is_exit_code_3(
    url: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    assert run(monkeypatch, command) == 3
    assert url in capsys.readouterr().err


def test_an_engine_without_a_server_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "run-engine") == 3
    assert "devtasks up" in " ".join(capsys.readouterr().err.split())


def test_without_any_server_the_message_says_how_to_get_one() -> None:
    # In a process of its own: Prefect reads its settings once.
    command = [sys.executable, "-m", "devtasks.cli", "get-status", "whatever"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 3
    assert "devtasks up" in done.stderr
    assert "Traceback" not in done.stderr


def test_metrics_sum_up_the_ledger_and_leave_simulated_attempts_out_unless_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("DEVTASKS_DATABASE_URL", f"sqlite:///{tmp_path}/ledger.db")
    attempt = make_attempt(simulated=True)

    async def record() -> None:
        async with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
            await ledger.record_attempt(attempt)

    asyncio.run(record())
    assert run(monkeypatch, "metrics") == 0
    assert "0 of 0 tasks accepted" in capsys.readouterr().out
    assert run(monkeypatch, "metrics", "--simulated", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["system"]["accepted_tasks"], shown["models"][0]["model_id"]) == (1, "acme/coder:free")
