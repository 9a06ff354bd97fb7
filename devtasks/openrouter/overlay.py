"""What is known of models beyond the catalogue, from data files: priors, incompatibilities, and models of one's own."""

import re
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from fnmatch import translate
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from devtasks.errors import InvalidInput
from devtasks.selection.capability import Endpoint, ModelCapability, ModelSpecialization
from devtasks.task import TaskCategory

Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Price = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Prices(_Strict):
    """USD per token."""

    prompt: Price
    completion: Price


class Facts(_Strict):
    """What may be said of a model; a key that is absent leaves what the catalogue or an earlier entry says."""

    success: Share | None = None
    quality: Share | None = None
    latency_seconds: Annotated[float, Field(gt=0)] | None = None
    specialization: ModelSpecialization | None = None
    categories: frozenset[TaskCategory] | None = None
    incompatible: Text | None = None
    context_length: Annotated[int, Field(ge=1)] | None = None
    tools: bool | None = None
    router: bool | None = None
    prices: Prices | None = None

    def onto(self, model: ModelCapability) -> ModelCapability:
        """Return the model with these facts in place of its own."""
        priors = {"success": self.success, "quality": self.quality, "latency_seconds": self.latency_seconds}
        changes: dict[str, Any] = {
            "priors": replace(model.priors, **_given(priors)),
            "specialization": self.specialization,
            "categories": self.categories,
            "incompatible": self.incompatible,
            "context_length": self.context_length,
            "supports_tools": self.tools,
            "is_router": self.router,
            "prompt_price": self.prices and self.prices.prompt,
            "completion_price": self.prices and self.prices.completion,
        }
        return replace(model, **_given(changes))


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


class Match(Facts):
    """Facts of every model whose id fits the glob pattern `match`."""

    match: Text


class ServedAt(_Strict):
    """The address of an OpenAI-compatible API, and the name of the credentials block that holds its key."""

    base_url: Annotated[str, Field(pattern=r"^https?://")]
    credentials: Text


class OwnModel(Facts):
    """A model no catalogue lists: private or fine-tuned, served at an address of its own.

    Its `context_length` has to be said; it has tool calls unless `tools` denies it; without `prices` they are unknown.
    """

    id: Text
    endpoint: ServedAt

    @model_validator(mode="after")
    def _context_is_said(self) -> Self:
        if self.context_length is None:
            raise ValueError("a key context_length, the tokens that fit into a conversation")
        return self

    def capability(self) -> ModelCapability:
        """Return the model as the selection sees it."""
        bare = ModelCapability(
            model_id=self.id,
            context_length=0,
            supports_tools=True,
            prompt_price=None,
            completion_price=None,
            endpoint=Endpoint(self.endpoint.base_url, self.endpoint.credentials),
        )
        return self.onto(bare)


class Overlay(_Strict):
    """The content of one file: facts by pattern, and models of one's own."""

    overlays: tuple[Match, ...] = ()
    models: tuple[OwnModel, ...] = ()

    @classmethod
    def load(cls, own: Path | None = None) -> Self:
        """Return the overlay that ships, followed by the user's; raise InvalidInput with file and place of an error."""
        shipped = cls._parse("overlay.yaml", (files(__package__ or "") / "overlay.yaml").read_text(encoding="utf-8"))
        if own is None:
            return shipped
        try:
            mine = cls._parse(str(own), own.expanduser().read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise InvalidInput("DEVTASKS_MODELS", str(own), f"a YAML file that can be read ({reason})") from None
        return cls(overlays=shipped.overlays + mine.overlays, models=shipped.models + mine.models)

    def apply(self, listed: Iterable[ModelCapability]) -> tuple[ModelCapability, ...]:
        """Return the catalogue's models and one's own with every fitting fact; one's own replace listed ones."""
        patterns = [(re.compile(translate(match.match)), match) for match in self.overlays]
        by_id = {model.model_id: model for model in listed}
        by_id |= {own.id: own.capability() for own in self.models}
        for model_id, model in by_id.items():
            for pattern, facts in patterns:
                if pattern.fullmatch(model_id):
                    model = facts.onto(model)  # noqa: PLW2901
            by_id[model_id] = model
        return tuple(by_id.values())

    @classmethod
    def _parse(cls, name: str, text: str) -> Self:
        try:
            return cls.model_validate(yaml.safe_load(text) or {})
        except yaml.YAMLError as error:
            raise InvalidInput("DEVTASKS_MODELS", name, f"YAML ({' '.join(str(error).split())})") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            field = f"{name}: {place}"
            if first["type"] == "extra_forbidden":
                known = Match if "overlays" in first["loc"] else OwnModel if "models" in first["loc"] else cls
                raise InvalidInput.unknown(field, first["loc"][-1], list(known.model_fields)) from None
            raise InvalidInput.worded(field, first["input"], first["msg"]) from None
