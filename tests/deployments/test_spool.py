"""What the hook has kept is submitted once there is a server, and nothing of it is lost."""

import json
import subprocess
from pathlib import Path

from harness import BIN
from prefect_stack import PrefectStack
from queues import make_repository, make_task

from devtasks.spool import Spool, read_task


def submit(server: PrefectStack, repository: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [BIN / "devtasks", "submit-spooled", "--repository", repository, "--json"]
    environment = server.variables | {"DEVTASKS_HOME": str(repository / ".devtasks")} | variables
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_kept_tasks_are_submitted_once_and_bad_ones_laid_aside(server: PrefectStack, tmp_path: Path) -> None:
    repository = make_repository(tmp_path)
    spool = Spool.of(repository)
    good = make_task(repository, priority="low")
    assert spool.put(good) == spool.put(good), "the same task is kept once"
    assert read_task(spool.put(good)) == good
    bad = spool.put(make_task(repository, target_file="gone.py"))
    (spool.folder / "half.json").write_text('{"category": "unit_')

    away = submit(server, repository, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert away.returncode == 3, away.stderr
    assert len(list(spool.files())) == 3, "nothing is lost without a server"

    done = submit(server, repository)
    assert done.returncode == 1, done.stderr
    by_title = {each["title"]: each for each in json.loads(done.stdout)}
    assert by_title["unit_test shop.py"]["flow_run_id"]
    assert "gone.py" in by_title["unit_test gone.py"]["refused"]
    assert "a file that holds a task as JSON" in by_title["half.json"]["refused"]
    assert list(spool.files()) == []
    assert {each.name for each in (spool.folder / "refused").iterdir()} == {bad.name, "half.json"}

    spool.put(good)
    again = submit(server, repository)
    assert (again.returncode, json.loads(again.stdout)) == (0, [by_title["unit_test shop.py"]])
    empty = submit(server, repository)
    assert (empty.returncode, json.loads(empty.stdout)) == (0, [])
