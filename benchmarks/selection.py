"""How well the selector learns: synthetic populations of models against baselines, and how long a choice takes.

A task is one attempt. Each population draws for every model a probability of acceptance over time, a price, a usual
time and a context; the selector that the flow uses sees only what the ledger would tell it. Regret is expected: the
probability of the best model at that moment less that of the chosen one, so that luck with single tasks cancels out.
"""

import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from math import exp, log
from statistics import fmean, median

from curves import draw
from report import RESULTS, Aim, finish, machine

from devtasks.model_selector import Mode, ModelCapability, ModelSelector, ModelSpecialization, TaskRequirements
from devtasks.selection.evidence import HISTORY, Outcome, tally
from devtasks.task import TaskCategory

TASKS = 500
SEEDS = 40
START = datetime(2026, 1, 1, tzinfo=UTC)
SPACING = timedelta(minutes=15)
COLLAPSE_AT, IMPROVE_AT = 250, 200
RECOVERED, WINDOW = 0.9, 10
BEST = TaskRequirements(TaskCategory.UNIT_TEST, free_only=False)
CHEAPEST = replace(BEST, mode=Mode.CHEAPEST)
CATALOGUE_SIZE = 400

Chances = list[list[float]]
"""The probability of acceptance, by task and model."""

Choose = Callable[[int, "deque[Outcome]"], int]
"""A strategy: from the task's number and the outcomes so far, newest first, to a model's index."""


