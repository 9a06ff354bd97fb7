"""Settings from the environment, read here and nowhere else."""

import os
import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from devtasks.errors import InvalidInput

AGENT_SERVER = "DEVTASKS_AGENT_SERVER"
"""The variable with the address of a preloaded server for agents; a worker that has one sets it for its runs."""

NOTIFY_URL = "DEVTASKS_NOTIFY_URL"
"""The variable with the address that notices are posted to; who knows it can post there too, so it is a secret."""

OPENROUTER_URL = "https://openrouter.ai/api/v1"

STACK, DEMO = "stack", "demo"
"""The folders below DEVTASKS_HOME of the stack that `devtasks up` keeps, and of the demo's."""

_SECRET_NAME = re.compile(r"SECRET|PASSWORD|PASSWD|PASSPHRASE|(?:^|_)(?:API_?KEY|KEY|TOKEN|PWD|AUTH_STRING|DSN)$", re.I)


def environment_secrets() -> dict[str, str]:
    """Return the values of the variables whose names look like a secret's; PWD and OLDPWD are folders."""
    folders = {"PWD", "OLDPWD"}
    return {name: text for name, text in os.environ.items() if name not in folders and _SECRET_NAME.search(name)}


class OpenHandsConfig(BaseSettings):
    """What the environment says; every field has the variable of its alias and a default that works without it."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    api_key: Annotated[SecretStr | None, Field(alias="OPENROUTER_API_KEY")] = None
    model: Annotated[str | None, Field(alias="OPENHANDS_MODEL")] = None
    base_url: Annotated[str, Field(alias="OPENHANDS_BASE_URL", pattern=r"^https?://")] = OPENROUTER_URL
    workspace_root: Annotated[Path | None, Field(alias="OPENHANDS_WORKSPACE_ROOT")] = None
    timeout: Annotated[float | None, Field(alias="OPENHANDS_TIMEOUT", gt=0, le=86_400)] = None
    enable_circuit_breaker: Annotated[bool, Field(alias="OPENHANDS_ENABLE_CIRCUIT_BREAKER")] = True
    use_docker_runtime: Annotated[bool, Field(alias="OPENHANDS_USE_DOCKER_RUNTIME")] = False
    database_url: Annotated[str | None, Field(alias="DEVTASKS_DATABASE_URL")] = None
    models_file: Annotated[Path | None, Field(alias="DEVTASKS_MODELS")] = None
    home: Annotated[Path, Field(alias="DEVTASKS_HOME")] = Path(".devtasks")
    keep_runs_days: Annotated[float, Field(alias="DEVTASKS_KEEP_RUNS_DAYS", ge=0, le=36_500)] = 30.0
    keep_runs_gb: Annotated[float, Field(alias="DEVTASKS_KEEP_RUNS_GB", ge=0, le=1e6)] = 10.0
    keep_caches_days: Annotated[float, Field(alias="DEVTASKS_KEEP_CACHES_DAYS", ge=0, le=36_500)] = 30.0
    keep_caches_gb: Annotated[float, Field(alias="DEVTASKS_KEEP_CACHES_GB", ge=0, le=1e6)] = 20.0
    queue_max_size: Annotated[int, Field(alias="DEVTASKS_QUEUE_MAX_SIZE", ge=1, le=1_000_000)] = 1_000
    lift_after_hours: Annotated[float, Field(alias="DEVTASKS_LIFT_AFTER_HOURS", gt=0, le=8_784)] = 24.0
    notify_url: Annotated[SecretStr | None, Field(alias=NOTIFY_URL)] = None
    notify_block: Annotated[str | None, Field(alias="DEVTASKS_NOTIFY_BLOCK", pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")] = None
    agent_server: Annotated[Path | None, Field(alias=AGENT_SERVER)] = None
    prefect_api_url: Annotated[str | None, Field(alias="PREFECT_API_URL")] = None

    @classmethod
    def from_env(cls) -> Self:
        """Return the settings; raise InvalidInput naming the first variable that is not allowed."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = str(first["loc"][0])
            shown = "(not shown)" if name == NOTIFY_URL else first["input"]
            raise InvalidInput.worded(name, shown, first["msg"]) from None

    @field_validator("notify_url")
    @classmethod
    def _is_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not re.match(r"https?://[^/\s]+", value.get_secret_value()):
            raise ValueError("an address that begins with http:// or https://")
        return value

    def places(self) -> "list[OpenHandsConfig]":
        """Return the settings of each place that keeps runs: the home's own, that of the stack and the demo's."""
        homes = (self.home, self.home / STACK, self.home / DEMO)
        return [self.model_copy(update={"home": home}) for home in homes if home.expanduser().is_dir()]

    def make_home(self) -> None:
        """Make the folder DEVTASKS_HOME where it is missing, as one that git does not see in whose checkout it lies."""
        home = self.home.expanduser()
        if not home.is_dir():
            home.mkdir(parents=True)
            (home / ".gitignore").write_text("*\n")

    @property
    def runs_folder(self) -> Path:
        """Where the runs keep their folders: OPENHANDS_WORKSPACE_ROOT, or `runs` under DEVTASKS_HOME."""
        return (self.workspace_root or self.home / "runs").expanduser().resolve()

    @property
    def repositories_folder(self) -> Path:
        """Where clones of repositories given by URL are kept and shared: `repositories` under DEVTASKS_HOME."""
        return self.home.expanduser().resolve() / "repositories"

    @property
    def environments_folder(self) -> Path:
        """Where the environments of projects are kept and shared: `environments` under DEVTASKS_HOME."""
        return self.home.expanduser().resolve() / "environments"

    @property
    def ledger_url(self) -> str:
        """The ledger's database: DEVTASKS_DATABASE_URL, or a SQLite file under DEVTASKS_HOME."""
        return self.database_url or f"sqlite:///{self.home.expanduser().resolve()}/ledger.db"
