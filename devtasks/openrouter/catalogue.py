"""The models there are: from the service, from the ledger's cache, or from the snapshot that ships, with the overlay.

load_catalogue ── cached and younger than TTL? ── yes ─► cache
                          │ no
                  GET /models ── answers ─► live, kept in the cache
                          │ does not answer
                  cached at all? ─► cache · OpenRouter's own address? ─► snapshot · else ServiceUnreachable
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.resources import files
from typing import Protocol

import httpx
from pydantic import SecretStr, ValidationError

from devtasks.config import OPENROUTER_URL
from devtasks.errors import ServiceUnreachable
from devtasks.ledger import CachedCatalogue
from devtasks.openrouter.client import ModelList, list_models
from devtasks.openrouter.overlay import Overlay
from devtasks.selection.capability import ModelCapability

TTL = timedelta(hours=1)
"""How long a cached list is taken for the service's; the free models change about monthly."""


class CatalogueCache(Protocol):
    """Where answers are kept between runs, by the service's address."""

    async def cached_catalogue(self, address: str) -> CachedCatalogue | None:
        """Return the last answer kept for the address, None where there is none."""
        ...

    async def cache_catalogue(self, address: str, document: str, at: datetime) -> None:
        """Keep the answer in place of an earlier one."""
        ...


class Source(StrEnum):
    """Where a catalogue comes from."""

    LIVE = "live"
    CACHE = "cache"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True)
class Catalogue:
    """A service's models with their overlays, where they come from, and as of when.

    `service` is its address; `simulated` when a simulator lists them.
    """

    service: str
    models: tuple[ModelCapability, ...]
    source: Source
    as_of: datetime
    simulated: bool = False


async def load_catalogue(
    base_url: str,
    key: SecretStr | None,
    cache: CatalogueCache,
    overlay: Overlay,
    *,
    now: datetime,
    transport: httpx.AsyncBaseTransport | None = None,
    first_wait: float = 0.2,
) -> Catalogue:
    """Return the catalogue of a service; raise ServiceUnreachable when it does not answer and nothing stands in.

    A simulator's list is never cached: it is as short-lived as its address.
    """
    kept = await cache.cached_catalogue(base_url)
    cached = _from_cache(base_url, kept, overlay) if kept else None
    if cached and now - cached.as_of < TTL:
        return cached
    try:
        return await fetch_catalogue(base_url, key, cache, overlay, now=now, transport=transport, first_wait=first_wait)
    except ServiceUnreachable:
        if cached is None and (cached := _shipped(base_url, overlay)) is None:
            raise
        return cached


async def fetch_catalogue(
    base_url: str,
    key: SecretStr | None,
    cache: CatalogueCache,
    overlay: Overlay,
    *,
    now: datetime,
    transport: httpx.AsyncBaseTransport | None = None,
    first_wait: float = 0.2,
) -> Catalogue:
    """Return what the service lists now, however fresh the cache is; raise ServiceUnreachable when it does not answer.

    The answer is cached unless a simulator gave it.
    """
    listed = await list_models(base_url, key, transport, first_wait)
    if not listed.simulated:
        await cache.cache_catalogue(base_url, listed.document, now)
    return Catalogue(base_url, _capabilities(listed, overlay), Source.LIVE, now, listed.simulated)


async def known_catalogue(base_url: str, cache: CatalogueCache, overlay: Overlay) -> Catalogue | None:
    """Return the catalogue that is known without asking the service, however old; None where there is none."""
    kept = await cache.cached_catalogue(base_url)
    return (kept and _from_cache(base_url, kept, overlay)) or _shipped(base_url, overlay)


def snapshot(overlay: Overlay) -> Catalogue:
    """Return the catalogue that ships, as of the date in its header."""
    text = (files(__package__ or "") / "snapshot.json").read_text(encoding="utf-8")
    as_of = datetime.fromisoformat(json.loads(text)["as_of"]).replace(tzinfo=UTC)
    models = _capabilities(ModelList.model_validate_json(text), overlay)
    return Catalogue(OPENROUTER_URL, models, Source.SNAPSHOT, as_of)


def _shipped(service: str, overlay: Overlay) -> Catalogue | None:
    return snapshot(overlay) if service.rstrip("/") == OPENROUTER_URL else None


def _from_cache(service: str, kept: CachedCatalogue, overlay: Overlay) -> Catalogue | None:
    try:
        listed = ModelList.model_validate_json(kept.document)
    except ValidationError:
        return None
    return Catalogue(service, _capabilities(listed, overlay), Source.CACHE, kept.fetched_at)


def _capabilities(listed: ModelList, overlay: Overlay) -> tuple[ModelCapability, ...]:
    return overlay.apply(ModelCapability.of(model) for model in listed.data)
