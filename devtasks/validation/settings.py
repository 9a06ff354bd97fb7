"""What a project asks of its changes: `[tool.devtasks.validation]` in its pyproject.toml, at the commit before."""

import json
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from devtasks.errors import InvalidInput
from devtasks.validation.reports import read_bounded

TABLE = "[tool.devtasks.validation]"
PLACE = "pyproject.toml"
MAX_BYTES = 1024 * 1024

Part = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class ValidationSettings:
    """Thresholds of the rules; what each is compared with is said in docs/validation.md.

    Attributes:
        coverage_rise: the least rise of the target's coverage, as a part of its lines and branches; 0 is any rise.
        kill_rate: the part of the mistakes that new tests have to notice.
        mutants: how many mistakes are tried.
        stable_runs: how often new tests run again, each time in another order.
        max_files: how many files a change may touch.
        max_file_kib: how large a written file may be.
        public_api: whether names and signatures have to stay in a refactoring.
    """

    coverage_rise: Part = 0
    kill_rate: Part = 0.3
    mutants: Annotated[int, Field(ge=1, le=200)] = 24
    stable_runs: Annotated[int, Field(ge=1, le=10)] = 2
    max_files: Annotated[int, Field(ge=1, le=1_000)] = 50
    max_file_kib: Annotated[int, Field(ge=1, le=1_024)] = 256
    public_api: bool = True

    @classmethod
    def read(cls, workspace: Path) -> Self:
        """Return the settings of an untouched project, the defaults where it names none.

        Raises InvalidInput for a name or a value that is not allowed; a file that is no TOML names none.
        """
        try:
            content = tomllib.loads((read_bounded(workspace / PLACE, MAX_BYTES) or b"").decode())
            table = content["tool"]["devtasks"]["validation"]
        except (ValueError, KeyError, TypeError):
            return cls()
        try:
            return TypeAdapter(cls).validate_json(json.dumps(table, default=str))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            if first["type"] == "unexpected_keyword_argument":
                raise InvalidInput.unknown(f"{PLACE} {TABLE}", name, [field.name for field in fields(cls)]) from None
            raise InvalidInput.worded(f"{PLACE} {TABLE} {name}".strip(), first["input"], first["msg"]) from None