@dataclass(frozen=True)
class World:
    """One draw of a population: what the selector knows of the models, and what is true of them."""

    models: tuple[ModelCapability, ...]
    chances: Chances
    costs: tuple[float, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Run:
    """What a strategy came to in one world: expected acceptances by task, accepted tasks and money in USD."""

    expected: list[float]
    accepted: int
    money: float


def stable(size: int, rng: random.Random) -> Chances:
    """Return chances that stay as they are."""
    return [[rng.uniform(0.2, 0.9) for _ in range(size)]] * TASKS


def drifting(size: int, rng: random.Random) -> Chances:
    """Return chances that wander, each on its own."""
    odds = [log(chance / (1 - chance)) for chance in stable(size, rng)[0]]
    chances: Chances = []
    for _ in range(TASKS):
        odds = [min(2.9, max(-3.0, each + rng.gauss(0, 0.06))) for each in odds]
        chances.append([1 / (1 + exp(-each)) for each in odds])
    return chances


def collapsing(size: int, rng: random.Random) -> Chances:
    """Return chances of which the best one falls to 0.05 half-way."""
    before = stable(size, rng)[0]
    after = [0.05 if each == max(before) else each for each in before]
    return [before] * COLLAPSE_AT + [after] * (TASKS - COLLAPSE_AT)


def improving(size: int, rng: random.Random) -> Chances:
    """Return chances up to 0.7, of which the worst one rises to 0.95."""
    before = [min(0.7, each) for each in stable(size, rng)[0]]
    after = [0.95 if each == min(before) else each for each in before]
    return [before] * IMPROVE_AT + [after] * (TASKS - IMPROVE_AT)


POPULATIONS: dict[str, tuple[Callable[[int, random.Random], Chances], int]] = {
    "stable 2": (stable, 2),
    "stable 5": (stable, 5),
    "stable 10": (stable, 10),
    "stable 30": (stable, 30),
    "drifting 5": (drifting, 5),
    "drifting 30": (drifting, 30),
    "collapse 2": (collapsing, 2),
    "collapse 5": (collapsing, 5),
    "collapse 15": (collapsing, 15),
    "improving 10": (improving, 10),
}


def draw_world(name: str, seed: int) -> World:
    """Return one draw; what is known of a model says nothing of its chances."""
    rng = random.Random(f"{name} {seed}")
    make, size = POPULATIONS[name]
    chances = make(size, rng)
    prices = [Decimal(0) if rng.random() < 0.5 else Decimal(str(round(rng.uniform(0.1, 3), 3))) for _ in range(size)]
    models = tuple(
        ModelCapability(
            model_id=f"author-{rng.randrange(10**6)}/model-{index}",
            context_length=rng.choice((65_000, 131_072, 262_144, 1_000_000)),
            supports_tools=True,
            prompt_price=price / 1_000_000,
            completion_price=price / 1_000_000,
            specialization=rng.choice(list(ModelSpecialization)),
        )
        for index, price in enumerate(prices)
    )
    costs = tuple(float(price) * 0.075 * rng.uniform(0.5, 2) for price in prices)
    return World(models, chances, costs, tuple(rng.uniform(30, 300) for _ in range(size)))


def play(world: World, choose: Choose, seed: int) -> Run:
    """Return what a strategy comes to; every task's outcome, time and cost is told to it before the next."""
    rng = random.Random(seed)
    history: deque[Outcome] = deque(maxlen=HISTORY)
    expected: list[float] = []
    accepted, money = 0, 0.0
    for task, chances in enumerate(world.chances):
        index = choose(task, history)
        passed = rng.random() < chances[index]
        cost, seconds = world.costs[index] * rng.uniform(0.7, 1.3), world.seconds[index] * rng.uniform(0.7, 1.3)
        model_id = world.models[index].model_id
        history.appendleft(Outcome(model_id, passed, START + task * SPACING, seconds, cost or None))
        expected.append(chances[index])
        accepted += passed
        money += cost
    return Run(expected, accepted, money)


def by_selector(world: World, requirements: TaskRequirements) -> Choose:
    """Return the strategy of the selector itself."""
    index = {model.model_id: number for number, model in enumerate(world.models)}

    def choose(task: int, history: deque[Outcome]) -> int:
        outcomes = {TaskCategory.UNIT_TEST: history}
        selector = ModelSelector(world.models, now=START + task * SPACING, outcomes=outcomes)
        return index[selector.select_model(requirements).model_id]

    return choose


def by_thompson(world: World, seed: int) -> Choose:
    """Return Thompson sampling over the same posterior, with a uniform prior."""
    rng = random.Random(seed)

    def choose(_: int, history: deque[Outcome]) -> int:
        known = tally(history)
        tallies = [known.get(model.model_id) for model in world.models]
        draws = [rng.betavariate(1 + each.accepted, 1 + each.rejected) if each else rng.random() for each in tallies]
        return draws.index(max(draws))

    return choose


def strategies(world: World, seed: int) -> Iterator[tuple[str, Choose]]:
    """Yield every strategy with its name; `best fixed` and `oracle` know what no strategy can."""
    size = len(world.models)
    rng = random.Random(seed)
    totals = [sum(chances[index] for chances in world.chances) for index in range(size)]
    fixed = totals.index(max(totals))
    cheap = _cheapest_above_threshold(world)
    yield "selector", by_selector(world, BEST)
    yield "selector, cheapest", by_selector(world, CHEAPEST)
    yield "Thompson sampling", by_thompson(world, seed)
    yield "round robin", lambda task, _: task % size
    yield "uniform random", lambda _task, _history: rng.randrange(size)
    yield "best fixed", lambda _task, _history: fixed
    yield "cheapest fixed", lambda _task, _history: cheap
    yield "oracle", lambda task, _: max(range(size), key=world.chances[task].__getitem__)


def _cheapest_above_threshold(world: World) -> int:
    """Return the cheapest model whose chance, over all tasks, clears the threshold; the best one where none does."""
    means = [fmean(chances[index] for chances in world.chances) for index in range(len(world.models))]
    clearing = [index for index, mean in enumerate(means) if mean >= CHEAPEST.quality_threshold]
    return min(clearing, key=world.costs.__getitem__) if clearing else means.index(max(means))


def measure(name: str) -> dict[str, list[Run]]:
    """Return every strategy's runs in the draws of one population."""
    runs: dict[str, list[Run]] = {}
    for seed in range(SEEDS):
        world = draw_world(name, seed)
        for strategy, choose in strategies(world, seed):
            runs.setdefault(strategy, []).append(play(world, choose, seed))
    return runs


def regret_curve(runs: dict[str, list[Run]], strategy: str) -> list[float]:
    """Return the cumulative regret after each task, mean over the draws."""
    total = 0.0
    curve: list[float] = []
    for task in range(TASKS):
        pairs = zip(runs["oracle"], runs[strategy], strict=True)
        total += fmean(best.expected[task] - mine.expected[task] for best, mine in pairs)
        curve.append(total)
    return curve


def recovery(runs: dict[str, list[Run]], strategy: str) -> int:
    """Return after how many tasks from the collapse the next WINDOW reach RECOVERED of the oracle's, over all draws."""
    shares = [
        sum(run.expected[task] for run in runs[strategy]) / sum(run.expected[task] for run in runs["oracle"])
        for task in range(COLLAPSE_AT, TASKS)
    ]
    starts = range(len(shares) - WINDOW + 1)
    return next((start for start in starts if fmean(shares[start : start + WINDOW]) >= RECOVERED), len(shares))


def judge(name: str, runs: dict[str, list[Run]]) -> Iterator[Aim]:
    """Yield the aims of one population."""
    share = regret_curve(runs, "selector")[-1] / regret_curve(runs, "round robin")[-1]
    yield Aim(f"{name}: regret as a share of round robin's", share, 1 / 3, "at most")
    if name.startswith("stable"):
        pairs = zip(runs["selector"], runs["best fixed"], strict=True)
        share = fmean(sum(mine.expected) / sum(best.expected) for mine, best in pairs)
        yield Aim(f"{name}: accepted as a share of the best fixed model's", share, 0.9, "at least")
    if name.startswith("collapse"):
        yield Aim(f"{name}: tasks until recovery", recovery(runs, "selector"), 40, "at most")


def time_choice() -> list[float]:
    """Return milliseconds of choosing among CATALOGUE_SIZE models with a full history, the posterior included."""
    rng = random.Random(0)
    models = [
        ModelCapability(f"author-{n % 40}/model-{n}", 131_072, n % 4 > 0, price, price)
        for n in range(CATALOGUE_SIZE)
        for price in [Decimal(n % 2) / 1_000_000]
    ]
    history = [Outcome(rng.choice(models).model_id, rng.random() < 0.6, START, 60, 0.01) for _ in range(HISTORY)]
    samples: list[float] = []
    for requirements in (BEST, CHEAPEST, replace(BEST, free_only=True), replace(BEST, max_cost_usd=0.5)):
        for _ in range(100):
            begin = time.perf_counter()
            selector = ModelSelector(models, now=START, outcomes={TaskCategory.UNIT_TEST: history})
            selector.select_model(requirements)
            samples.append((time.perf_counter() - begin) * 1_000)
    return samples


def main() -> int:
    """Measure, print, draw, and return the exit code."""
    where = machine()
    milliseconds = time_choice()
    rows: list[tuple[str, ...]] = [("population", "strategy", "accepted of 500", "regret", "USD")]
    samples: dict[str, object] = {"milliseconds": milliseconds}
    aims = [Aim(f"median milliseconds to choose among {CATALOGUE_SIZE} models", median(milliseconds), 5, "at most")]
    curves: dict[str, dict[str, list[float]]] = {}
    for number, name in zip(count(1), POPULATIONS):
        print(f"{number} of {len(POPULATIONS)}: {name}", file=sys.stderr)
        runs = measure(name)
        curves[name] = {strategy: regret_curve(runs, strategy) for strategy in runs}
        for strategy, each in runs.items():
            accepted, money = fmean(run.accepted for run in each), fmean(run.money for run in each)
            rows.append((name, strategy, f"{accepted:.1f}", f"{curves[name][strategy][-1]:.1f}", f"{money:.2f}"))
        aims += judge(name, runs)
        samples[name] = {
            strategy: [{"accepted": run.accepted, "expected": sum(run.expected), "usd": run.money} for run in each]
            for strategy, each in runs.items()
        }
    code = finish("selection", where, rows, samples, aims)
    draw(RESULTS / "selection.png", curves, leave_out=("selector, cheapest", "cheapest fixed"))
    return code


if __name__ == "__main__":
    sys.exit(main())
