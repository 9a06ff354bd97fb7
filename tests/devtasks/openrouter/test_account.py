import asyncio
import json
from datetime import UTC, datetime

import httpx
import pytest
from pydantic import SecretStr

from devtasks.ledger import Ledger
from devtasks.openrouter.account import Account, KeyInfo, day_limit_of, fingerprint, limits_of, read_key
from devtasks.quota import AccountLimits, Order

KEY = SecretStr("sk-nobody-may-see")
OPENROUTER = "https://openrouter.ai/api/v1"
PRIVATE = "http://10.0.0.1:8000/v1"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FREE_TIER = KeyInfo(is_free_tier=True)
COUNTED = KeyInfo.model_validate({"free_model_daily_requests": {"limit": 200, "used": 7, "remaining": 193}})


def answering(status: int = 200, body: object = None) -> httpx.MockTransport:
    return httpx.MockTransport(lambda _: httpx.Response(status, content=json.dumps(body)))


def test_an_account_s_name_tells_it_from_others_and_does_not_give_the_key_away() -> None:
    names = {fingerprint(OPENROUTER, KEY), fingerprint(PRIVATE, KEY), fingerprint(OPENROUTER, SecretStr("other"))}
    assert len(names) == 3
    assert fingerprint(OPENROUTER + "/", KEY) in names
    assert KEY.get_secret_value() not in "".join(names)


@pytest.mark.parametrize(
    ("url", "info", "own", "expected"),
    [
        pytest.param(OPENROUTER, FREE_TIER, AccountLimits(), AccountLimits(20), id="openrouter"),
        pytest.param(OPENROUTER, None, AccountLimits(), AccountLimits(20), id="openrouter-silent"),
        pytest.param(OPENROUTER, None, AccountLimits(5, 9), AccountLimits(5, 9), id="the-user-s-own-below"),
        pytest.param(OPENROUTER, None, AccountLimits(500), AccountLimits(20), id="the-user-s-own-above"),
        pytest.param(PRIVATE, COUNTED, AccountLimits(), AccountLimits(20), id="counts-as-openrouter-does"),
        pytest.param(PRIVATE, None, AccountLimits(), AccountLimits(free_only=False), id="private"),
        pytest.param(PRIVATE, FREE_TIER, AccountLimits(90), AccountLimits(90, free_only=False), id="private-limited"),
        pytest.param(
            "https://openrouter.ai.evil.test", None, AccountLimits(), AccountLimits(free_only=False), id="alike"
        ),
    ],
)
def test_the_limits_follow_from_the_service_and_the_user(
    url: str, info: KeyInfo | None, own: AccountLimits, expected: AccountLimits
) -> None:
    assert limits_of(url, info, own) == expected


@pytest.mark.parametrize(
    ("url", "info", "expected"),
    [
        pytest.param(OPENROUTER, FREE_TIER, 50, id="free-tier"),
        pytest.param(OPENROUTER, KeyInfo(is_free_tier=False), 1_000, id="credits-were-bought"),
        pytest.param(OPENROUTER, KeyInfo(), 50, id="not-said"),
        pytest.param(OPENROUTER, COUNTED, 200, id="the-newer-field"),
        pytest.param(PRIVATE, COUNTED, 200, id="the-newer-field-elsewhere"),
        pytest.param(PRIVATE, FREE_TIER, None, id="elsewhere"),
        pytest.param(OPENROUTER, None, None, id="silent"),
    ],
)
def test_the_day_s_limit_follows_from_what_the_key_says(url: str, info: KeyInfo | None, expected: int | None) -> None:
    assert day_limit_of(url, info) == expected


@pytest.mark.parametrize(
    ("transport", "expected"),
    [
        pytest.param(answering(body={"data": {"is_free_tier": True, "label": "x"}}), FREE_TIER, id="older-shape"),
        pytest.param(answering(body={"data": {"free_model_daily_requests": None}}), KeyInfo(), id="null"),
        pytest.param(answering(404, {}), None, id="no-such-page"),
        pytest.param(answering(401, {"error": {}}), None, id="bad-key"),
        pytest.param(answering(body=[]), None, id="another-shape"),
        pytest.param(answering(body={"data": {"free_model_daily_requests": {"limit": -1, "used": 0}}}), None, id="odd"),
    ],
)
def test_what_the_service_says_of_the_key_is_read_as_far_as_it_can_be(
    transport: httpx.MockTransport, expected: KeyInfo | None
) -> None:
    assert asyncio.run(read_key(OPENROUTER, KEY, transport)) == expected


def test_a_service_that_says_nothing_leaves_what_was_known_and_at_openrouter_the_smallest_limit(
    database_url: str,
) -> None:
    said: list[httpx.Response] = []
    transport = httpx.MockTransport(lambda _: said.pop(0))
    silent = httpx.Response(503)
    counted = httpx.Response(200, json={"data": {"free_model_daily_requests": {"limit": 1_000, "used": 4}}})

    async def run() -> list[tuple[int, int | None]]:
        said.extend([silent, counted, silent])
        found: list[tuple[int, int | None]] = []
        async with Ledger.open(database_url, now=lambda: NOON) as ledger:
            account = Account(ledger, OPENROUTER, KEY, transport)
            for _ in range(3):
                await account.correct()
                use = await ledger.day_use(account.name)
                found.append((use.used, use.limit))
            assert await ledger.standing_against(Order(account.name, "run"), AccountLimits()) is None
        return found

    assert asyncio.run(run()) == [(0, 50), (4, 1_000), (4, 1_000)]
