import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from models import NOW

from devtasks.config import OPENROUTER_URL
from devtasks.errors import ServiceUnreachable
from devtasks.openrouter.catalogue import (
    TTL,
    CachedCatalogue,
    Catalogue,
    Source,
    fetch_catalogue,
    known_catalogue,
    load_catalogue,
    snapshot,
)
from devtasks.openrouter.client import SIMULATED_HEADER
from devtasks.openrouter.overlay import Overlay

URL = "http://models.test/api/v1"
Answer = Callable[[httpx.Request], httpx.Response]


class Cache:
    """A cache in memory."""

    def __init__(self, document: str = "", age: timedelta = timedelta()) -> None:
        self.kept = {URL: CachedCatalogue(document, NOW - age)} if document else {}

    async def cached_catalogue(self, address: str) -> CachedCatalogue | None:
        return self.kept.get(address)

    async def cache_catalogue(self, address: str, document: str, at: datetime) -> None:
        self.kept[address] = CachedCatalogue(document, at)


def document(*ids: str, **fields: Any) -> str:
    free = {"prompt": "0", "completion": "0"}
    models = [{"id": each, "context_length": 131_072, "pricing": free, **fields} for each in ids]
    return json.dumps({"data": models, "a_new_field": 1})


def listing(*ids: str, headers: dict[str, str] | None = None) -> Answer:
    return lambda _: httpx.Response(200, text=document(*ids), headers=headers)


def offline(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


def load(answer: Answer, cache: Cache | None = None, url: str = URL, overlay: Overlay | None = None) -> Catalogue:
    transport = httpx.MockTransport(answer)
    return asyncio.run(
        load_catalogue(url, None, cache or Cache(), overlay or Overlay(), now=NOW, transport=transport, first_wait=0)
    )


def ids(catalogue: Catalogue) -> list[str]:
    return [model.model_id for model in catalogue.models]


def test_the_service_is_asked_and_its_answer_kept_as_it_came() -> None:
    cache = Cache()
    catalogue = load(listing("m/new"), cache)
    assert (ids(catalogue), catalogue.source, catalogue.as_of) == (["m/new"], Source.LIVE, NOW)
    assert cache.kept[URL] == CachedCatalogue(document("m/new"), NOW)


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        pytest.param(TTL - timedelta(seconds=1), ("m/old", Source.CACHE), id="young"),
        pytest.param(TTL, ("m/new", Source.LIVE), id="too-old"),
    ],
)
def test_a_kept_answer_counts_until_its_time_is_over(age: timedelta, expected: tuple[str, Source]) -> None:
    catalogue = load(listing("m/new"), Cache(document("m/old"), age))
    assert (ids(catalogue)[0], catalogue.source) == expected


def test_a_kept_answer_that_cannot_be_read_is_as_none() -> None:
    assert ids(load(listing("m/new"), Cache("{"))) == ["m/new"]


def test_offline_an_old_answer_is_better_than_none_and_says_how_old_it_is() -> None:
    catalogue = load(offline, Cache(document("m/old"), timedelta(days=3)))
    assert (ids(catalogue), catalogue.source) == (["m/old"], Source.CACHE)
    assert catalogue.as_of == NOW - timedelta(days=3)


def test_offline_and_without_any_answer_the_snapshot_stands_in_for_openrouter() -> None:
    catalogue = load(offline, url=OPENROUTER_URL)
    assert catalogue == snapshot(Overlay())
    assert catalogue.source is Source.SNAPSHOT


def test_the_snapshot_stands_in_for_no_other_service() -> None:
    with pytest.raises(ServiceUnreachable):
        load(offline)


def test_a_fetch_asks_the_service_however_young_the_kept_answer_is() -> None:
    cache, transport = Cache(document("m/old")), httpx.MockTransport(listing("m/new"))
    fetched = asyncio.run(fetch_catalogue(URL, None, cache, Overlay(), now=NOW, transport=transport, first_wait=0))
    assert (ids(fetched), fetched.source) == (["m/new"], Source.LIVE)
    assert cache.kept[URL] == CachedCatalogue(document("m/new"), NOW)


@pytest.mark.parametrize(
    ("url", "cache", "source"),
    [
        pytest.param(URL, Cache(document("m/old"), timedelta(days=3)), Source.CACHE, id="kept, however old"),
        pytest.param(OPENROUTER_URL, Cache(), Source.SNAPSHOT, id="shipped"),
        pytest.param(URL, Cache(), None, id="neither"),
    ],
)
def test_what_is_known_without_asking(url: str, cache: Cache, source: Source | None) -> None:
    known = asyncio.run(known_catalogue(url, cache, Overlay()))
    assert (known and known.source) == source


def test_a_simulator_s_models_are_marked_and_never_kept() -> None:
    cache = Cache()
    assert load(listing("m/simulated", headers={SIMULATED_HEADER: "true"}), cache).simulated
    assert cache.kept == {}


def test_the_overlay_is_laid_over_models_from_everywhere() -> None:
    overlay = Overlay.model_validate({"overlays": [{"match": "*", "quality": 0.3}]})
    live, kept = load(listing("m/a"), overlay=overlay), load(offline, Cache(document("m/b")), overlay=overlay)
    everywhere = (*live.models, *kept.models, *snapshot(overlay).models)
    assert {model.priors.quality for model in everywhere} == {0.3}


def test_the_snapshot_says_where_it_is_from_and_holds_free_models_with_tools() -> None:
    catalogue = snapshot(Overlay())
    assert catalogue.as_of == datetime(2026, 7, 2, tzinfo=UTC)
    assert len(catalogue.models) >= 10
    assert all(model.free and model.supports_tools and model.context_length for model in catalogue.models)
