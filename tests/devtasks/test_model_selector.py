from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from models import NOW, make_model, outcomes

from devtasks.errors import InvalidInput, NoModelAvailable
from devtasks.model_selector import (
    WEIGHTS,
    Mode,
    ModelCapability,
    ModelSelector,
    ModelSpecialization,
    Ranking,
    TaskRequirements,
)
from devtasks.selection.capability import Priors
from devtasks.selection.evidence import Outcome
from devtasks.task import Complexity, TaskCategory

UNIT_TEST = TaskCategory.UNIT_TEST


def needs(**changes: Any) -> TaskRequirements:
    return TaskRequirements(**{"category": UNIT_TEST} | changes)


def rank(
    *models: ModelCapability,
    asked: TaskRequirements | None = None,
    seen: Sequence[Outcome] = (),
    cooling: Mapping[str, datetime] | None = None,
    exclude: Sequence[str] = (),
) -> Ranking:
    selector = ModelSelector(models, now=NOW, outcomes={UNIT_TEST: seen}, cooling=cooling)
    return selector.rank(asked or needs(), exclude)


def order(*models: ModelCapability, **circumstances: Any) -> list[str]:
    return [candidate.model_id for candidate in rank(*models, **circumstances).candidates]


def refusal(*models: ModelCapability, **circumstances: Any) -> NoModelAvailable:
    with pytest.raises(NoModelAvailable) as refused:
        rank(*models, **circumstances).choose()
    return refused.value


@pytest.mark.parametrize("row", WEIGHTS.values(), ids=WEIGHTS)
def test_a_score_is_a_share_and_acceptance_decides_it(row: tuple[float, ...]) -> None:
    assert sum(row) == pytest.approx(1)
    assert row[0] > 0.8


def test_every_complexity_has_its_weights() -> None:
    assert set(WEIGHTS) == set(Complexity)


def test_the_model_whose_results_were_accepted_comes_first() -> None:
    a, b = make_model("m/a"), make_model("m/b")
    assert order(a, b) == ["m/a", "m/b"], "nothing is known, so by id"
    assert order(a, b, seen=outcomes("m/a", False)) == ["m/b", "m/a"]
    assert order(a, b, seen=outcomes("m/a", False, True, True, True) + outcomes("m/b", False)) == ["m/a", "m/b"]


def test_what_was_learnt_in_one_category_says_nothing_of_another() -> None:
    selector = ModelSelector(
        [make_model("m/a"), make_model("m/b")], now=NOW, outcomes={UNIT_TEST: outcomes("m/a", False, False)}
    )
    assert selector.select_model(needs()).model_id == "m/b"
    assert selector.select_model(needs(category=TaskCategory.REFACTORING)).model_id == "m/a"


def test_a_model_that_failed_is_asked_again_when_the_others_turn_bad() -> None:
    a, b = make_model("m/a"), make_model("m/b")
    failed_long_ago = outcomes("m/a", *[False] * 3)
    good = outcomes("m/b", *[True] * 60)
    assert order(a, b, seen=good + failed_long_ago)[0] == "m/b"
    turned_bad = outcomes("m/b", *[False] * 12)
    assert order(a, b, seen=turned_bad + good + failed_long_ago)[0] == "m/a"


def test_a_prior_of_the_catalogue_counts_until_attempts_speak_against_it() -> None:
    praised, unknown = make_model("m/praised", priors=Priors(success=0.95)), make_model("m/a")
    assert order(unknown, praised)[0] == "m/praised"
    assert order(unknown, praised, seen=outcomes("m/praised", *[False] * 3))[0] == "m/a"


def test_code_models_come_first_for_code_and_last_for_prose() -> None:
    code = make_model("z/code")
    general = make_model("a/general", specialization=ModelSpecialization.GENERAL)
    assert order(general, code) == ["z/code", "a/general"]
    for category in (TaskCategory.ANALYSIS, TaskCategory.DOCUMENTATION):
        assert order(general, code, asked=needs(category=category)) == ["a/general", "z/code"]


def test_more_room_is_better_up_to_a_point() -> None:
    tight, roomy, vast = (make_model(f"m/{size}", context_length=size) for size in (32_000, 256_000, 1_000_000))
    assert order(tight, roomy, vast) == ["m/1000000", "m/256000", "m/32000"], "the first two are equal, so by name"


@pytest.mark.parametrize(
    ("better", "seen"),
    [
        pytest.param({"priors": Priors(quality=0.9)}, [], id="quality"),
        pytest.param({"priors": Priors(latency_seconds=0.5)}, [], id="latency"),
        pytest.param(
            {}, outcomes("z/better", True, seconds=10) + outcomes("a/plain", True, seconds=600), id="observed"
        ),
    ],
)
def test_among_equally_good_models_the_others_terms_decide(better: dict[str, Any], seen: list[Outcome]) -> None:
    assert order(make_model("a/plain"), make_model("z/better", **better), seen=seen)[0] == "z/better"


def test_the_order_does_not_depend_on_the_catalogue_s() -> None:
    models = [make_model("m/b"), make_model("m/a"), make_model("m/c", context_length=40_000)]
    assert {tuple(order(*each)) for each in permutations(models)} == {("m/a", "m/b", "m/c")}


