"""Blocks by their names, for those who were told a name."""

from blocks.github import GitHubCredentials
from blocks.openhands import OpenHandsRuntime
from blocks.openrouter import OpenRouterCredentials
from devtasks.errors import InvalidInput


async def load_block[B: (GitHubCredentials, OpenHandsRuntime, OpenRouterCredentials)](
    block: type[B], field: str, name: str
) -> B:
    """Return a block; raise InvalidInput for `field` where there is none of this name."""
    try:
        return await block.aload(name)  # pyright: ignore[reportReturnType]
    except ValueError:
        how = "in the UI" if block is GitHubCredentials else "in the UI, or with `devtasks setup`"
        allowed = f"the name of a {block.get_block_type_slug()} block (make one {how})"
        raise InvalidInput(field, name, allowed) from None
