"""The commands about what runs leave behind, without a server."""

import json
import os
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from devtasks import cli
from devtasks.run_folder import RunFolder

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
