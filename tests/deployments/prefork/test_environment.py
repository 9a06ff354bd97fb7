import pytest

from deployments.prefork.environment import is_secret, needs_new_process, of_server, shown, withheld


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENROUTER_API_KEY", "x"),
        ("GITHUB_TOKEN", "x"),
        ("DB_PASSWORD", "x"),
        ("PGPASSWORD", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/x"),
        ("sentry_dsn", "x"),
        ("PREFECT_SERVER_API_AUTH_STRING", "u:p"),
        ("SSH_AUTH_SOCK", "/x"),
        ("DATABASE_URL", "postgresql://user:hunter2@host/db"),
    ],
)
def test_what_looks_like_a_credential_is_a_secret(name: str, value: str) -> None:
    assert is_secret(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PATH", "/bin"),
        ("PWD", "/"),
        ("KEYBOARD", "us"),
        ("PATTERN", "x"),
        ("AUTHOR", "me"),
        ("HTTP_PROXY", "http://proxy:3128"),
        ("PREFECT_API_AUTH_STRING", "u:p"),
        ("DEVTASKS_DATABASE_URL", "postgresql://u:p@h/d"),
    ],
)
def test_other_variables_and_what_runs_need_of_ours_are_not(name: str, value: str) -> None:
    assert not is_secret(name, value)


def test_a_secret_that_the_job_names_is_not_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "1")
    monkeypatch.setenv("B_TOKEN", "2")
    found = withheld(["B_TOKEN"])
    assert found["A_TOKEN"] is None
    assert not {"B_TOKEN", "PATH"} & set(found)


def test_what_a_job_gets_that_gives_nothing_is_the_environment_and_the_settings_without_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("A_TOKEN", "1")
    monkeypatch.setenv("PLAIN", "2")
    found = shown({"PREFECT_API_AUTH_STRING": "u:p"})
    assert (found["PLAIN"], found["PREFECT_API_AUTH_STRING"]) == ("2", "u:p")
    assert "A_TOKEN" not in found


def test_the_server_inherits_only_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENROUTER_API_KEY", "PREFECT_API_AUTH_STRING", "DEVTASKS_DATABASE_URL", "PYTHON_TOKEN", "OTHER"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("PREFECT_HOME", "/home")
    assert "x" not in of_server().values()
    assert of_server()["PREFECT_HOME"] == "/home"


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"LANG": "C", "PYTHONUTF8": "1"}, None),
        ({"LANG": "C", "PYTHONUTF8": "1", "PYTHONPATH": "/x", "ANY": "thing"}, None),
        ({"LANG": "C", "PYTHONUTF8": "1", "LD_PRELOAD": "x.so"}, "LD_PRELOAD"),
        ({"LANG": "de", "PYTHONUTF8": "1"}, "LANG"),
        ({"LANG": "C"}, "PYTHONUTF8"),
    ],
    ids=["same", "forkable", "added", "changed", "removed"],
)
def test_a_variable_that_takes_effect_at_the_start_needs_a_new_process(
    environment: dict[str, str | None], found: str | None
) -> None:
    assert needs_new_process(environment, {"LANG": "C", "PYTHONUTF8": "1"}) == found
