from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from devtasks.errors import NoModelAvailable
from devtasks.model_selector import (
    ModelCapability,
    ModelSelector,
    ModelSpecialization,
    TaskRequirements,
    missing,
)
from devtasks.openrouter.client import Architecture, ListedModel, Pricing
from devtasks.task import TaskCategory

NEEDS = TaskRequirements(category=TaskCategory.UNIT_TEST)


def make_model(model_id: str = "acme/coder:free", **changes: Any) -> ModelCapability:
    values: dict[str, Any] = {
        "context_length": 131_072,
        "supports_tools": True,
        "price": 0.0,
        "specialization": ModelSpecialization.CODE,
    }
    return ModelCapability(model_id, **values | changes)


def make_listed(**changes: Any) -> ListedModel:
    free = Pricing(prompt=Decimal(0), completion=Decimal(0))
    values: dict[str, Any] = {"id": "acme/m", "pricing": free, "supported_parameters": ("tools",)}
    return ListedModel(**values | changes)


def ranked(*models: ModelCapability, needs: TaskRequirements = NEEDS) -> list[str]:
    return [candidate.model_id for candidate in ModelSelector(models).rank(needs)]


@pytest.mark.parametrize(
    ("prompt", "completion", "price", "free"),
    [
        pytest.param("0", "0", 0.0, True, id="zero"),
        pytest.param("0.000001", "0.000003", 2.0, False, id="the-mean-per-million"),
        pytest.param("0", "0.000001", 0.5, False, id="only-the-prompt-is-free"),
        pytest.param(None, "0", None, False, id="prompt-unknown"),
        pytest.param("0", None, None, False, id="completion-unknown"),
        pytest.param("-1", "-1", None, False, id="a-router"),
    ],
)
def test_the_price_decides_what_is_free(
    prompt: str | None, completion: str | None, price: float | None, free: bool
) -> None:
    pricing = Pricing.model_validate({"prompt": prompt, "completion": completion})
    capability = ModelCapability.of(make_listed(pricing=pricing))
    assert (capability.price, capability.free) == (price if price is None else pytest.approx(price), free)


def test_a_name_that_says_free_does_not_make_it_so() -> None:
    pricing = Pricing(prompt=Decimal("0.000001"), completion=Decimal(0))
    assert not ModelCapability.of(make_listed(id="acme/m:free", pricing=pricing)).free


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        pytest.param({"id": "qwen/qwen3-coder:free"}, ModelSpecialization.CODE, id="coder"),
        pytest.param({"id": "mistralai/devstral-small"}, ModelSpecialization.CODE, id="devstral"),
        pytest.param({"id": "acme/m", "name": "Acme Code 2"}, ModelSpecialization.CODE, id="by-its-display-name"),
        pytest.param({"id": "meta-llama/llama-3.3-70b"}, ModelSpecialization.GENERAL, id="llama"),
    ],
)
def test_the_name_tells_what_a_model_is_made_for(listed: dict[str, Any], expected: ModelSpecialization) -> None:
    assert ModelCapability.of(make_listed(**listed)).specialization is expected


def test_code_models_come_first_for_code_and_last_for_prose() -> None:
    code = make_model("z/code")
    general = make_model("a/general", specialization=ModelSpecialization.GENERAL)
    assert ranked(general, code) == ["z/code", "a/general"]
    for category in (TaskCategory.ANALYSIS, TaskCategory.DOCUMENTATION):
        assert ranked(general, code, needs=TaskRequirements(category=category)) == ["a/general", "z/code"]


def test_more_room_is_better_up_to_a_point() -> None:
    tight, roomy, vast = (make_model(f"m/{size}", context_length=size) for size in (32_000, 256_000, 1_000_000))
    assert ranked(tight, roomy, vast) == ["m/1000000", "m/256000", "m/32000"], "the first two are equal, so by name"


def test_the_order_does_not_depend_on_the_catalogue_s() -> None:
    models = [make_model("m/b"), make_model("m/a"), make_model("m/c", context_length=40_000)]
    assert {tuple(ranked(*order)) for order in permutations(models)} == {("m/a", "m/b", "m/c")}


def test_a_choice_explains_itself() -> None:
    (candidate,) = ModelSelector([make_model()]).rank(NEEDS)
    assert candidate.reasons == ("code model", "context 131,072 tokens", "free")
    assert 0 < candidate.score <= 1
    paid = TaskRequirements(category=TaskCategory.UNIT_TEST, free_only=False)
    for price, words in ((None, "unknown price"), (2.0, "$2.00/M tokens")):
        assert ModelSelector([make_model(price=price)]).select_model(paid).reasons[-1] == words


EXCLUDED: list[Any] = [
    pytest.param(make_model(supports_tools=False), {}, "it has no tool calls", id="no-tools"),
    pytest.param(make_model(context_length=31_999), {}, "its context is below 32000 tokens", id="context"),
    pytest.param(make_model(price=0.1), {}, "it is not free", id="price"),
    pytest.param(make_model(price=None), {}, "it is not free", id="unknown-price"),
    pytest.param(make_model(), {"model": "a/b"}, "it is not the model asked for (a/b)", id="another-asked-for"),
    pytest.param(
        make_model(supports_tools=False), {"model": "acme/coder:free"}, "it has no tool calls", id="asked-for"
    ),
]


@pytest.mark.parametrize(("model", "needs", "reason"), EXCLUDED)
def test_a_model_is_left_out_for_a_reason(model: ModelCapability, needs: dict[str, Any], reason: str) -> None:
    requirements = TaskRequirements(category=TaskCategory.UNIT_TEST, **needs)
    assert missing(model, requirements) == reason
    with pytest.raises(NoModelAvailable) as refused:
        ModelSelector([model]).select_model(requirements)
    assert str(refused.value) == f"none of 1 models can work on this task (1 left out: {reason})"


def test_a_model_that_was_tried_is_left_out() -> None:
    models = [make_model("m/a"), make_model("m/b")]
    selector = ModelSelector(models)
    assert selector.select_model(NEEDS, exclude=("m/a",)).model_id == "m/b"
    with pytest.raises(NoModelAvailable, match="2 left out: it was already tried"):
        selector.select_model(NEEDS, exclude=("m/a", "m/b"))


def test_a_model_asked_for_by_name_may_cost_money() -> None:
    requirements = TaskRequirements(category=TaskCategory.UNIT_TEST, model="m/paid")
    models = [make_model("m/free"), make_model("m/paid", price=5.0)]
    assert ranked(*models, needs=requirements) == ["m/paid"]


def test_no_model_at_all_is_said_as_such() -> None:
    with pytest.raises(NoModelAvailable, match="the catalogue is empty"):
        ModelSelector([]).select_model(NEEDS)


def test_the_refusal_counts_what_left_models_out_the_commonest_first() -> None:
    models = [make_model(f"m/{n}", supports_tools=False) for n in range(3)] + [make_model("m/x", price=1.0)]
    with pytest.raises(NoModelAvailable, match="3 left out: it has no tool calls; 1 left out: it is not free"):
        ModelSelector(models).select_model(NEEDS)


def test_a_model_that_does_not_write_text_cannot_work() -> None:
    # OpenRouter lists previews of audio models at a price of zero.
    audio = ModelCapability.of(make_listed(architecture=Architecture(output_modalities=("audio",))))
    assert missing(audio, NEEDS) == "it does not write text"


def test_a_context_the_catalogue_does_not_tell_is_too_small() -> None:
    assert missing(ModelCapability.of(make_listed(context_length=None)), NEEDS) is not None
