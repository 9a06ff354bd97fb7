"""The base of everything a scenario file may hold."""

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    """A part of the scenario file; an unknown key is refused with the list of the known ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> object:
        if isinstance(data, Mapping):
            for key in cast("Mapping[object, object]", data):
                if key not in cls.model_fields:
                    known = ", ".join(cls.model_fields)
                    raise PydanticCustomError("unknown_key", "one of the keys {known}", {"key": key, "known": known})
        return cast("object", data)
