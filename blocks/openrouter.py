"""The block that holds the key to the models."""

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, SecretStr

from devtasks.config import OPENROUTER_URL


class OpenRouterCredentials(Block):
    """The key and address of OpenRouter, or of any service that speaks its API.

    Attributes:
        api_key: The API key; only the gateway in the flow's process reads it.
        base_url: The API's address, without the endpoint.
        requests_per_minute: The most calls in any minute, for all tasks together.
        requests_per_day: The most calls in a day of UTC, for all tasks together.
        max_cost_usd_per_day: The most that all tasks together may spend in a day of UTC.
    """

    _block_type_name = "OpenRouter Credentials"
    _block_type_slug = "openrouter-credentials"
    _description = "Key and address of OpenRouter. The key stays in the flow's gateway; no agent ever sees it."
    _documentation_url = HttpUrl("https://openrouter.ai/docs")

    api_key: SecretStr = Field(
        title="API key",
        description="Key of OpenRouter (sk-or-…). Masked in the UI and in every log.",
        min_length=1,
    )
    base_url: str = Field(
        default=OPENROUTER_URL,
        title="Base URL",
        description="Address of an OpenRouter-shaped API, such as a private model's or the simulator's.",
        pattern=r"^https?://",
    )
    requests_per_minute: int | None = Field(
        default=None,
        ge=1,
        title="Requests per minute",
        description="Of all tasks together. Empty: OpenRouter's own limit for free models (20), elsewhere none.",
    )
    requests_per_day: int | None = Field(
        default=None,
        ge=1,
        title="Requests per day (UTC)",
        description="Of all tasks together. Empty: what OpenRouter says of the account (50 or 1,000), elsewhere none.",
    )
    max_cost_usd_per_day: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        title="Max cost per day (USD)",
        description="Of all tasks together. Empty: no limit. With one, models of unknown price are refused.",
    )
