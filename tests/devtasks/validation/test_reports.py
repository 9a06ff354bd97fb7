import os

from devtasks.validation.reports import EVIDENCE_LINES, read_bounded, tail


def test_only_a_plain_file_within_the_limit_is_read(tmp_path):
    plain, link, fifo = tmp_path / "plain", tmp_path / "link", tmp_path / "fifo"
    plain.write_bytes(b"12345")
    link.symlink_to(plain)
    os.mkfifo(fifo)
    assert read_bounded(plain, 5) == b"12345"
    assert read_bounded(plain, 4) is None
    assert read_bounded(link) is None
    assert read_bounded(fifo) is None
    assert read_bounded(tmp_path) is None
    assert read_bounded(tmp_path / "missing") is None


def test_evidence_is_the_end_without_the_test_tools_own_frames():
    frames = [
        '  File "/v/site-packages/_pytest/main.py", line 3 in x',
        '  File "/p/tests/test_a.py", line 2 in test_loop',
    ]
    text = tail("\n".join([*map(str, range(100)), *frames]))
    assert text.splitlines()[-2:] == ["99", '  File "/p/tests/test_a.py", line 2 in test_loop']
    assert len(text.splitlines()) == EVIDENCE_LINES


def test_one_endless_line_is_cut():
    assert len(tail("x" * 100_000)) == 4_000
