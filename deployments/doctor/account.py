"""Checks of what tasks are paid with: the key, what is left of its day, and the ledger that counts it."""

from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import SecretStr, ValidationError

from blocks import OpenRouterCredentials
from deployments.doctor.checks import Finding, failed, ok, skipped, warning
from devtasks.config import OpenHandsConfig
from devtasks.errors import ServiceUnreachable
from devtasks.ledger import Ledger
from devtasks.ledger.address import parse
from devtasks.openrouter.account import KeyInfo, ask_key, day_limit_of, fingerprint


@dataclass(frozen=True)
class Payer:
    """A key and the service it is for."""

    base_url: str
    key: SecretStr


async def find_payer(config: OpenHandsConfig) -> Payer | None:
    """Return the key of the server's block `default`, else that of the environment."""
    try:
        block = await OpenRouterCredentials.aload("default")
    except ValueError:
        return payer_of(config)
    return Payer(block.base_url, block.api_key)


def payer_of(config: OpenHandsConfig) -> Payer | None:
    """Return the key of the environment, None where there is none."""
    return Payer(config.base_url, config.api_key) if config.api_key else None


async def key(payer: Payer | None, ledger_url: str) -> Finding:
    """Whether the service takes the key, and what it says about it; one request, which costs no quota."""
    if payer is None:
        return skipped("there is no key")
    try:
        info = await ask_key(payer.base_url, payer.key)
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        if code in (401, 403):
            return failed(f"{payer.base_url} refuses the key ({code})")
        if code == 404:
            return ok(f"{payer.base_url} says nothing about keys")
        raise ServiceUnreachable("the service", payer.base_url, f"{code} on /key") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceUnreachable("the service", payer.base_url, f"{type(error).__name__} on /key") from error
    except ValidationError:
        return warning(f"{payer.base_url} answers /key in another way than OpenRouter", "none where that is meant")
    limit = day_limit_of(payer.base_url, info)
    used = info.free_model_daily_requests.used if info.free_model_daily_requests else None
    if used is None and limit is not None:
        used = await _counted(payer, ledger_url)
    return _standing(payer, info, limit, used)


def _standing(payer: Payer, info: KeyInfo, limit: int | None, used: int | None) -> Finding:
    said = [f"{payer.base_url} takes it"]
    if limit is not None and used is not None:
        said.append(f"{max(limit - used, 0)} of {limit} free requests left today")
    if info.limit_remaining is not None:
        said.append(f"${info.limit_remaining:.2f} of the key's own limit left")
    if info.simulated:
        said.append("simulated")
    found = ", ".join(said)
    if limit is not None and used is not None and used >= limit:
        return warning(found, "tasks on free models wait for midnight UTC")
    return ok(found)


async def _counted(payer: Payer, ledger_url: str) -> int | None:
    """Return what the ledger has counted today, None where there is none yet."""
    if _missing_file(ledger_url):
        return 0
    async with Ledger.open(ledger_url) as ledger:
        return (await ledger.day_use(fingerprint(payer.base_url, payer.key))).used


async def ledger(url: str) -> Finding:
    """Whether the ledger's database answers with this version's schema; opening it brings it there, as every run does.

    A SQLite file that is not there yet is not made.
    """
    shown = parse(url).set(username=None, password=None).render_as_string()
    if _missing_file(url):
        return ok(f"{shown} is not there yet; the first task makes it")
    async with Ledger.open(url):
        return ok(shown)


def _missing_file(url: str) -> bool:
    address = parse(url)
    return address.get_backend_name() == "sqlite" and not Path(address.database or "").exists()
