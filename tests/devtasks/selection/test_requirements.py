from datetime import date
from typing import Any

import pytest
from models import NOW, make_model

from devtasks.errors import InvalidInput
from devtasks.selection.capability import Endpoint, ModelCapability, ModelSpecialization, Priors
from devtasks.selection.evidence import believe_untried
from devtasks.selection.requirements import (
    RULES,
    Case,
    Circumstances,
    TaskRequirements,
    failures,
    require_known,
    rules_for,
)
from devtasks.task import TaskCategory

ID = "acme/coder:free"
OWN = Endpoint("http://models.test/v1", "own")


def failed(model: ModelCapability, /, here: Circumstances | None = None, **asked: Any) -> list[tuple[str, str]]:
    belief = believe_untried(model.priors.success, model.attempt_seconds, model.attempt_cost)
    case = Case(model, belief, TaskRequirements(TaskCategory.UNIT_TEST, **asked), here or Circumstances(NOW))
    return [(failure.requirement, failure.reason) for failure in failures(case, rules_for(case.asked, case.here))]


FAILING: list[Any] = [
    pytest.param(
        make_model(), {"model": "a/b"}, "model", "it is not the model asked for (a/b)", id="another-asked-for"
    ),
    pytest.param(
        make_model(incompatible="it is shy"),
        {},
        "incompatible",
        "it is known not to work: it is shy",
        id="incompatible",
    ),
    pytest.param(make_model(writes_text=False), {}, "text", "it does not write text", id="audio"),
    pytest.param(make_model(expires=date(2026, 2, 28)), {}, "expired", "it expired on 2026-02-28", id="expired"),
    pytest.param(
        make_model(is_router=True),
        {},
        "router",
        "it is a router, behind which the model may change from call to call",
        id="router",
    ),
    pytest.param(
        make_model(categories=frozenset({TaskCategory.ANALYSIS})),
        {},
        "category",
        "it is kept for analysis",
        id="category",
    ),
    pytest.param(make_model(supports_tools=False), {}, "tools", "it has no tool calls", id="no-tools"),
    pytest.param(
        make_model(context_length=31_999), {}, "context_tokens", "its context is below 32000 tokens", id="context"
    ),
    pytest.param(
        make_model(),
        {"specialization": ModelSpecialization.GENERAL},
        "specialization",
        "it is not a general model",
        id="specialization",
    ),
    pytest.param(make_model(price="0.1"), {}, "free_only", "it is not free", id="price"),
    pytest.param(make_model(price=None), {}, "free_only", "it is not free", id="unknown-price"),
    pytest.param(
        make_model(price=None),
        {"free_only": False, "max_cost_usd": 0.5},
        "max_cost_usd",
        "its price is unknown, so a limit of $0.5 cannot be kept",
        id="unknown-price-under-a-limit",
    ),
    pytest.param(
        make_model(price="20"),
        {"free_only": False, "max_cost_usd": 0.5},
        "max_cost_usd",
        "an attempt is expected to cost $1.5, above $0.5",
        id="too-dear",
    ),
    pytest.param(
        make_model(priors=Priors(latency_seconds=10)),
        {"max_latency_seconds": 100},
        "max_latency_seconds",
        "an attempt is expected to take 200 s, above 100 s",
        id="too-slow",
    ),
    pytest.param(
        make_model(priors=Priors(quality=0.6)),
        {},
        "quality_threshold",
        "its quality is 0.60, below 0.7",
        id="quality",
    ),
]


@pytest.mark.parametrize(("model", "asked", "requirement", "reason"), FAILING)
def test_a_model_is_left_out_for_a_reason(
    model: ModelCapability, asked: dict[str, Any], requirement: str, reason: str
) -> None:
    assert failed(model, **asked) == [(requirement, reason)]


def test_every_rule_has_a_case_here() -> None:
    elsewhere = {"tried", "cooling"}
    assert {case.values[2] for case in FAILING} | elsewhere == {rule.name for rule in RULES}


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        pytest.param(make_model(context_length=32_000), {}, id="just-enough-context"),
        pytest.param(make_model(expires=NOW.date()), {}, id="its-last-day"),
        pytest.param(make_model(categories=frozenset({TaskCategory.UNIT_TEST})), {}, id="kept-for-this"),
        pytest.param(make_model(), {"max_cost_usd": 0.0, "max_latency_seconds": 1}, id="free-and-of-unknown-speed"),
        pytest.param(make_model(supports_tools=False), {"tools": False}, id="tools-not-asked-for"),
        pytest.param(make_model(ID, price="20"), {"model": ID, "max_cost_usd": 0.5}, id="paid-but-asked-for-by-name"),
        pytest.param(make_model(ID, is_router=True), {"model": ID}, id="a-router-asked-for-by-name"),
        pytest.param(make_model(ID, supports_tools=False), {"model": ID}, id="without-tools-but-asked-for-by-name"),
        pytest.param(make_model(supports_tools=False, endpoint=OWN), {}, id="without-tools-but-one-s-own"),
        pytest.param(make_model(ID, incompatible="no"), {"model": ID}, id="incompatible-but-asked-for-by-name"),
        pytest.param(
            make_model(ID, priors=Priors(quality=0.1, latency_seconds=99)),
            {"model": ID, "max_latency_seconds": 1},
            id="bad-and-slow-but-asked-for-by-name",
        ),
    ],
)
def test_a_model_that_meets_the_requirements_fails_none(model: ModelCapability, asked: dict[str, Any]) -> None:
    assert failed(model, **asked) == []


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        pytest.param({"context_length": 1_000}, {}, id="context"),
        pytest.param({"price": None}, {"max_cost_usd": 1.0}, id="no-limit-can-be-kept"),
    ],
)
def test_a_name_does_not_help_where_the_model_cannot_work(changes: dict[str, Any], asked: dict[str, Any]) -> None:
    assert len(failed(make_model(ID, **changes), model=ID, **asked)) == 1


KNOWN = ["qwen/qwen3-coder:free", "qwen/qwen3-coder", "mistralai/mistral-small-3.2", "openai/gpt-oss-20b:free"]


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        pytest.param("qwen/qwen3-codr:free", "qwen/qwen3-coder:free, qwen/qwen3-coder", id="a-slip"),
        pytest.param("mistral-small", "mistralai/mistral-small-3.2", id="without-its-author"),
        pytest.param(
            "openrouter/qwen/qwen3-coder", "qwen/qwen3-coder, qwen/qwen3-coder:free", id="another-tool's-prefix"
        ),
    ],
)
def test_an_unknown_id_is_refused_with_the_nearest_ones_first(asked: str, nearest: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        require_known(asked, KNOWN)
    assert refused.value.allowed.startswith(f"the id of a model in the catalogue; the nearest are {nearest}")


def test_an_id_like_no_other_is_refused_with_where_to_look() -> None:
    with pytest.raises(InvalidInput, match="`devtasks models` lists them"):
        require_known("zzz", KNOWN)


def test_a_known_id_passes() -> None:
    require_known(KNOWN[0], KNOWN)
