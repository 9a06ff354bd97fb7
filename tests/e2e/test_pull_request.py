"""A task that is delivered as a draft pull request, through the whole picture, on a GitHub on loopback."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx
from github_server import NAME, TOKEN, GitHubServer, github_in_background, make_block, problem
from harness import Up, git, simulating
from small_task import CALLS, TARGET, small_repository, small_scenario

from deployments.postgres import PROGRAMS
from devtasks.github import TRIES


def submit(up: Up, *words: str) -> subprocess.CompletedProcess[str]:
    task = ("--category", "unit_test", "--target-file", TARGET, "--description", "Test it.", "--environment", "none")
    options = (*task, "--delivery", "pull_request", *words, "--wait", "--json")
    return up.run("devtasks", "submit-task", *options, timeout=900)


def leaks(up: Up, *folders: Path) -> list[str]:
    """Return the files and databases in which the token can be read."""
    secret = re.compile(re.escape(TOKEN).encode())
    data = (Path((up.stack / "postgres/data/postmaster.pid").read_text().splitlines()[4]), "postgres")
    dump = [PROGRAMS / "pg_dump", "-h", data[0], "-U", data[1], "--inserts"]
    found = [
        name
        for name in ("prefect", "devtasks")
        if secret.search(subprocess.run([*dump, name], capture_output=True, check=True).stdout)
    ]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return found + [str(path) for path in files if secret.search(path.read_bytes())]


def test_a_result_becomes_a_draft_pull_request_once_github_is_well_or_lies_on_its_branch_when_it_refuses(
    up: Up, tmp_path: Path
) -> None:
    repository = small_repository(tmp_path)
    there = ("--repository", str(repository), "--github", "acme")
    with github_in_background(tmp_path, repository) as server, simulating(up, small_scenario(tmp_path)) as simulator:
        unknown = submit(up, *there, "--credentials", simulator.block)
        assert (unknown.returncode, "github: 'acme' is not allowed" in unknown.stderr) == (2, True), unknown.stderr
        make_block(up, server, "acme")
        server.refused = [httpx.Response(503)] * TRIES
        accepted = submit(up, *there, "--credentials", simulator.block)
        assert accepted.returncode == 0, accepted.stdout + accepted.stderr
        check_accepted(json.loads(accepted.stdout), server, repository)
        calls = len(simulator.requests())
        assert calls == CALLS, "the result was kept while GitHub was in trouble"
        server.push = False
        refused = submit(up, *there, "--credentials", simulator.block, "--force")
        assert json.loads(refused.stdout)["state"] == "Failed"
        assert "may not be written by the owner of the token" in json.loads(refused.stdout)["reason"]
        assert len(simulator.requests()) == calls, "not one call to a model was made"
        server.push, server.refused = True, [problem(403, "Resource not accessible by personal access token")]
        undelivered = submit(up, *there, "--credentials", simulator.block, "--force")
        assert undelivered.returncode == 1, undelivered.stdout + undelivered.stderr
        check_undelivered(json.loads(undelivered.stdout), server, repository)
    assert leaks(up, up.folder, tmp_path) == []


def check_accepted(report: dict[str, Any], server: GitHubServer, repository: Path) -> None:
    assert (report["state"], report["pull_request"]) == ("Accepted", f"{server.origin}/{NAME}/pull/1")
    assert server.posted() == TRIES + 1
    (pull,) = server.pulls
    assert (pull["draft"], pull["title"]) == (True, f"unit_test {TARGET} (simulated)")
    assert (pull["head"]["ref"], pull["base"]["ref"]) == (report["branch"], "main")
    assert "**Accepted (simulated)**" in pull["body"]
    assert git(server.bare, "rev-parse", report["branch"]) == report["commit"]
    assert git(repository, "config", "--get-all", "remote.origin.url") == server.remote


def check_undelivered(report: dict[str, Any], server: GitHubServer, repository: Path) -> None:
    assert (report["state"], report["outcome"], report["pull_request"]) == ("Undelivered", "undelivered", None)
    assert "the pull request is missing, the result is on its branch" in report["reason"]
    assert "Resource not accessible" in report["reason"]
    assert git(repository, "rev-parse", report["branch"]) == report["commit"]
    assert Path(report["diff_path"]).is_file()
    assert report["attempts"][-1]["outcome"] == "accepted"
    assert len(server.pulls) == 1
