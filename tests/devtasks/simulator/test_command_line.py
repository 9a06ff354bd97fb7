import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import devtasks.simulator

SCENARIO = Path(devtasks.simulator.__file__).parent / "scenarios" / "two-models.yaml"
COMMAND = [sys.executable, "-m", "devtasks.simulator"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_serves_until_a_signal_even_where_the_shell_ignores_sigint(number):
    with subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *COMMAND, str(SCENARIO)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            ready = process.stdout.readline()
            address = re.fullmatch(r"simulated OpenRouter at (http://127\.0\.0\.1:\d+/api/v1)\n", ready)[1]
            with urllib.request.urlopen(f"{address}/models", timeout=10) as response:
                assert response.headers["X-Devtasks-Simulated"] == "true"
            process.send_signal(number)
            rest, errors = process.communicate(timeout=10)
        finally:
            process.kill()
    assert (process.returncode, rest, errors) == (0, "", "")


def test_bad_file_ends_with_code_2_and_one_line(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: x\nmodels: [{id: a/b, faults: [{kind: nonsense}]}]\n")
    ended = subprocess.run([*COMMAND, str(path)], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1
    assert "models.0.faults.0.kind" in ended.stderr


def test_import_pulls_in_neither_prefect_nor_openhands():
    code = "import sys, devtasks.simulator; print([n for n in ('prefect', 'openhands', 'litellm') if n in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout == "[]\n"
