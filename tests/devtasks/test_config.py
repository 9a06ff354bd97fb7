import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from devtasks.config import OPENROUTER_URL, OpenHandsConfig
from devtasks.errors import InvalidInput

VARIABLES: dict[str, tuple[str, str, Any]] = {
    "OPENROUTER_API_KEY": ("api_key", "a-key", "a-key"),
    "OPENHANDS_MODEL": ("model", "acme/coder:free", "acme/coder:free"),
    "OPENHANDS_BASE_URL": ("base_url", "http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1"),
    "OPENHANDS_WORKSPACE_ROOT": ("workspace_root", "/srv/runs", Path("/srv/runs")),
    "OPENHANDS_TIMEOUT": ("timeout", "60.5", 60.5),
    "OPENHANDS_ENABLE_CIRCUIT_BREAKER": ("enable_circuit_breaker", "false", False),
    "OPENHANDS_USE_DOCKER_RUNTIME": ("use_docker_runtime", "true", True),
    "DEVTASKS_DATABASE_URL": ("database_url", "postgresql://host/name", "postgresql://host/name"),
    "DEVTASKS_MODELS": ("models_file", "/etc/models.yaml", Path("/etc/models.yaml")),
    "DEVTASKS_HOME": ("home", "/srv/devtasks", Path("/srv/devtasks")),
    "DEVTASKS_AGENT_SERVER": ("agent_server", "/run/agents", Path("/run/agents")),
    "DEVTASKS_KEEP_RUNS_DAYS": ("keep_runs_days", "7", 7.0),
    "DEVTASKS_KEEP_RUNS_GB": ("keep_runs_gb", "0.5", 0.5),
    "DEVTASKS_KEEP_CACHES_DAYS": ("keep_caches_days", "0", 0.0),
    "DEVTASKS_KEEP_CACHES_GB": ("keep_caches_gb", "3", 3.0),
    "DEVTASKS_QUEUE_MAX_SIZE": ("queue_max_size", "20", 20),
    "DEVTASKS_LIFT_AFTER_HOURS": ("lift_after_hours", "0.5", 0.5),
    "DEVTASKS_NOTIFY_URL": ("notify_url", "https://hooks.test/abc", "https://hooks.test/abc"),
    "DEVTASKS_NOTIFY_BLOCK": ("notify_block", "slack-webhook/team", "slack-webhook/team"),
    "PREFECT_API_URL": ("prefect_api_url", "http://host:4200/api", "http://host:4200/api"),
}
DEFAULTS: dict[str, Any] = {
    "base_url": OPENROUTER_URL,
    "enable_circuit_breaker": True,
    "home": Path(".devtasks"),
    "keep_runs_days": 30.0,
    "keep_runs_gb": 10.0,
    "keep_caches_days": 30.0,
    "keep_caches_gb": 20.0,
    "queue_max_size": 1_000,
    "lift_after_hours": 24.0,
    "use_docker_runtime": False,
}


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OPENROUTER_", "OPENHANDS_", "DEVTASKS_", "PREFECT_")):
            monkeypatch.delenv(name)


def read(field: str) -> Any:
    value = getattr(OpenHandsConfig.from_env(), field)
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def test_every_setting_has_its_variable_in_the_table_above() -> None:
    assert {field.alias for field in OpenHandsConfig.model_fields.values()} == set(VARIABLES)


@pytest.mark.parametrize("name", VARIABLES)
def test_each_documented_variable_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    field, text, value = VARIABLES[name]
    monkeypatch.setenv(name, text)
    assert read(field) == value


@pytest.mark.parametrize("name", VARIABLES)
def test_an_empty_variable_is_one_that_is_not_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    field, *_ = VARIABLES[name]
    assert read(field) == DEFAULTS.get(field)


@pytest.mark.parametrize("field", [field for name, (field, *_) in VARIABLES.items() if name != field.upper()])
def test_a_variable_that_only_bears_a_setting_s_name_is_not_read(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (field, field.upper()):
        monkeypatch.setenv(name, "77")
    assert read(field) == DEFAULTS.get(field)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        pytest.param("OPENHANDS_TIMEOUT", "0", "greater than 0", id="timeout-zero"),
        pytest.param("OPENHANDS_TIMEOUT", "soon", "a valid number", id="timeout-text"),
        pytest.param("OPENHANDS_TIMEOUT", "86401", "less than or equal to 86400", id="timeout-above-a-day"),
        pytest.param("DEVTASKS_KEEP_RUNS_DAYS", "-1", "greater than or equal to 0", id="days-below-zero"),
        pytest.param("OPENHANDS_BASE_URL", "openrouter.ai", "text that matches", id="url-without-scheme"),
        pytest.param("OPENHANDS_BASE_URL", "file:///etc", "text that matches", id="url-of-a-file"),
        pytest.param("DEVTASKS_NOTIFY_BLOCK", "team", "text that matches", id="block-without-type"),
    ],
)
def test_a_bad_variable_is_refused_by_its_name(
    name: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput) as refused:
        OpenHandsConfig.from_env()
    assert (refused.value.field, refused.value.value) == (name, value)
    assert refused.value.allowed.startswith(allowed)


@pytest.mark.parametrize("value", ["hooks.test/secret", "ftp://hooks.test/secret", "https:///secret"])
def test_an_address_for_notices_that_is_none_is_refused_and_not_shown(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVTASKS_NOTIFY_URL", value)
    with pytest.raises(InvalidInput, match=r"DEVTASKS_NOTIFY_URL: .* expected an address that begins with") as refused:
        OpenHandsConfig.from_env()
    assert "secret" not in str(refused.value)


def test_the_key_is_masked_wherever_the_settings_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "a-key-to-hide")
    config = OpenHandsConfig.from_env()
    shown = f"{config} {config!r} {config.model_dump()} {config.model_dump_json()}"
    assert "a-key-to-hide" not in shown


def test_folders_and_ledger_lie_under_the_home_unless_they_are_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEVTASKS_HOME", str(tmp_path))
    config = OpenHandsConfig.from_env()
    assert (config.runs_folder, config.ledger_url) == (tmp_path / "runs", f"sqlite:///{tmp_path}/ledger.db")
    monkeypatch.setenv("OPENHANDS_WORKSPACE_ROOT", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("DEVTASKS_DATABASE_URL", "postgresql://host/name")
    config = OpenHandsConfig.from_env()
    assert (config.runs_folder, config.ledger_url) == (tmp_path / "elsewhere", "postgresql://host/name")


def test_a_tilde_is_the_user_s_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OPENHANDS_WORKSPACE_ROOT", "~/runs")
    assert OpenHandsConfig.from_env().runs_folder == tmp_path / "runs"
