"""The account behind a key: its fingerprint, what `GET /key` says about it, and which limits follow."""

import hashlib
from dataclasses import replace

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from devtasks.ledger import Ledger
from devtasks.openrouter.client import SIMULATED_HEADER, attribution
from devtasks.quota import AccountLimits

OPENROUTER_HOST = "openrouter.ai"
REQUESTS_PER_MINUTE = 20
REQUESTS_PER_DAY = 50
REQUESTS_PER_DAY_WITH_CREDITS = 1_000
"""OpenRouter's limits for free models (its documentation, api_reference/limits, August 2026)."""

KEY_SECONDS = 10.0


class DailyRequests(BaseModel):
    """The account's count of today's free requests; the newer field, which not every account's answer has."""

    model_config = ConfigDict(frozen=True)

    limit: int = Field(ge=0)
    used: int = Field(ge=0)


class KeyInfo(BaseModel):
    """What `GET /key` says, as far as it is needed here; unknown fields are ignored.

    `limit_remaining` is what is left of the key's own limit in US dollars, None where it has none; `simulated` when a
    simulator gave the answer.
    """

    model_config = ConfigDict(frozen=True)

    is_free_tier: bool | None = None
    free_model_daily_requests: DailyRequests | None = None
    limit_remaining: float | None = None
    simulated: bool = False


class _Answer(BaseModel):
    data: KeyInfo


def fingerprint(base_url: str, key: SecretStr) -> str:
    """Return the name by which the ledger knows an account: it tells two apart and does not lead back to the key."""
    said = f"{base_url.rstrip('/')}\n{key.get_secret_value()}".encode()
    return hashlib.blake2b(said, digest_size=16, person=b"devtasksaccount").hexdigest()


async def read_key(base_url: str, key: SecretStr, transport: httpx.AsyncBaseTransport | None = None) -> KeyInfo | None:
    """Return what the service says about the key, None where it says nothing readable; never raises."""
    try:
        return await ask_key(base_url, key, transport)
    except (httpx.HTTPError, httpx.InvalidURL, ValidationError):
        return None


async def ask_key(base_url: str, key: SecretStr, transport: httpx.AsyncBaseTransport | None = None) -> KeyInfo:
    """Return what the service says about the key; a request that costs no quota.

    Raises httpx.HTTPError or httpx.InvalidURL where it refuses or does not answer, ValidationError where it answers
    something else.
    """
    headers = attribution() | {"Authorization": f"Bearer {key.get_secret_value()}"}
    async with httpx.AsyncClient(headers=headers, timeout=KEY_SECONDS, transport=transport) as client:
        response = (await client.get(f"{base_url.rstrip('/')}/key")).raise_for_status()
    info = _Answer.model_validate_json(response.content).data
    return info.model_copy(update={"simulated": SIMULATED_HEADER in response.headers})


class Account:
    """An account of a service, and what the ledger learns of it from the service itself."""

    def __init__(
        self, ledger: Ledger, base_url: str, key: SecretStr, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._ledger = ledger
        self._base_url = base_url
        self._key = key
        self._transport = transport
        self.name = fingerprint(base_url, key)

    async def limits(self, own: AccountLimits) -> AccountLimits:
        """Return the limits that hold, the user's own among them, and bring the ledger's count up to date."""
        return limits_of(self._base_url, await self._learn(), own)

    async def correct(self) -> None:
        """Bring the ledger's count of the day up to date with the service's."""
        await self._learn()

    async def _learn(self) -> KeyInfo | None:
        arrived = await self._ledger.arrived_today(self.name)
        info = await read_key(self._base_url, self._key, self._transport)
        limit = day_limit_of(self._base_url, info)
        if limit is None and info is None and _is_openrouter(self._base_url):
            known = (await self._ledger.day_use(self.name)).limit
            limit = REQUESTS_PER_DAY if known is None else known
        daily = info and info.free_model_daily_requests
        await self._ledger.correct_quota(self.name, limit=limit, used=daily.used if daily else None, arrived=arrived)
        return info


def limits_of(base_url: str, info: KeyInfo | None, own: AccountLimits) -> AccountLimits:
    """Return the account's limits: the user's own, and OpenRouter's where its accounting is at work.

    That is at its own address, and wherever `GET /key` counts daily requests as it does. Any other service has the
    user's limits alone, and they count every call: what a private model costs says nothing about its limits.
    """
    if not _is_openrouter(base_url) and not (info and info.free_model_daily_requests):
        return replace(own, free_only=False)
    per_minute = min(own.requests_per_minute or REQUESTS_PER_MINUTE, REQUESTS_PER_MINUTE)
    return replace(own, requests_per_minute=per_minute)


def day_limit_of(base_url: str, info: KeyInfo | None) -> int | None:
    """Return the service's own limit on free requests in a day, None where it is not known or there is none."""
    if info and info.free_model_daily_requests:
        return info.free_model_daily_requests.limit
    if not _is_openrouter(base_url) or info is None:
        return None
    return REQUESTS_PER_DAY_WITH_CREDITS if info.is_free_tier is False else REQUESTS_PER_DAY


def _is_openrouter(base_url: str) -> bool:
    host = httpx.URL(base_url).host
    return host == OPENROUTER_HOST or host.endswith(f".{OPENROUTER_HOST}")
