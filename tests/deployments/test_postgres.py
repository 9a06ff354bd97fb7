"""The embedded PostgreSQL server, for real."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from deployments.postgres import MAX_SOCKET_PATH, EmbeddedPostgres, PostgresFailed

OWNER = """
import sys, time
from pathlib import Path
from deployments.postgres import EmbeddedPostgres
EmbeddedPostgres(Path(sys.argv[1])).start(("mine",))
print("started", flush=True)
time.sleep(60)
"""


def servers(folder: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["name", "cmdline", "status"])
        if process.info["name"] == "postgres"
        and process.info["status"] != psutil.STATUS_ZOMBIE
        and str(folder) in " ".join(process.info["cmdline"] or ())
    ]


def test_data_survives_a_restart_and_nothing_runs_after_the_stop(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    for _ in range(2):
        server = EmbeddedPostgres(folder)
        server.start(("prefect", "devtasks"))
        assert "host=" in server.url("devtasks")
        server.stop()
    assert servers(folder) == []


def test_a_server_left_by_a_killed_owner_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    with subprocess.Popen([sys.executable, "-c", OWNER, folder], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == "started\n"
        owner.kill()
    (left,) = servers(folder)
    server = EmbeddedPostgres(folder)
    server.start(("mine",))
    try:
        assert left not in servers(folder)
    finally:
        server.stop()


def test_a_long_path_moves_the_socket_and_the_folder_goes_with_the_server(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / ("long" * 25))
    server.start(())
    sockets = Path(server.url("x").partition("host=")[2])
    assert len(str(sockets)) < MAX_SOCKET_PATH
    assert sockets.stat().st_mode & 0o077 == 0
    server.stop()
    assert not sockets.exists()


def test_damaged_data_is_an_error_that_names_the_log(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    server = EmbeddedPostgres(folder)
    server.start(())
    server.stop()
    (folder / "data" / "global" / "pg_control").write_bytes(b"garbage")
    with pytest.raises(PostgresFailed, match=r"postgres.*log"):
        EmbeddedPostgres(folder).start(())
