from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from models import make_model

from devtasks.errors import InvalidInput
from devtasks.openrouter.overlay import Facts, Overlay
from devtasks.selection.capability import Endpoint, ModelCapability, ModelSpecialization, Priors
from devtasks.task import TaskCategory

PRIVATE = """
models:
  - id: ours/fine-tuned
    context_length: 65536
    prices: {prompt: "0", completion: "0"}
    endpoint: {base_url: "http://gpu.test/v1", credentials: our-gpu}
overlays:
  - match: ours/*
    quality: 0.8
    categories: [unit_test]
"""


def laid(model: ModelCapability, *entries: dict[str, Any]) -> ModelCapability:
    (found,) = Overlay.model_validate({"overlays": entries}).apply([model])
    return found


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        pytest.param("acme/coder:free", True, id="exact"),
        pytest.param("*/coder*", True, id="any-author-any-variant"),
        pytest.param("acme/*", True, id="author"),
        pytest.param("acme/coder", False, id="another-variant"),
        pytest.param("*/Coder*", False, id="case-counts"),
    ],
)
def test_facts_hold_for_the_ids_that_fit(pattern: str, fits: bool) -> None:
    assert (laid(make_model(), {"match": pattern, "quality": 0.9}).priors.quality == 0.9) is fits


FACTS: list[Any] = [
    pytest.param("success", 0.8, {"priors": Priors(success=0.8)}, id="success"),
    pytest.param("quality", 0.8, {"priors": Priors(quality=0.8)}, id="quality"),
    pytest.param("latency_seconds", 2.5, {"priors": Priors(latency_seconds=2.5)}, id="latency"),
    pytest.param("specialization", "general", {"specialization": ModelSpecialization.GENERAL}, id="specialization"),
    pytest.param("categories", ["analysis"], {"categories": frozenset({TaskCategory.ANALYSIS})}, id="categories"),
    pytest.param("incompatible", "it is shy", {"incompatible": "it is shy"}, id="incompatible"),
    pytest.param("context_length", 9_000, {"context_length": 9_000}, id="context"),
    pytest.param("tools", False, {"supports_tools": False}, id="tools"),
    pytest.param("router", True, {"is_router": True}, id="router"),
    pytest.param(
        "prices",
        {"prompt": "0.5", "completion": "1"},
        {"prompt_price": Decimal("0.5"), "completion_price": Decimal(1)},
        id="prices",
    ),
]


@pytest.mark.parametrize(("key", "value", "changes"), FACTS)
def test_each_fact_reaches_the_model_and_nothing_else_changes(key: str, value: Any, changes: dict[str, Any]) -> None:
    expected = make_model(**{key: each for key, each in changes.items() if not key.endswith("_price")})
    found = laid(make_model(), {"match": "*", key: value})
    for name in ("priors", "specialization", "categories", "incompatible", "context_length", "is_router"):
        assert getattr(found, name) == getattr(expected, name)
    assert all(getattr(found, name) == each for name, each in changes.items())


def test_every_fact_has_a_case_here() -> None:
    assert {case.values[0] for case in FACTS} == set(Facts.model_fields)


def test_a_later_entry_wins_key_by_key() -> None:
    found = laid(make_model(), {"match": "*", "quality": 0.5, "success": 0.5}, {"match": "acme/*", "quality": 0.9})
    assert found.priors == Priors(success=0.5, quality=0.9)


def test_a_model_of_one_s_own_joins_the_catalogue(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(PRIVATE)
    listed, own = Overlay.load(file).apply([make_model()])
    assert listed.model_id == "acme/coder:free"
    assert (own.model_id, own.context_length, own.supports_tools, own.free) == ("ours/fine-tuned", 65_536, True, True)
    assert own.endpoint == Endpoint("http://gpu.test/v1", "our-gpu")
    assert own.priors.quality == 0.8, "facts hold for it as well"
    assert own.categories == {TaskCategory.UNIT_TEST}


def test_the_prices_of_one_s_own_model_are_unknown_unless_said() -> None:
    endpoint = {"base_url": "http://gpu.test/v1", "credentials": "our-gpu"}
    own = {"id": "ours/m", "context_length": 9_000, "endpoint": endpoint}
    (model,) = Overlay.model_validate({"models": [own]}).apply([])
    assert (model.free, model.price_known) == (False, False)


def test_a_file_of_one_s_own_comes_after_the_one_that_ships(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text('overlays: [{match: "*/deepseek-chat*", quality: 0.1}]')
    (model,) = Overlay.load(file).apply([make_model("deepseek/deepseek-chat")])
    assert model.priors == Priors(success=0.9, quality=0.1, latency_seconds=1.5)


@pytest.mark.parametrize(
    ("model_id", "expected"),
    [
        pytest.param("mistralai/mistral-small-3.2", Priors(0.95, 0.84, 0.88), id="mistral-small"),
        pytest.param("meta-llama/llama-3.3-70b-instruct:free", Priors(0.92, 0.90, 1.2), id="llama-3.3"),
        pytest.param("deepseek/deepseek-chat", Priors(0.90, 0.94, 1.5), id="deepseek-chat"),
        pytest.param("google/gemini-2.0-flash", Priors(0.93, 0.86, 0.95), id="gemini-flash"),
        pytest.param("qwen/qwen3-coder:free", Priors(), id="any-other"),
    ],
)
def test_the_overlay_that_ships_holds_the_first_priors(model_id: str, expected: Priors) -> None:
    (model,) = Overlay.load().apply([make_model(model_id)])
    assert model.priors == expected


def test_the_overlay_that_ships_knows_routers_and_what_does_not_work() -> None:
    models = Overlay.load().apply(
        [make_model("openrouter/free", price=None), make_model("google/gemma-3n-e2b-it:free"), make_model("a/b")]
    )
    assert [(model.is_router, model.free, bool(model.incompatible)) for model in models] == [
        (True, True, False),
        (False, True, True),
        (False, True, False),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("overlays: [{match: x, qualty: 1}]", r"overlays.0.qualty.*one of .*quality", id="unknown-key"),
        pytest.param("overlay: []", r"one of overlays, models", id="unknown-section"),
        pytest.param("overlays: [{match: x, quality: 7}]", r"overlays.0.quality: 7", id="out-of-range"),
        pytest.param("overlays: [{quality: 0.7}]", r"overlays.0.match", id="no-match"),
        pytest.param(
            "models: [{id: x, endpoint: {base_url: 'http://a', credentials: c}}]", "context_length", id="context"
        ),
        pytest.param("models: [{id: x, context_length: 9}]", "models.0.endpoint", id="no-endpoint"),
        pytest.param("overlays: [", "YAML", id="no-yaml"),
    ],
)
def test_a_mistake_in_the_file_is_one_message_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=message):
        Overlay.load(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"DEVTASKS_MODELS.*absent\.yaml.*No such file"):
        Overlay.load(tmp_path / "absent.yaml")
