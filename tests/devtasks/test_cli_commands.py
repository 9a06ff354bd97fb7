"""What holds for every command: help for each option, one message for a mistake, JSON, completion, a quick start."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path

import pytest
from cyclopts import App

from devtasks import cli


def words_of(app: App, *above: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command, those of groups of commands too."""
    for name in sorted(name for name in app if not name.startswith("-")):
        inner = list(words_of(app[name], *above, name))
        yield from inner or [(*above, name)]


COMMANDS = [pytest.param(words, id=" ".join(words)) for words in words_of(cli.app)]

NEEDS_SERVER: Mapping[str, tuple[str, ...]] = {
    "cancel": ("x",),
    "doctor": ("--offline",),
    "get-status": ("x",),
    "list": (),
    "queue-stats": (),
    "retry": ("x",),
    "review": (),
    "run-engine": (),
    "set-priority": ("x", "high"),
    "setup": (),
    "up": (),
    "watch": (),
}
"""Commands that ask a server, and the words that bring them so far."""

REQUIRED = {
    "select-model": ("--category", "analysis"),
    "submit-task": ("--category", "analysis", "--description", "x"),
}

READS_SETTINGS = ("demo", "doctor", "gc", "list", "metrics", "models", "queue-stats", "setup", "show", "up", "watch")


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEVTASKS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["devtasks", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code if isinstance(end.value.code, int) else 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained_and_json_is_one(command: tuple[str, ...]) -> None:
    arguments = reduce(App.__getitem__, command, cli.app).assemble_argument_collection()
    # What several options are fields of has no name of its own.
    assert not [each.name for each in arguments if each.name != "*" and not each.parameter.help]
    assert "--json" in {name for each in arguments for name in each.names}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_one_message_and_exit_code_2(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *command, *REQUIRED.get(command[0], ()), "--no-such-option") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "--no-such-option" in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("command", READS_SETTINGS)
def test_a_variable_that_cannot_be_read_is_named(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEVTASKS_QUEUE_MAX_SIZE", "plenty")
    words = (command, "x") if command == "show" else (command,)
    assert run(monkeypatch, *words) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.startswith("devtasks: DEVTASKS_QUEUE_MAX_SIZE: 'plenty'")) == ("", True), shown.err


@pytest.mark.parametrize("command", NEEDS_SERVER)
def test_a_server_that_is_away_is_exit_code_3(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from deployments.stack import Connection

    url = "http://127.0.0.1:9/api"
    monkeypatch.setenv("PREFECT_API_URL", url)
    with Connection(url, None).settings():
        assert run(monkeypatch, command, *NEEDS_SERVER[command]) == 3
    shown = capsys.readouterr()
    assert url in "".join((shown.out + shown.err).split())
    assert "Traceback" not in shown.err


def test_help_and_mistakes_load_no_prefect_openhands_or_pandas() -> None:
    code = """
import sys
from devtasks import cli
for command in [name for name in cli.app if not name.startswith("-")]:
    for words in ((command, "--help"), (command, "--no-such-option"), ("--help",)):
        sys.argv = ["devtasks", *words]
        try:
            cli.main()
        except SystemExit:
            pass
print(*[name for name in ("prefect", "openhands", "pandas", "sqlalchemy") if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr.splitlines()[-1] == ""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (("devtasks", "sub"), {"submit-spooled", "submit-task"}),
        (("devtasks", "set"), {"set-priority", "setup"}),
        (("devtasks", "list", "--priority", ""), {"critical", "high", "normal", "low"}),
        (("devtasks", "submit-task", "--category", "unit"), {"unit_test"}),
        (("devtasks", "doctor", "--off"), {"--offline"}),
    ],
    ids=" ".join,
)
def test_bash_completes_commands_options_and_values(typed: tuple[str, ...], offered: set[str], tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(cli.app.generate_completion(shell="bash"))
    asked = f'. {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _devtasks; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", asked, "bash", *typed], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == offered


def test_output_that_nobody_reads_is_no_traceback() -> None:
    code = """
import sys
from devtasks import cli
cli.app.command(lambda: print("x" * 100_000), name="long")
sys.argv = ["devtasks", "long"]
cli.main()
"""
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (141, "")
