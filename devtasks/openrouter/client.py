"""A small client of OpenRouter's read-only endpoints."""

from decimal import Decimal, InvalidOperation
from typing import Any, Self, cast

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from devtasks.errors import ServiceUnreachable

SIMULATED_HEADER = "X-Devtasks-Simulated"
"""The header by which a simulator says so on each of its answers."""


def attribution() -> dict[str, str]:
    """Return the headers by which OpenRouter attributes calls to an application."""
    return {"X-OpenRouter-Title": "devtasks", "X-Title": "devtasks"}


class Pricing(BaseModel):
    """USD per token; None where the catalogue says nothing usable; `varies` where it says -1, as routers do."""

    model_config = ConfigDict(frozen=True)

    prompt: Decimal | None = None
    completion: Decimal | None = None
    varies: bool = False

    @field_validator("prompt", "completion", mode="before")
    @classmethod
    def _finite(cls, value: Any) -> Decimal | None:
        try:
            price = Decimal(str(value))
        except InvalidOperation:
            return None
        return price if price.is_finite() else None

    @model_validator(mode="after")
    def _negative_is_no_price(self) -> Self:
        prices = (self.prompt, self.completion)
        if not any(price is not None and price < 0 for price in prices):
            return self
        return self.model_construct(prompt=None, completion=None, varies=True)


class Architecture(BaseModel):
    """What goes in and comes out of a model."""

    model_config = ConfigDict(frozen=True)

    output_modalities: tuple[str, ...] = ("text",)


class ListedModel(BaseModel):
    """One entry of `GET /models`, as far as the selection needs it; unknown fields are ignored."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str = ""
    context_length: int | None = None
    pricing: Pricing = Pricing()
    architecture: Architecture = Architecture()
    supported_parameters: tuple[str, ...] = ()
    expiration_date: str | None = None


class ModelList(BaseModel):
    """The answer of `GET /models`, and as `document` its text; `simulated` when a simulator gave it.

    An entry that cannot be read is left out, so that one odd model does not hide all others.
    """

    model_config = ConfigDict(frozen=True)

    data: tuple[ListedModel, ...] = Field(min_length=1)
    simulated: bool = False
    document: str = Field(default="", repr=False)

    @field_validator("data", mode="before")
    @classmethod
    def _readable(cls, entries: Any) -> Any:
        if not isinstance(entries, list):
            return entries
        return tuple(model for entry in cast("list[object]", entries) if (model := _read_entry(entry)))


def _read_entry(entry: object) -> ListedModel | None:
    try:
        return ListedModel.model_validate(entry)
    except ValidationError:
        return None


async def list_models(
    base_url: str,
    key: SecretStr | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    first_wait: float = 0.2,
) -> ModelList:
    """Return the models a service offers; raise ServiceUnreachable after three tries or on an unreadable answer."""
    headers = attribution() | ({"Authorization": f"Bearer {key.get_secret_value()}"} if key else {})
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(httpx.HTTPError),
        stop=stop_after_attempt(3),
        wait=wait_exponential_jitter(initial=first_wait, max=2, jitter=first_wait),
        reraise=True,
    )
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=20, transport=transport) as client:

        async def get() -> httpx.Response:
            return (await client.get("/models")).raise_for_status()

        try:
            response: httpx.Response = await retrying(get)
            models = ModelList.model_validate_json(response.content)
        except (httpx.HTTPError, ValidationError, ValueError) as error:
            reason = f"{type(error).__name__} on /models"
            raise ServiceUnreachable("the model catalogue", base_url, reason) from error
    return models.model_copy(update={"simulated": SIMULATED_HEADER in response.headers, "document": response.text})
