"""What goes and what stays, with real folders, locks and processes."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from processes import until

from devtasks.execution.local import HOME
from devtasks.retention import COLLECTORS, DAY, Rubbish, Scope, Standing, collect
from devtasks.run_folder import REMOVED, RunFolder
from devtasks.shared_folders import SharedFolder

NOW = 2_000_000_000.0


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def make_run(runs: Path, *, days: float = 0, state: str = "released", size: int = 10) -> RunFolder:
    """A run whose evidence is so old, and that is released, dead in the middle of its work, or alive."""
    folder = RunFolder.claim(runs, str(uuid4()))
    evidence = folder.attempt(1) / "trajectory.jsonl"
    evidence.write_text("x" * size)
    (folder.work / "file").write_text("in the work folder")
    folder.course.write_text("{}")
    if state == "released":
        folder.release()
    if state == "dead":
        folder.record.write_text('{"pid": 1, "created": 1.0}')
    changed = NOW - days * DAY
    for path in (evidence, evidence.parent):
        os.utime(path, (changed, changed))
    return folder


def make_scope(runs: Path, standing: Standing = Standing.OVER, *caches: Path, **changes: float) -> Scope:
    return Scope(runs=runs, caches=caches, now=NOW, standing=lambda _: standing, **changes)  # pyright: ignore[reportArgumentType]


GONE, WORK_GONE, STAYS = "gone", "work gone", "stays"


def what_is_left(folder: RunFolder) -> str:
    if not folder.path.exists():
        return GONE
    return STAYS if folder.work.exists() or folder.record.exists() else WORK_GONE


@pytest.mark.parametrize(
    ("state", "standing", "days", "left"),
    [
        pytest.param("alive", Standing.OVER, 99, STAYS, id="alive"),
        pytest.param("alive", Standing.UNKNOWN, 99, STAYS, id="alive-of-another-server"),
        pytest.param("dead", Standing.OPEN, 99, STAYS, id="waits-for-quota"),
        pytest.param("dead", Standing.UNREACHABLE, 99, STAYS, id="nobody-knows"),
        pytest.param("dead", Standing.OVER, 29, WORK_GONE, id="dead"),
        pytest.param("dead", Standing.OVER, 31, GONE, id="dead-and-old"),
        pytest.param("dead", Standing.UNKNOWN, 29, STAYS, id="unknown-and-new"),
        pytest.param("dead", Standing.UNKNOWN, 31, GONE, id="unknown-and-old"),
        pytest.param("released", Standing.OVER, 29, WORK_GONE, id="ended"),
        pytest.param("released", Standing.OVER, 31, GONE, id="ended-long-ago"),
        pytest.param("released", Standing.UNREACHABLE, 31, GONE, id="ended-long-ago-without-a-server"),
        pytest.param("released", Standing.OPEN, 31, WORK_GONE, id="started-again-by-a-person"),
    ],
)
def test_only_what_nobody_will_need_goes(runs: Path, state: str, standing: Standing, days: float, left: str) -> None:
    folder = make_run(runs, days=days, state=state)
    before = what_is_left(folder)
    assert collect(make_scope(runs, standing), dry_run=True) or left in {STAYS, before}
    assert what_is_left(folder) == before
    collect(make_scope(runs, standing))
    assert what_is_left(folder) == left
    assert list((runs / REMOVED).glob("*")) == []
    if left != GONE:
        assert (folder.attempt(1) / "trajectory.jsonl").exists()
    assert collect(make_scope(runs, standing)) == []


def test_a_dry_run_names_what_the_next_one_removes(runs: Path) -> None:
    make_run(runs, days=31, state="dead")
    make_run(runs, days=31)
    told = collect(make_scope(runs), dry_run=True)
    assert [each.kind for each in told] == ["work", "run", "run"]
    assert [(each.kind, each.what) for each in collect(make_scope(runs))] == [(each.kind, each.what) for each in told]
    assert sum(each.bytes for each in told) > 20


def test_the_oldest_evidence_goes_until_the_rest_fits(runs: Path) -> None:
    old, middle, new = (make_run(runs, days=days, size=1_000) for days in (3, 2, 1))
    collect(make_scope(runs, run_bytes=2_000))
    assert [what_is_left(each) for each in (old, middle, new)] == [GONE, WORK_GONE, WORK_GONE]


def test_what_is_no_run_s_folder_stays(runs: Path) -> None:
    foreign = runs / "my-project" / "attempts"
    foreign.mkdir(parents=True)
    os.utime(foreign, (0, 0))
    assert collect(make_scope(runs)) == []
    assert foreign.exists()


def test_what_a_killed_collection_left_goes_with_the_next(runs: Path) -> None:
    folder = make_run(runs, days=31)
    aside = folder.discard()
    assert [(each.kind, each.what) for each in collect(make_scope(runs))] == [("leftover", str(aside))]
    assert not aside.exists()


@pytest.fixture
def stray() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("state", "standing", "killed"),
    [
        pytest.param("dead", Standing.OVER, True, id="dead"),
        pytest.param("released", Standing.UNREACHABLE, True, id="ended"),
        pytest.param("dead", Standing.OPEN, False, id="goes-on"),
        pytest.param("alive", Standing.OVER, False, id="alive"),
    ],
)
def test_processes_of_dead_runs_are_ended(
    runs: Path, state: str, standing: Standing, killed: bool, stray: list[subprocess.Popen[bytes]]
) -> None:
    folder = make_run(runs, state=state)
    environment = {"HOME": str(folder.work / HOME)}
    stray.append(subprocess.Popen([sys.executable, "-c", "input()"], env=environment, stdin=subprocess.PIPE))
    process = psutil.Process(stray[0].pid)
    until(lambda: process.environ().get("HOME") == environment["HOME"])
    told = [each.kind for each in collect(make_scope(runs, standing))]
    assert ("processes" in told) == killed
    assert (stray[0].poll() is not None or process.status() == psutil.STATUS_ZOMBIE) == killed


def test_unused_caches_go_and_used_ones_stay(runs: Path, tmp_path: Path) -> None:
    cache = tmp_path / "repositories"
    used, unused = SharedFolder(cache / "used"), SharedFolder(cache / "unused")
    user = tmp_path / "user"
    user.mkdir()
    for shared in (used, unused):
        with shared.changed():
            shared.path.mkdir()
    with used.changed():
        used.register(user)
    told = collect(make_scope(runs, Standing.OVER, cache, cache_seconds=0))
    assert [(each.kind, each.what) for each in told] == [("cache", str(unused.path))]
    assert (used.path.exists(), unused.path.exists()) == (True, False)


def test_uvs_downloads_go_when_they_alone_need_too_much_space(runs: Path, tmp_path: Path) -> None:
    cache = tmp_path / "environments"
    for name, size in (("uv-cache", 50), ("uv-cache-docker", 500), ("0123456789abcdef", 500)):
        (cache / name).mkdir(parents=True)
        (cache / name / "file").write_text("x" * size)
    assert [each.kind for each in collect(make_scope(runs, Standing.OVER, cache, cache_bytes=100))] == ["downloads"]
    assert {path.parent.name for path in cache.glob("*/file")} == {"uv-cache", "0123456789abcdef"}
    assert collect(make_scope(runs, Standing.OVER, cache)) == [], "without a bound"


def test_what_cannot_be_removed_is_named_and_the_rest_goes(runs: Path) -> None:
    def refuse() -> bool:
        raise OSError("it is stuck")

    def broken(_: Scope) -> Iterator[Rubbish]:
        raise OSError("nothing to see")
        yield

    def bad(_: Scope) -> Iterator[Rubbish]:
        yield Rubbish("thing", "here", 5, refuse)

    folder = make_run(runs, days=31)
    told = collect(make_scope(runs), collectors=(broken, bad, *COLLECTORS))
    assert [(each.kind, each.error) for each in told] == [
        ("broken", "nothing to see"),
        ("thing", "it is stuck"),
        ("run", ""),
    ]
    assert what_is_left(folder) == GONE


def test_a_run_that_is_claimed_after_it_was_found_stays(runs: Path) -> None:
    folder = make_run(runs, days=31)

    def claims(scope: Scope) -> Iterator[Rubbish]:
        """Finds what the collectors find, and has the run start again before anything is removed."""
        found = [each for collector in COLLECTORS for each in collector(scope)]
        assert found
        RunFolder.claim(runs, folder.flow_run_id)
        yield from found

    assert collect(make_scope(runs), collectors=(claims,)) == []
    assert what_is_left(folder) == STAYS
    assert (folder.attempt(1) / "trajectory.jsonl").exists()


def test_two_at_once_and_runs_that_start_meanwhile_do_no_harm(runs: Path) -> None:
    old = [make_run(runs, days=31) for _ in range(20)]
    told: list[str] = []
    started: list[RunFolder] = []

    def collect_some() -> None:
        told.extend(each.what for each in collect(make_scope(runs)))

    def start_some() -> None:
        for _ in range(20):
            started.append(RunFolder.claim(runs, str(uuid4())))
            time.sleep(0)

    threads = [threading.Thread(target=each) for each in (collect_some, start_some, collect_some)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(told) == sorted(str(each.path) for each in old), "each is told once"
    assert all(each.work.is_dir() and each.owner() for each in started)
