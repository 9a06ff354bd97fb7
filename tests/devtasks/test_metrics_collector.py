import subprocess
import sys
from functools import partial

import builders
import pytest

from devtasks.metrics_collector import ExecutionMetrics, MetricsCollector, ModelMetrics, SystemMetrics

EMPTY = SystemMetrics(0, 0, 0.0, 0, 0, 0.0, 0, 0, 0, 0.0)


make_attempt = partial(builders.make_attempt, model_requested="a/model", llm_calls=2, cost_usd=0.25)
REJECTED = {"outcome": "rejected", "failure": "tests_fail"}
FAILED = {"outcome": "failed", "failure": "upstream_429", "score": 0.0}

ROWS = (
    make_attempt(task_id="one", attempt=1, score=0.5, seconds=20.0, **REJECTED),
    make_attempt(task_id="one", attempt=2, seconds=30.0),
    make_attempt(task_id="two", attempt=1, **FAILED),
    make_attempt(task_id="two", attempt=2, **FAILED),
    make_attempt(task_id="three", category="refactoring", model_served="b/model", score=0.75),
    make_attempt(task_id="four", simulated=True, cost_usd=0.0),
)


def test_a_task_with_several_attempts_counts_once() -> None:
    assert MetricsCollector(ROWS).system() == SystemMetrics(
        tasks=3,
        accepted_tasks=2,
        task_acceptance_rate=pytest.approx(2 / 3),
        attempts=5,
        accepted_attempts=2,
        attempt_acceptance_rate=pytest.approx(0.4),
        llm_calls=10,
        prompt_tokens=500,
        completion_tokens=50,
        cost_usd=1.25,
    )


def test_each_model_is_summed_up_over_its_attempts() -> None:
    a_model, b_model = MetricsCollector(ROWS).models()
    assert a_model == ModelMetrics(
        model_id="a/model",
        category=None,
        attempts=4,
        accepted=1,
        acceptance_rate=0.25,
        mean_score=0.75,
        mean_seconds=17.5,
        p50_seconds=15.0,
        p95_seconds=pytest.approx(28.5),
        prompt_tokens=400,
        completion_tokens=40,
        cost_usd=1.0,
        failures={"upstream_429": 2, "tests_fail": 1},
    )
    assert (b_model.model_id, b_model.attempts, b_model.acceptance_rate, b_model.failures) == ("b/model", 1, 1.0, {})


def test_the_model_that_served_is_the_one_that_counts() -> None:
    (served,) = MetricsCollector([make_attempt(model_requested="a/model", model_served="c/model")]).models()
    assert served.model_id == "c/model"


def test_models_can_be_split_by_category() -> None:
    rows = [*ROWS, make_attempt(category="refactoring", **FAILED)]
    split = MetricsCollector(rows).models(by_category=True)
    assert [(row.model_id, row.category, row.attempts) for row in split] == [
        ("a/model", "refactoring", 1),
        ("a/model", "unit_test", 4),
        ("b/model", "refactoring", 1),
    ]
    assert split[0].mean_score == 0.0, "a model never judged has no score, not NaN"


def test_only_simulated_attempts_are_counted_when_asked_for() -> None:
    collector = MetricsCollector(ROWS, simulated=True)
    assert (collector.system().tasks, collector.system().cost_usd) == (1, 0.0)
    assert [row.attempts for row in collector.models()] == [1]


@pytest.mark.parametrize(
    "rows", [pytest.param([], id="no-rows"), pytest.param([make_attempt(simulated=True)], id="only-simulated")]
)
def test_nothing_measured_gives_zeros(rows: list[ExecutionMetrics]) -> None:
    assert MetricsCollector(rows).system() == EMPTY
    assert MetricsCollector(rows).models() == ()
    assert MetricsCollector(rows).models(by_category=True) == ()


def test_values_are_plain_python_so_that_they_can_be_written_as_json() -> None:
    (model,) = MetricsCollector([make_attempt(**REJECTED)]).models()
    values = [*vars(model).values(), *model.failures.values(), *vars(MetricsCollector(ROWS).system()).values()]
    assert {type(value) for value in values} <= {str, int, float, dict, type(None)}


def test_pandas_is_imported_only_when_a_summary_is_asked_for() -> None:
    code = "import sys, devtasks.metrics_collector; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
