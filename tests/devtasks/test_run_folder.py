import json
import os
from pathlib import Path

import psutil
import pytest

from devtasks.run_folder import RunFolder


def test_whoever_claims_a_folder_owns_it(tmp_path: Path) -> None:
    folder = RunFolder.claim(tmp_path / "runs", "run-1")
    assert folder.flow_run_id == "run-1"
    assert folder.work.is_dir()
    owner = folder.owner()
    assert owner is not None
    assert owner.pid == os.getpid()


def test_claiming_again_keeps_what_is_there(tmp_path: Path) -> None:
    evidence = RunFolder.claim(tmp_path, "run-1").attempt(1) / "trajectory.jsonl"
    evidence.write_text("{}")
    RunFolder.claim(tmp_path, "run-1")
    assert evidence.read_text() == "{}"


def test_claimed_folders_are_found_until_they_are_released(tmp_path: Path) -> None:
    one, two = (RunFolder.claim(tmp_path, name) for name in ("run-1", "run-2"))
    (tmp_path / "something-else").mkdir()
    assert RunFolder.claimed(tmp_path) == [one, two]
    one.release()
    assert RunFolder.claimed(tmp_path) == [two]
    assert RunFolder.claimed(tmp_path / "missing") == []


def test_releasing_keeps_the_evidence_and_removes_the_rest(tmp_path: Path) -> None:
    folder = RunFolder.claim(tmp_path, "run-1")
    patch = folder.attempt(2) / "diff.patch"
    patch.write_text("+x")
    (folder.work / "home").mkdir()
    folder.release()
    assert patch.read_text() == "+x"
    assert not folder.work.exists()
    assert not folder.record.exists()
    assert folder.owner() is None
    folder.release()


def test_a_tree_made_read_only_is_removed_as_well(tmp_path: Path) -> None:
    folder = RunFolder.claim(tmp_path, "run-1")
    deep = folder.work / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    for each in (deep / "file", deep, deep.parent):
        each.chmod(0o500)
    folder.release()
    assert not folder.work.exists()


def test_a_stranger_with_the_same_number_is_no_owner(tmp_path: Path) -> None:
    folder = RunFolder.claim(tmp_path, "run-1")
    record = json.loads(folder.record.read_text())
    folder.record.write_text(json.dumps(record | {"created": record["created"] - 60}))
    assert folder.owner() is None


def test_a_process_that_is_gone_is_no_owner(tmp_path: Path) -> None:
    folder = RunFolder.claim(tmp_path, "run-1")
    gone = next(pid for pid in range(4_000_000, 5_000_000) if not psutil.pid_exists(pid))
    folder.record.write_text(json.dumps({"pid": gone, "created": 1.0}))
    assert folder.owner() is None


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"pid": 1', id="half-written"),
        pytest.param(b"\xff", id="not-text"),
        pytest.param(b"{}", id="without-a-process"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"7", id="number"),
        pytest.param(b'{"pid": "7", "created": 1}', id="pid-as-text"),
        pytest.param(b'{"pid": -7, "created": 1}', id="pid-negative"),
        pytest.param(b'{"pid": 1e300, "created": 1}', id="pid-beyond-measure"),
    ],
)
def test_a_record_that_cannot_be_read_names_no_owner(record: bytes, tmp_path: Path) -> None:
    folder = RunFolder.claim(tmp_path, "run-1")
    folder.record.write_bytes(record)
    assert folder.owner() is None
    assert RunFolder.claimed(tmp_path) == [folder], "it is still found, to be cleared"


def test_a_scratch_folder_is_empty_and_outside_the_workspace(tmp_path: Path) -> None:
    folder = RunFolder.claim(tmp_path, "run-1")
    (folder.scratch("validation-1") / "left-over").write_text("x")
    again = folder.scratch("validation-1")
    assert list(again.iterdir()) == []
    assert again.is_relative_to(folder.work)
    assert not again.is_relative_to(folder.work / "workspace")


def test_a_link_planted_where_scratch_goes_is_replaced_and_not_followed(tmp_path: Path) -> None:
    folder = RunFolder.claim(tmp_path, "run-1")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("x")
    (folder.work / "scratch").mkdir()
    (folder.work / "scratch" / "validation-1").symlink_to(elsewhere)
    assert list(folder.scratch("validation-1").iterdir()) == []
    assert (elsewhere / "file").exists()
