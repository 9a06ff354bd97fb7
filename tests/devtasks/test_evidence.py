import json
import stat
from pathlib import Path

from builders import make_attempt

from devtasks.evidence import MESSAGE, VERDICT, About, Trajectory, TrajectoryWriter, keep_attempt
from devtasks.run_folder import RunFolder
from devtasks.terminal import harmless
from devtasks.workspace import Patch, deliver_patch


def rights(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):o}"


def test_only_the_user_may_read_a_run_s_folder(tmp_path: Path) -> None:
    folder = RunFolder.claim(tmp_path / "runs", "run-1")
    About(flow_run_id="run-1").save(folder)
    keep_attempt(folder, make_attempt(), "Done.")
    with TrajectoryWriter(folder.attempt(1) / "trajectory.jsonl") as trajectory:
        trajectory.write({"type": "message"})
    deliver_patch(Patch(content=b"", tree="", changes=()), folder.attempt(1) / "diff.patch")
    assert {rights(path) for path in (folder.path, *folder.path.rglob("*")) if path.is_dir()} == {"700"}
    evidence = [path for path in folder.path.rglob("*") if path.is_file() and path != folder.record]
    assert {path.name: rights(path) for path in evidence} == dict.fromkeys(
        ("about.json", MESSAGE, VERDICT, "trajectory.jsonl", "diff.patch"), "600"
    )


def test_a_trajectory_says_its_version_and_when_each_event_came(tmp_path: Path) -> None:
    file = tmp_path / "t"
    for text in ("one", "two"):
        with TrajectoryWriter(file) as trajectory:
            trajectory.write({"type": "message", "text": text})
    header, *lines = (json.loads(line) for line in file.read_text().splitlines())
    assert (header["type"], header["version"]) == ("trajectory", 1)
    assert [line["text"] for line in lines] == ["one", "two"]
    assert all(line["time"].endswith("+00:00") for line in (header, *lines))


def test_a_trajectory_that_grows_too_long_says_once_that_it_was_cut(tmp_path: Path) -> None:
    file = tmp_path / "t"
    with TrajectoryWriter(file, max_bytes=1_000) as trajectory:
        for number in range(100):
            trajectory.write({"type": "message", "text": f"{number}"})
    kept = Trajectory.read(file)
    assert [event["type"] for event in kept.events].count("cut") == 1
    assert kept.events[-1]["type"] == "cut"
    assert file.stat().st_size < 1_200


def test_lines_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "t"
    file.write_bytes(b'{"type": "message"}\n[1]\n{"type": 7}\n\xff\n{"type": "err')
    assert Trajectory.read(file) == Trajectory(({"type": "message"},), 4)
    assert Trajectory.read(tmp_path / "absent") == Trajectory()


def test_text_is_harmless_whatever_it_holds() -> None:
    everything = "".join(map(chr, range(0x3000)))
    shown = harmless(everything)
    controls = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} - {"\n", "\t"}
    assert not controls & set(shown)
    assert harmless("a\tb\r\nä 中\n") == "a\tb\nä 中\n"
    assert harmless("\x1b[31m") == "␛[31m"
    assert harmless("\ud800\u202e") == "\\ud800\\u202e"
