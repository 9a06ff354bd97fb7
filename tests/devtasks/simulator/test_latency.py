import random

import pytest
from pydantic import TypeAdapter

from devtasks.simulator.latency import Latency


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ({"distribution": "fixed", "seconds": 2}, 2, 2),
        ({"distribution": "uniform", "minimum": 1, "maximum": 3}, 1, 3),
        ({"distribution": "lognormal", "median": 2, "sigma": 0.1}, 1, 4),
    ],
    ids=["fixed", "uniform", "lognormal"],
)
def test_draws_lie_where_the_distribution_puts_them(values, low, high):
    latency = TypeAdapter(Latency).validate_python(values)
    source = random.Random(1)
    draws = sorted(latency.draw(source) for _ in range(200))
    assert low <= draws[0] <= draws[-1] <= high
    assert draws[100] == pytest.approx(2, abs=0.2)
