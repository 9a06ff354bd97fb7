"""The block that holds the key to the models."""

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, SecretStr

from devtasks.config import OPENROUTER_URL


class OpenRouterCredentials(Block):
    """The key and address of OpenRouter, or of any service that speaks its API.

    Attributes:
        api_key: The API key; only the gateway in the flow's process reads it.
        base_url: The API's address, without the endpoint.
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