def test_a_choice_explains_itself_and_its_terms_add_up_to_its_score() -> None:
    (candidate,) = rank(make_model(), seen=outcomes("acme/coder:free", True, True)).candidates
    assert candidate.reasons == ("acceptance 74% (2 attempts)", "code model", "context 131,072 tokens", "free")
    parts = [weight * value for weight, value in zip(candidate.weights, candidate.terms, strict=True)]
    assert candidate.score == pytest.approx(sum(parts))
    paid = needs(free_only=False)
    for price, words in ((None, "unknown price"), ("2.0", "about $0.15")):
        assert rank(make_model(price=price), asked=paid).choose().reasons[-1] == words


def test_a_model_that_was_tried_is_left_out() -> None:
    models = make_model("m/a"), make_model("m/b")
    assert order(*models, exclude=("m/a",)) == ["m/b"]
    refused = str(refusal(*models, exclude=("m/a", "m/b")))
    assert refused == "none of 2 models can work on this task (2 left out: it was already tried)"


def test_each_model_left_out_is_told_every_requirement_it_failed() -> None:
    (left_out,) = rank(make_model(price="1", supports_tools=False)).left_out
    assert [failure.requirement for failure in left_out.failures] == ["tools", "free_only"]


def test_the_refusal_counts_what_left_models_out_and_says_what_to_relax() -> None:
    models = [make_model(f"m/{n}", supports_tools=False, price="2") for n in range(3)]
    models += [make_model("m/x", price="1"), make_model("m/y", context_length=9_000), make_model("m/z", price="3")]
    assert str(refusal(*models)) == (
        "none of 6 models can work on this task (3 left out: it has no tool calls; 2 left out: it is not free; "
        "1 left out: its context is below 32000 tokens); relax free_only: 2 would do, such as m/x; "
        "relax context_tokens: 1 would do, such as m/y"
    )


def test_relaxing_is_not_advised_where_one_requirement_alone_would_not_help() -> None:
    assert "relax" not in str(refusal(make_model(price="1", supports_tools=False)))


def test_no_model_at_all_is_said_as_such() -> None:
    assert "the catalogue is empty" in str(refusal())


def test_cooling_models_are_left_out_until_they_are_ready() -> None:
    models = make_model("m/a"), make_model("m/b")
    soon, later = NOW + timedelta(minutes=1), NOW + timedelta(hours=1)
    assert order(*models, cooling={"m/a": soon}) == ["m/b"]
    assert order(*models, cooling={"m/a": NOW}) == ["m/a", "m/b"], "its time has come"
    refused = refusal(*models, make_model("m/c", price="1"), cooling={"m/a": later, "m/b": soon, "m/c": NOW})
    assert refused.ready_at == soon
    assert "the first one is ready at 2026-03-01 12:01:00 UTC" in str(refused)


def test_waiting_is_not_promised_for_a_model_that_would_not_do_anyway() -> None:
    refused = refusal(make_model("m/a", price="1"), cooling={"m/a": NOW + timedelta(minutes=1)})
    assert refused.ready_at is None


CHEAP, DEAR, FREE = make_model("m/cheap", price="1"), make_model("m/dear", price="20"), make_model("m/free")
CHEAPEST = needs(mode=Mode.CHEAPEST, free_only=False)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(
            outcomes("m/free", *[False] * 3) + outcomes("m/dear", *[True] * 9) + outcomes("m/cheap", *[True] * 5),
            ["m/cheap", "m/dear", "m/free"],
            id="the-cheapest-that-clears-the-threshold",
        ),
        pytest.param(
            outcomes("m/dear", *[True] * 9) + outcomes("m/cheap", *[True] * 5),
            ["m/free", "m/cheap", "m/dear"],
            id="an-untried-free-one-gets-its-chance",
        ),
        pytest.param(
            outcomes("m/dear", *[True] * 9) + outcomes("m/cheap", *[False] * 5),
            ["m/free", "m/dear", "m/cheap"],
            id="the-dear-one-where-the-cheap-one-fails",
        ),
        pytest.param(
            outcomes("m/free", *[True] * 5) + outcomes("m/cheap", *[True] * 5),
            ["m/free", "m/cheap", "m/dear"],
            id="free-is-cheaper-still",
        ),
        pytest.param([], ["m/free", "m/cheap", "m/dear"], id="the-untried-may-clear-it"),
        pytest.param(
            outcomes("m/free", *[False] * 5) + outcomes("m/cheap", *[False] * 5) + outcomes("m/dear", *[False] * 2),
            ["m/dear", "m/free", "m/cheap"],
            id="nobody-clears-it-so-by-score",
        ),
        pytest.param(
            outcomes("m/dear", *[True] * 9, cost=0.001) + outcomes("m/cheap", *[True] * 9, cost=0.4),
            ["m/free", "m/dear", "m/cheap"],
            id="by-cost-as-observed",
        ),
    ],
)
def test_the_mode_cheapest_takes_the_least_cost_among_the_promising(seen: list[Outcome], expected: list[str]) -> None:
    assert order(CHEAP, DEAR, FREE, asked=CHEAPEST, seen=seen) == expected


def test_an_unknown_price_is_the_dearest() -> None:
    unknown = make_model("m/a", price=None)
    seen = outcomes("m/a", *[True] * 9) + outcomes("m/dear", *[True] * 5)
    assert order(unknown, DEAR, asked=CHEAPEST, seen=seen) == ["m/dear", "m/a"]


def test_an_unknown_model_is_refused_with_the_nearest_ids() -> None:
    with pytest.raises(InvalidInput, match="nearest are acme/coder:free"):
        rank(make_model("acme/coder:free"), make_model("other/thing"), asked=needs(model="coder"))
