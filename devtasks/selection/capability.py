"""What is known of a model before it works on anything: the catalogue's facts and the overlay's priors."""

import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from functools import cached_property

from devtasks.openrouter.client import ListedModel, Pricing
from devtasks.task import TaskCategory

CALLS = 20
"""Calls of one attempt that an estimate assumes: the middle of the 10-30 an agent's run makes."""

PROMPT_TOKENS, COMPLETION_TOKENS = 70_000, 5_000
"""Tokens of one attempt that an estimate assumes: 50-100 thousand were seen for a task of unit tests; that an agent
reads fourteen times what it writes is a guess, which observed costs soon replace."""


class ModelSpecialization(StrEnum):
    """What a model was made for, as its overlay or else its name tells."""

    CODE = "code"
    GENERAL = "general"


@dataclass(frozen=True)
class Endpoint:
    """Where a private model is served: the API's address, and the name of the credentials block with its key."""

    base_url: str
    credentials: str


@dataclass(frozen=True)
class Priors:
    """What is believed of a model before its first attempt; success and quality from 0 to 1, latency of one call."""

    success: float | None = None
    quality: float | None = None
    latency_seconds: float | None = None


@dataclass(frozen=True)
class ModelCapability:
    """What the catalogue and the overlays say of a model; prices in USD per token, None when unknown.

    `is_router` marks an id behind which the model changes from call to call; `incompatible` is why a model is known
    not to work; `categories` are the only ones it is kept for, None for all.
    """

    model_id: str
    context_length: int
    supports_tools: bool
    prompt_price: Decimal | None
    completion_price: Decimal | None
    specialization: ModelSpecialization = ModelSpecialization.GENERAL
    writes_text: bool = True
    is_router: bool = False
    expires: date | None = None
    priors: Priors = Priors()
    categories: frozenset[TaskCategory] | None = None
    incompatible: str | None = None
    endpoint: Endpoint | None = None

    @cached_property
    def free(self) -> bool:
        """Whether both prices are zero, whatever its name says."""
        return self.prompt_price == 0 and self.completion_price == 0

    @cached_property
    def pricing(self) -> Pricing:
        """The prices as a call's cost is reckoned from them."""
        return Pricing(prompt=self.prompt_price, completion=self.completion_price)

    @cached_property
    def price_known(self) -> bool:
        """Whether both prices are known."""
        return self.prompt_price is not None and self.completion_price is not None

    @cached_property
    def attempt_cost(self) -> float | None:
        """The estimated cost of one attempt in USD, None when a price is unknown."""
        if self.prompt_price is None or self.completion_price is None:
            return None
        return float(self.prompt_price * PROMPT_TOKENS + self.completion_price * COMPLETION_TOKENS)

    @cached_property
    def attempt_seconds(self) -> float | None:
        """The estimated time of one attempt in seconds, from the prior latency of one call; None when unknown."""
        latency = self.priors.latency_seconds
        return None if latency is None else latency * CALLS

    @classmethod
    def of(cls, model: ListedModel) -> "ModelCapability":
        """Return the capability of a catalogue's entry, without any overlay."""
        is_code = re.search(r"cod(e|er|ing)|devstral|laguna", f"{model.id} {model.name}", re.IGNORECASE)
        return cls(
            model_id=model.id,
            context_length=model.context_length or 0,
            supports_tools="tools" in model.supported_parameters,
            prompt_price=model.pricing.prompt,
            completion_price=model.pricing.completion,
            specialization=ModelSpecialization.CODE if is_code else ModelSpecialization.GENERAL,
            writes_text="text" in model.architecture.output_modalities,
            is_router=model.pricing.varies,
            expires=_date(model.expiration_date),
        )


def _date(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        return None
