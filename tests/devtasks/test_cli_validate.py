"""Judging a change from the command line: real git, real pytest, in the sandbox the machine has, without a server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from devtasks import cli
from devtasks.run_folder import RunFolder

PRICE = "LIMIT = 100\n\n\ndef discount(total):\n    return total * 0.9 if total > LIMIT else total\n"
GOOD = """\
from price import discount


def test_discount():
    assert (discount(100), discount(200)) == (100, 180)
"""


def git(folder: Path, *words: str) -> str:
    options = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(["git", *options, *words], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture(autouse=True)
def checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A repository with a change that nobody has committed, and the working folder."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("DEVTASKS_HOME", raising=False)
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "price.py").write_text(PRICE)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "one")
    (folder / "test_price.py").write_text(GOOD)
    monkeypatch.chdir(folder)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["devtasks", "validate", "--environment", "none", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code if isinstance(end.value.code, int) else 1


def test_good_tests_of_a_checkout_pass_and_it_is_as_it_was(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--target", "price.py", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["passed"] is True
    assert said["changes"] == [{"path": "test_price.py", "status": "added"}]
    assert git(checkout, "status", "--porcelain") == "?? test_price.py\n"
    assert RunFolder.all(checkout / ".devtasks/runs") == []


def test_a_bad_patch_is_refused_with_its_findings_and_nothing_is_cut_from_it(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "test_price.py").write_text(f"{GOOD}\n\ndef test_bad():\n    assert discount(1) == 2\n")
    git(checkout, "add", "-A")
    patch = checkout.parent / "change.patch"
    patch.write_text(git(checkout, "diff", "--cached"))
    git(checkout, "reset", "-q", "--hard")
    assert run(monkeypatch, "--target", "price.py", "--diff", str(patch)) == 1
    said = capsys.readouterr().out
    assert "ERROR passes test_price.py:8: test_price.py::test_bad fails: assert 1 == 2" in said
    assert "not passed: score" in said


WRONG = {
    "no target": ([], "target_file: None is not allowed"),
    "no such target": (["--target", "prize.py"], "target_file: 'prize.py' is not allowed"),
    "no such base": (["--target", "price.py", "--base", "v9"], "base_ref: 'v9' is not allowed"),
    "no such patch": (["--target", "price.py", "--diff", "none"], "--diff: 'none' is not allowed"),
    "no repository": (["--target", "price.py", "--repository", "/"], "repository: '/' is not allowed"),
}


@pytest.mark.parametrize(("words", "expected"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_one_message(
    words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *words) == 2
    assert expected in capsys.readouterr().err


def test_a_patch_that_does_not_apply_is_one_message(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "junk").write_text("junk\n")
    assert run(monkeypatch, "--target", "price.py", "--diff", "junk") == 2
    assert "expected a patch that applies to" in capsys.readouterr().err
