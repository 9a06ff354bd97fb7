"""What other systems read of this project is what they expect, and its shell is sound."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import BIN

ROOT = Path(__file__).parent.parent
ACTION, WORKFLOW = ROOT / "action.yml", ROOT / "examples/github/generate-tests.yml"
HOOKS = ROOT / ".pre-commit-hooks.yaml"


def load(file: Path) -> Any:
    return yaml.load(file.read_text(), Loader=yaml.BaseLoader)


@pytest.mark.parametrize(
    ("command", "file"),
    [
        pytest.param(("check-jsonschema", "--builtin-schema", "vendor.github-actions"), ACTION, id="action"),
        pytest.param(("check-jsonschema", "--builtin-schema", "vendor.github-workflows"), WORKFLOW, id="workflow"),
        pytest.param(("pre-commit", "validate-manifest"), HOOKS, id="hooks"),
        pytest.param(("shellcheck",), ROOT / "scripts/github-action", id="action's script"),
        pytest.param(("shellcheck",), ROOT / "scripts/pre-commit-hook", id="hooks' entry"),
    ],
)
def test_files_are_what_their_readers_expect(command: tuple[str, ...], file: Path) -> None:
    done = subprocess.run([BIN / command[0], *command[1:], file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def steps() -> Iterator[dict[str, Any]]:
    yield from load(ACTION)["runs"]["steps"]
    for job in load(WORKFLOW)["jobs"].values():
        yield from job["steps"]


def test_the_shell_in_the_files_is_sound_and_no_expression_is_part_of_it() -> None:
    scripts = [step["run"] for step in steps() if "run" in step]
    assert len(scripts) == 3
    for script in scripts:
        assert "${{" not in script, "an expression in a shell's text is run as code"
        done = subprocess.run(
            [BIN / "shellcheck", "--shell=bash", "-"], input=script, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_actions_are_pinned_by_major_version() -> None:
    used = [step["uses"] for step in steps() if "uses" in step]
    assert len(used) == 5
    assert [each for each in used if not each.rpartition("@")[2].removeprefix("v").isdigit()] == []


def test_no_job_that_runs_a_pull_requests_code_may_write_and_no_job_that_may_write_sees_the_key() -> None:
    workflow = load(WORKFLOW)
    assert list(workflow["on"]) == ["pull_request"]
    assert workflow["permissions"] == {}
    generate, comment = (workflow["jobs"][name] for name in ("generate", "comment"))
    assert generate["if"] == "github.event.pull_request.head.repo.full_name == github.repository"
    assert generate["permissions"] == {"contents": "read"}
    assert generate["steps"][0]["with"]["persist-credentials"] == "false"
    assert comment["permissions"] == {"pull-requests": "write"}
    assert "secrets." not in str(comment)
    assert not any("checkout" in step.get("uses", "") for step in comment["steps"])


def test_the_workflow_gives_the_action_what_it_asks_for() -> None:
    action = load(ACTION)
    given = next(
        step["with"] for step in load(WORKFLOW)["jobs"]["generate"]["steps"] if "devtasks" in step.get("id", "")
    )
    required = {name for name, each in action["inputs"].items() if each.get("required") == "true"}
    assert required <= set(given) <= set(action["inputs"])
