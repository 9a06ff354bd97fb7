"""Models and rankings as people and machines read them."""

from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from devtasks.model_selector import Candidate, LeftOut, Ranking
from devtasks.selection.capability import ModelCapability
from devtasks.selection.requirements import COOLING

PER_MILLION = 1_000_000


@dataclass(frozen=True)
class ModelState:
    """How a model stands: ready to work, cooling down until `ready_at`, or excluded, and why."""

    state: Literal["ready", "cooling", "excluded"]
    ready_at: datetime | None = None
    why: str = ""

    def __str__(self) -> str:
        until = f" until {self.ready_at:%Y-%m-%d %H:%M:%S %Z}" if self.ready_at else ""
        return f"{self.state}{until}" + (f": {self.why}" if self.why else "")


def states(ranking: Ranking) -> dict[str, ModelState]:
    """Return the state of every ranked model by its id; excluded goes before cooling."""
    found = {candidate.model_id: ModelState("ready") for candidate in ranking.candidates}
    return found | {each.model_id: _state(each, ranking) for each in ranking.left_out}


def _state(left_out: LeftOut, ranking: Ranking) -> ModelState:
    first = left_out.failures[0]
    if first.requirement == COOLING:
        return ModelState("cooling", ranking.cooling[left_out.model_id])
    return ModelState("excluded", why=first.reason)


def model_document(model: ModelCapability, state: ModelState) -> dict[str, Any]:
    """Return a model as JSON: prices as strings in USD per token, moments in ISO 8601, null where unknown."""
    return {
        "id": model.model_id,
        "context_length": model.context_length,
        "tools": model.supports_tools,
        "free": model.free,
        "prompt_price": _text(model.prompt_price),
        "completion_price": _text(model.completion_price),
        "specialization": model.specialization,
        "router": model.is_router,
        "expires": model.expires and model.expires.isoformat(),
        "endpoint": model.endpoint and asdict(model.endpoint),
        "priors": asdict(model.priors),
        "state": state.state,
        "ready_at": state.ready_at and state.ready_at.isoformat(),
        "why": state.why or None,
    }


def price(model: ModelCapability) -> str:
    """Return a model's prices of prompt and completion in words, in USD per million tokens."""
    if model.free:
        return "free"
    if model.prompt_price is None or model.completion_price is None:
        return "unknown"
    dollars = (f"${float(each * PER_MILLION):.4g}" for each in (model.prompt_price, model.completion_price))
    return " / ".join(dollars)


def candidate_document(candidate: Candidate) -> dict[str, Any]:
    """Return a candidate as JSON, with the value and the weight of every term of its score."""
    terms = zip(candidate.terms._fields, candidate.terms, candidate.weights, strict=True)
    return {
        "model": candidate.model_id,
        "score": candidate.score,
        "terms": {name: {"value": value, "weight": weight} for name, value, weight in terms},
        "belief": candidate.belief._asdict(),
        "reasons": list(candidate.reasons),
    }


def ranking_document(ranking: Ranking) -> dict[str, Any]:
    """Return the whole ranking as JSON, best first, with every requirement the others failed."""
    left_out = [{"model": each.model_id, "failed": [asdict(it) for it in each.failures]} for each in ranking.left_out]
    return {"candidates": [candidate_document(each) for each in ranking.candidates], "left_out": left_out}


def explanation(candidate: Candidate) -> tuple[str, str]:
    """Return what a score is made of, and what is believed of the model and on which grounds, as two lines."""
    terms = zip(candidate.terms._fields, candidate.terms, candidate.weights, strict=True)
    belief = candidate.belief
    counted = f"{belief.attempts} attempt{'' if belief.attempts == 1 else 's'} counted"
    parts = [f"acceptance expected {belief.mean:.0%}, {counted}"]
    parts += [] if belief.seconds is None else [f"{belief.seconds:.0f} s an attempt"]
    parts += [] if belief.cost is None else [f"${belief.cost:.3g} an attempt"]
    return " + ".join(f"{weight:.2f} x {name} {value:.2f}" for name, value, weight in terms), "; ".join(parts)


def _text(price: Decimal | None) -> str | None:
    return None if price is None else f"{price:f}"
