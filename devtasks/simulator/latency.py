"""How long a simulated model thinks before it answers."""

import math
import random
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from devtasks.simulator.strict import Strict

Seconds = Annotated[float, Field(ge=0)]


class FixedLatency(Strict):
    """Always the same number of seconds."""

    distribution: Literal["fixed"]
    seconds: Seconds

    def draw(self, _source: random.Random) -> float:
        """Return the seconds of one call."""
        return self.seconds


class UniformLatency(Strict):
    """Any time between two bounds, in seconds."""

    distribution: Literal["uniform"]
    minimum: Seconds
    maximum: Seconds

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError("a minimum that is not above the maximum")
        return self

    def draw(self, source: random.Random) -> float:
        """Return the seconds of one call."""
        return source.uniform(self.minimum, self.maximum)


class LognormalLatency(Strict):
    """Mostly near the median in seconds, sometimes much longer; `sigma` is the spread of the logarithm."""

    distribution: Literal["lognormal"]
    median: Annotated[float, Field(gt=0)]
    sigma: Seconds

    def draw(self, source: random.Random) -> float:
        """Return the seconds of one call."""
        return source.lognormvariate(math.log(self.median), self.sigma)


Latency = Annotated[FixedLatency | UniformLatency | LognormalLatency, Field(discriminator="distribution")]
