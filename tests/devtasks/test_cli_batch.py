"""The commands about batches as far as they need no server."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import make_attempt
from harness import commit_files

from devtasks import cli
from devtasks.ledger import Ledger

type Command = Callable[..., tuple[int, str, str]]

SOURCE = '"""A."""\n\n\ndef one():\n    return 1\n'


@pytest.fixture
def devtasks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.setenv("DEVTASKS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["devtasks", "batch", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        return int(str(end.value.code)), printed.out, printed.err

    return run


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    names = ("a", "b", "c")
    commit_files(tmp_path / "shop", {f"src/{name}.py": SOURCE for name in names})
    defaults = {"category": "unit_test", "repository": "shop"}
    tasks = [{"target_file": f"src/{name}.py", "description": f"Test {name}."} for name in names]
    (tmp_path / "night.json").write_text(json.dumps({"defaults": defaults, "tasks": tasks}))
    return tmp_path / "night.json"


def test_dry_run_shows_the_selected_tasks_and_no_forecast_without_history(devtasks: Command, manifest: Path) -> None:
    code, printed, _ = devtasks("submit", manifest, "--dry-run", "--slice", "1:")
    assert code == 0
    assert [line.split()[2] for line in printed.splitlines()[1:3]] == ["src/b.py", "src/c.py"]
    assert (
        "2 tasks; nothing was submitted. Calls: not known yet. Quota: not known yet. Money: not known yet." in printed
    )


def test_dry_run_forecasts_from_the_ledger(devtasks: Command, manifest: Path, tmp_path: Path) -> None:
    async def record() -> None:
        async with Ledger.open(f"sqlite:///{tmp_path}/home/ledger.db") as ledger:
            await ledger.record_attempt(make_attempt(llm_calls=4, cost_usd=0.5, seconds=60))

    asyncio.run(record())
    code, printed, _ = devtasks("submit", manifest, "--dry-run", "--json", "--filter", "src/[ab].py")
    told = json.loads(printed)
    assert code == 0
    assert (told["name"], [task["target_file"] for task in told["tasks"]]) == ("night", ["src/a.py", "src/b.py"])
    forecast = told["forecast"]
    assert (forecast["llm_calls"], forecast["cost_usd"], forecast["seconds"]) == (8, 1.0, 120)
    assert (forecast["quota_share"], forecast["known"]) == (None, {"unit_test": 1})


def test_rule_finds_the_tasks_instead_of_a_manifest(devtasks: Command, manifest: Path) -> None:
    words = ("--discover", "undocumented", "--repository", manifest.parent / "shop", "--dry-run", "--json")
    code, printed, _ = devtasks("submit", *words, "--limit", "2")
    told = json.loads(printed)
    assert (code, told["name"]) == (0, "undocumented shop")
    assert [(task["category"], task["target_file"]) for task in told["tasks"]] == [
        ("documentation", "src/a.py"),
        ("documentation", "src/b.py"),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("submit",), "a manifest, or --discover with a rule"),
        (("submit", "MANIFEST", "--discover", "complex"), "a manifest, or --discover with a rule"),
        (("submit", "MANIFEST", "--slice", "3"), "--slice: '3' is not allowed"),
        (("submit", "MANIFEST", "--limit", "0"), "--limit: 0 is not allowed"),
        (("submit", "MANIFEST", "--filter", "no/*"), "something to do"),
        (("submit", "MANIFEST", "--max-hours", "0"), "max_hours: 0.0 is not allowed"),
        (("submit", "nowhere.yaml"), "No such file"),
        (("submit", "--discover", "beauty"), "uncovered"),
        (("retry", "b", "--failed", "stuck,lazy"), "--failed: 'lazy' is not allowed; expected one of rejected, stuck,"),
        (("list", "--limit", "0"), "--limit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistake_is_told_and_exits_with_2(
    devtasks: Command, manifest: Path, words: tuple[str, ...], message: str
) -> None:
    code, printed, said = devtasks(*(manifest if word == "MANIFEST" else word for word in words))
    assert code == 2
    assert message in printed + said


def test_files_that_are_not_there_are_all_told_and_nothing_is_submitted(devtasks: Command, manifest: Path) -> None:
    tasks = json.loads(manifest.read_text())
    for each in tasks["tasks"][:2]:
        each["target_file"] = f"src/no-{each['target_file'][4:]}"
    manifest.write_text(json.dumps(tasks))
    code, printed, said = devtasks("submit", manifest)
    assert (code, printed) == (2, "")
    assert said.count("target_file: 'src/no-") == 2


def test_server_that_is_not_there_exits_with_3(devtasks: Command, manifest: Path) -> None:
    assert devtasks("submit", manifest)[0] == 3
    assert devtasks("list")[0] == 3
