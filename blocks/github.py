"""The block that holds the token for GitHub."""

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, SecretStr

from devtasks.github import API_URL


class GitHubCredentials(Block):
    """The token and address of GitHub, for tasks that are delivered as pull requests.

    Attributes:
        token: The token; only the flow's process reads it.
        api_url: The address of GitHub's REST API.
    """

    _block_type_name = "devtasks GitHub Credentials"
    _block_type_slug = "devtasks-github-credentials"
    _description = "Token for draft pull requests. It stays in the flow's process; no agent ever sees it."
    _documentation_url = HttpUrl("https://docs.github.com/rest")

    token: SecretStr = Field(
        title="Token",
        description="A token that may read and write the repository's contents and pull requests: fine-grained, "
        "classic, or of a GitHub App's installation. Masked in the UI and in every log.",
        min_length=1,
    )
    api_url: str = Field(
        default=API_URL,
        title="API URL",
        description="Address of the REST API; that of GitHub Enterprise Server ends with /api/v3. Plain http only on "
        "this machine.",
        pattern=r"^(https://|http://(127\.0\.0\.1|localhost)[:/])",
    )
