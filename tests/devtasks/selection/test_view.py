from datetime import timedelta

from models import NOW, make_model, outcomes

from devtasks.model_selector import ModelSelector, TaskRequirements
from devtasks.selection.view import ModelState, explanation, model_document, price, ranking_document, states
from devtasks.task import TaskCategory

SOON = NOW + timedelta(minutes=1)
MODELS = [
    make_model("m/ready"),
    make_model("m/cooling"),
    make_model("m/paid", price="1"),
    make_model("m/both", price="1"),
]
SEEN = {TaskCategory.UNIT_TEST: outcomes("m/ready", True, seconds=42, cost=0.01)}
SELECTOR = ModelSelector(MODELS, now=NOW, cooling={"m/cooling": SOON, "m/both": SOON}, outcomes=SEEN)
RANKING = SELECTOR.rank(TaskRequirements(TaskCategory.UNIT_TEST))


def test_each_model_is_ready_cooling_or_excluded_with_its_reason() -> None:
    assert states(RANKING) == {
        "m/ready": ModelState("ready"),
        "m/cooling": ModelState("cooling", SOON),
        "m/paid": ModelState("excluded", why="it is not free"),
        "m/both": ModelState("excluded", why="it is not free"),
    }


def test_a_state_in_words() -> None:
    assert {model_id: str(state) for model_id, state in states(RANKING).items() if model_id != "m/both"} == {
        "m/ready": "ready",
        "m/cooling": "cooling until 2026-03-01 12:01:00 UTC",
        "m/paid": "excluded: it is not free",
    }


def test_prices_in_words_are_per_million_tokens() -> None:
    assert [price(make_model(price=each)) for each in ("0", "0.15", None)] == ["free", "$0.15 / $0.15", "unknown"]


def test_a_model_as_json_has_exact_prices_and_null_for_what_is_unknown() -> None:
    document = model_document(make_model(price="0.1"), ModelState("cooling", SOON))
    assert (document["prompt_price"], document["free"], document["expires"]) == ("0.0000001", False, None)
    assert (document["state"], document["ready_at"], document["why"]) == ("cooling", "2026-03-01T12:01:00+00:00", None)


def test_a_ranking_as_json_tells_every_term_and_every_failed_requirement() -> None:
    document = ranking_document(RANKING)
    (candidate,) = document["candidates"]
    total = sum(term["value"] * term["weight"] for term in candidate["terms"].values())
    assert abs(candidate["score"] - total) < 1e-9
    assert candidate["belief"]["attempts"] == 1
    failed = {each["model"]: [it["requirement"] for it in each["failed"]] for each in document["left_out"]}
    assert failed == {"m/cooling": ["cooling"], "m/paid": ["free_only"], "m/both": ["free_only", "cooling"]}


def test_an_explanation_tells_terms_and_grounds() -> None:
    terms, grounds = explanation(RANKING.candidates[0])
    assert terms.startswith("0.86 x acceptance ")
    assert grounds == "acceptance expected 67%, 1 attempt counted; 42 s an attempt; $0.005 an attempt"
