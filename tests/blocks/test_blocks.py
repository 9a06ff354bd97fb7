from typing import Any

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import SecretStr, ValidationError

import blocks
from blocks import GitHubCredentials, OpenHandsRuntime, OpenRouterCredentials

KEY = "a-key-to-hide"


class TestPrefectsStandard(BlockStandardTestSuite):
    @pytest.fixture(params=[GitHubCredentials, OpenHandsRuntime, OpenRouterCredentials])
    def block(self, request: pytest.FixtureRequest) -> type[Block]:
        return request.param

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        """Instead of Prefect's own, which fetches the logo over the network: ours have none."""
        assert block._logo_url is None


def test_every_block_is_exported_where_prefect_looks_for_it() -> None:
    found = {value for value in vars(blocks).values() if isinstance(value, type) and issubclass(value, Block)}
    assert found == {GitHubCredentials, OpenHandsRuntime, OpenRouterCredentials}


def test_the_key_is_masked_wherever_the_block_is_shown() -> None:
    block = OpenRouterCredentials(api_key=SecretStr(KEY))
    shown = f"{block} {block!r} {block.model_dump()} {block.model_dump_json()}"
    assert KEY not in shown
    assert "****" in shown
    assert block.api_key.get_secret_value() == KEY


def test_prefect_knows_which_field_is_secret() -> None:
    """By this the server encrypts it and the UI shows asterisks."""
    assert OpenRouterCredentials.model_json_schema()["secret_fields"] == ["api_key"]
    assert OpenHandsRuntime.model_json_schema()["secret_fields"] == []
    assert GitHubCredentials.model_json_schema()["secret_fields"] == ["token"]


@pytest.mark.parametrize(
    ("block", "values"),
    [
        pytest.param(OpenRouterCredentials, {"api_key": ""}, id="empty-key"),
        pytest.param(OpenRouterCredentials, {"api_key": KEY, "base_url": "openrouter.ai"}, id="address-without-scheme"),
        pytest.param(OpenRouterCredentials, {}, id="no-key"),
        pytest.param(GitHubCredentials, {"token": ""}, id="empty-token"),
        pytest.param(GitHubCredentials, {"token": KEY, "api_url": "http://ghe.example.com/api"}, id="token-in-clear"),
        pytest.param(OpenHandsRuntime, {"runtime": "cloud"}, id="unknown-runtime"),
        pytest.param(OpenHandsRuntime, {"max_seconds": 0}, id="no-time"),
        pytest.param(OpenHandsRuntime, {"max_llm_calls": 0}, id="no-calls"),
        pytest.param(OpenHandsRuntime, {"max_output_tokens": 100}, id="too-few-tokens"),
        pytest.param(OpenHandsRuntime, {"author_name": ""}, id="no-author"),
    ],
)
def test_a_bad_value_is_refused_where_it_is_entered(block: type[Block], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        block(**values)
    assert KEY not in str(refused.value)
