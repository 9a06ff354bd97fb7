"""A whole task in containers without a network, from submission to a branch."""

import json
import subprocess
from pathlib import Path

from harness import Up, example_repository, simulating
from sandboxes import require_docker

DEMO = Path(__file__).parents[2] / "examples" / "demo.yaml"


def test_a_task_that_asks_for_docker_is_accepted_and_says_where_it_ran(up: Up, tmp_path: Path) -> None:
    require_docker()
    repository = example_repository(tmp_path / "shop")
    with simulating(up, DEMO) as simulator:
        words = ("--category", "unit_test", "--target-file", "shop/pricing.py", "--description", "Test it.")
        more = ("--repository", repository, "--delivery", "branch", "--credentials", simulator.block)
        done = up.run("devtasks", "submit-task", *words, *more, "--use-docker", "--wait", "--json", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["state"], report["isolation"], report["simulated"]) == ("Accepted", "docker", True)
    assert {each["isolation"] for each in report["attempts"]} == {"docker"}
    labels = ("docker", "ps", "-a", "--format", '{{.Label "devtasks.run"}}')
    left = subprocess.run(labels, capture_output=True, text=True, check=True).stdout
    assert str(up.stack) not in left
