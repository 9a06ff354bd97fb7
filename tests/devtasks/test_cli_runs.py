"""The commands about what runs leave behind, without a server."""

import json
import os
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from builders import make_attempt

from devtasks import cli
from devtasks.evidence import TRAJECTORY, About, TrajectoryWriter, keep_attempt
from devtasks.run_folder import RunFolder
from devtasks.validation.result import Finding, ValidationLevel

LONG_AGO = 1_000_000_000


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("DEVTASKS_HOME", str(tmp_path / "state"))
    (tmp_path / "state" / "stack").mkdir(parents=True)
    return tmp_path / "state"


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["devtasks", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code if isinstance(end.value.code, int) else 1


def make_old_run(runs: Path) -> RunFolder:
    folder = RunFolder.claim(runs, str(uuid4()))
    evidence = folder.attempt(1) / "message.md"
    evidence.write_text("done")
    folder.release()
    for path in (evidence, evidence.parent):
        os.utime(path, (LONG_AGO, LONG_AGO))
    return folder


def test_gc_without_a_server_removes_what_is_surely_over_and_says_so(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [make_old_run(home / "runs"), make_old_run(home / "stack" / "runs")]
    waiting = make_old_run(home / "stack" / "runs")
    waiting.record.write_text('{"pid": 1, "created": 1.0}')
    assert run(monkeypatch, "gc", "--dry-run") == 0
    assert all(str(each.path) in capsys.readouterr().out for each in places[:1])
    assert all(each.path.exists() for each in places)
    assert run(monkeypatch, "gc", "--json") == 0
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert (document["dry_run"], document["server"]) == (False, False)
    assert sorted(each["what"] for each in document["removed"]) == sorted(str(each.path) for each in places)
    assert "cannot be reached" in shown.err
    assert not any(each.path.exists() for each in places)
    assert waiting.path.exists()


def test_gc_asked_for_less_days_takes_the_new_as_well(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_old_run(home / "runs")
    (folder.attempt(1) / "diff.patch").touch()
    assert run(monkeypatch, "gc") == 0
    assert folder.path.exists()
    assert run(monkeypatch, "gc", "--older-than", "0") == 0
    assert not folder.path.exists()
    assert "1 run" in capsys.readouterr().out


SLY = "\x1b]0;owned\x07\x1b[2Jhidden\x9b31m\u202e"
EVENTS: tuple[dict[str, Any], ...] = (
    {"type": "action", "tool": "terminal", "arguments": {"command": "pytest -q"}, "thought": "I run [the] tests."},
    {"type": "observation", "tool": "terminal", "text": "\n".join(f"line {number}" for number in range(100)) + SLY},
    {
        "type": "action",
        "tool": "file_editor",
        "arguments": {"command": "str_replace", "path": "/w/a.py", "old_str": "x = 1", "new_str": "x = 2"},
        "thought": "",
    },
    {"type": "tool_error", "tool": "file_editor", "text": "no such file"},
    {"type": "action", "tool": "finish", "arguments": {"message": "All done."}, "thought": ""},
)


def make_replayable(home: Path, name: str = "unit_test src/auth.py", **changes: Any) -> RunFolder:
    folder = RunFolder.claim(home / "stack" / "runs", str(uuid4()))
    About(flow_run_id=folder.flow_run_id, name=name, title="tests for auth", repository="/r").save(folder)
    finding = Finding("suite", ValidationLevel.ERROR, f"one test fails{SLY}", "tests/test_auth.py")
    for number in (1, 2):
        with TrajectoryWriter(folder.attempt(number) / TRAJECTORY) as trajectory:
            for event in EVENTS:
                trajectory.write(event)
        metrics = make_attempt(attempt=number, outcome="rejected", findings=(finding,), **changes)
        keep_attempt(folder, metrics, f"Last words of {number}.")
    folder.release()
    return folder


def show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(monkeypatch, "show", *words) == 0
    return capsys.readouterr().out


def test_an_attempt_is_replayed_in_order_without_a_server(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_replayable(home, simulated=True, model_served="acme/coder-2")
    shown = show(monkeypatch, capsys, folder.flow_run_id)
    expected = (
        *("tests for auth (simulated)", "acme/coder:free, answered by acme/coder-2", "rejected", "I run [the] tests."),
        *("$ pytest -q", "line 0", "line 19", "80 more lines", "str_replace /w/a.py", "-x = 1", "+x = 2"),
        *("error: no such file", "finish: All done.", "Last words of 2.", "ERROR suite at tests/test_auth.py"),
    )
    places = [shown.index(each) for each in expected]
    assert places == sorted(places)
    assert "line 20" not in shown
    assert "line 99" in show(monkeypatch, capsys, folder.flow_run_id, "--full")
    assert "Last words of 1." in show(monkeypatch, capsys, folder.flow_run_id, "--attempt", "1")


@pytest.mark.parametrize("words", [(), ("--full",), ("--step",), ("--json",)])
def test_nothing_an_agent_printed_commands_the_terminal(
    words: tuple[str, ...], home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_replayable(home, name=SLY)
    (folder.attempt(2) / "diff.patch").write_text(f"+x{SLY}\n")
    shown = show(monkeypatch, capsys, folder.flow_run_id, *words)
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(lambda folder: folder.flow_run_id, id="id"),
        pytest.param(lambda folder: folder.flow_run_id[:8], id="beginning"),
        pytest.param(lambda _: "unit_test src/auth.py", id="name"),
    ],
)
def test_a_run_is_found_by_what_a_person_knows(
    words: Any, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_replayable(home, name="another")
    folder = make_replayable(home)
    document = json.loads(show(monkeypatch, capsys, words(folder), "--json"))
    assert (document["flow_run_id"], document["attempt"], document["attempts"]) == (folder.flow_run_id, 2, [1, 2])
    assert [event["type"] for event in document["events"]] == [event["type"] for event in EVENTS]
    assert (document["verdict"]["outcome"], document["message"]) == ("rejected", "Last words of 2.\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("unit_test src/auth",), "unit_test src/auth.py", id="nearly-its-name"),
        pytest.param(("zzz",), "unit_test src/auth.py", id="nothing-like-it"),
        pytest.param(("unit_test src/auth.py", "--attempt", "7"), "one of 1, 2", id="no-such-attempt"),
    ],
)
def test_an_unknown_run_or_attempt_is_one_message_with_what_there_is(
    words: tuple[str, ...],
    message: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_replayable(home)
    assert run(monkeypatch, "show", *words) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_an_attempt_that_was_killed_in_the_middle_of_a_line_is_shown_up_to_there(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_replayable(home)
    trajectory = folder.attempt(2) / TRAJECTORY
    trajectory.write_bytes(trajectory.read_bytes()[:-20])
    (folder.attempt(2) / "verdict.json").unlink()
    shown = show(monkeypatch, capsys, folder.flow_run_id)
    assert "error: no such file" in shown
    assert "finish: All done." not in shown
    assert "1 line(s) cannot be read" in shown
    assert "not recorded" in shown
    with TrajectoryWriter(trajectory) as resumed:
        resumed.write({"type": "error", "text": "and on it goes"})
    assert "and on it goes" in show(monkeypatch, capsys, folder.flow_run_id)
