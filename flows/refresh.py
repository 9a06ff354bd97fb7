"""The refresh of what is known of the service: the account's quota and the models it lists. No model is called."""

from datetime import UTC, datetime
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import acreate_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from blocks import OpenRouterCredentials
from devtasks.config import OpenHandsConfig
from devtasks.errors import DevtasksError
from devtasks.ledger import Ledger
from devtasks.openrouter.account import Account
from devtasks.openrouter.catalogue import Catalogue, fetch_catalogue, known_catalogue
from devtasks.openrouter.changes import changes
from devtasks.openrouter.overlay import Overlay
from devtasks.quota import AccountLimits
from flows.overlap import SKIPPED, skip_if_running


@flow(name="refresh")
async def refresh(credentials: Annotated[str, Field(min_length=1)] = "default") -> State[Any]:
    """Ask the service for its models and the account's use, bring ledger and cache up to date, show what changed.

    Args:
        credentials: Name of an OpenRouter Credentials block.
    """
    if skipped := await skip_if_running():
        return skipped
    try:
        keys = await OpenRouterCredentials.aload(credentials)
    except ValueError:
        return Completed(name=SKIPPED, message=f"There is no OpenRouter Credentials block {credentials!r}.")
    config = OpenHandsConfig.from_env()
    try:
        async with Ledger.open(config.ledger_url) as ledger:
            models = await _refresh_catalogue(ledger, keys, Overlay.load(config.models_file))
            quota = await _refresh_quota(ledger, keys)
    except DevtasksError as error:
        return Failed(message=str(error))
    text = f"# {keys.base_url}\n\n{quota}\n\n{models}\n"
    await acreate_markdown_artifact(text, key="refresh", description="The account's quota, and changes of the models")
    get_run_logger().info(text)
    return Completed(message=quota)


async def _refresh_catalogue(ledger: Ledger, keys: OpenRouterCredentials, overlay: Overlay) -> str:
    before = await known_catalogue(keys.base_url, ledger, overlay)
    after = await fetch_catalogue(keys.base_url, keys.api_key, ledger, overlay, now=datetime.now(UTC))
    return describe(before, after)


async def _refresh_quota(ledger: Ledger, keys: OpenRouterCredentials) -> str:
    account = Account(ledger, keys.base_url, keys.api_key)
    was = await ledger.day_use(account.name)
    limits = await account.limits(AccountLimits(keys.requests_per_minute, keys.requests_per_day))
    now = await ledger.day_use(account.name)
    bounds = [limit for limit in (now.limit, limits.requests_per_day) if limit is not None]
    allowed = f" of {min(bounds)}" if bounds else ""
    other = f" (the ledger had counted {was.used})" if was.used != now.used else ""
    return f"{now.used}{allowed} free requests of today are used{other}."


def describe(before: Catalogue | None, after: Catalogue) -> str:
    """Return a catalogue's size and what differs from the one known before, as Markdown."""
    mark = " (simulated)" if after.simulated else ""
    free = sum(model.free for model in after.models)
    counted = f"{len(after.models)} models{mark}, {free} of them free."
    if before is None:
        return f"{counted} No catalogue of this service was known before."
    lines = changes(before.models, after.models)
    since = f"since the {before.source} of {before.as_of:%Y-%m-%d %H:%M %Z}"
    if not lines:
        return f"{counted} Nothing changed {since}."
    return "\n".join([f"{counted} What changed {since}:", "", *(f"- {line}" for line in lines)])
