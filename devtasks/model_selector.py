"""Which model works on a task: ranked candidates with reasons, from the catalogue and the task's requirements."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from devtasks.errors import NoModelAvailable
from devtasks.openrouter.client import ListedModel
from devtasks.task import Complexity, TaskCategory

MIN_CONTEXT = 32_000
"""Tokens an agent's conversation needs beyond the task's own files: the SDK's first request holds 7-8 thousand
(system prompt and tool schemas, measured with openhands-sdk 1.34), and each step adds its observation."""


class ModelSpecialization(StrEnum):
    """What a model was made for, as far as its name tells."""

    CODE = "code"
    GENERAL = "general"


@dataclass(frozen=True)
class ModelCapability:
    """What the catalogue says of a model; prices in USD per million tokens, None when unknown."""

    model_id: str
    context_length: int
    supports_tools: bool
    price: float | None
    specialization: ModelSpecialization
    writes_text: bool = True

    @property
    def free(self) -> bool:
        """Whether its price is zero, whatever its name says."""
        return self.price == 0

    @classmethod
    def of(cls, model: ListedModel) -> "ModelCapability":
        """Return the capability of a catalogue's entry; the price is the mean of prompt and completion."""
        pricing = model.pricing
        known = pricing.prompt is not None and pricing.completion is not None
        price = float((pricing.prompt or 0) + (pricing.completion or 0)) / 2 * 1e6 if known else None
        is_code = re.search(r"cod(e|er|ing)|devstral|laguna", f"{model.id} {model.name}", re.IGNORECASE)
        return cls(
            model_id=model.id,
            context_length=model.context_length or 0,
            supports_tools="tools" in model.supported_parameters,
            price=price,
            specialization=ModelSpecialization.CODE if is_code else ModelSpecialization.GENERAL,
            writes_text="text" in model.architecture.output_modalities,
        )


@dataclass(frozen=True)
class TaskRequirements:
    """What a task asks of a model; `context_tokens` is what its files and the conversation need."""

    category: TaskCategory
    complexity: Complexity = Complexity.MODERATE
    quality_threshold: float = 0.7
    context_tokens: int = MIN_CONTEXT
    free_only: bool = True
    model: str | None = None


@dataclass(frozen=True)
class Candidate:
    """A model that meets the requirements, its score between 0 and 1 and the terms of that score."""

    capability: ModelCapability
    score: float
    reasons: tuple[str, ...]

    @property
    def model_id(self) -> str:
        """The id to ask for."""
        return self.capability.model_id


class ModelSelector:
    """Ranks the models of a catalogue; pure, so the same catalogue and requirements give the same order."""

    def __init__(self, models: Sequence[ModelCapability]) -> None:
        self._models = models

    def select_model(self, requirements: TaskRequirements, exclude: Collection[str] = ()) -> Candidate:
        """Return the best candidate; raise NoModelAvailable naming the requirements that left models out."""
        ranked = self.rank(requirements, exclude)
        if not ranked:
            raise NoModelAvailable(self._why_none(requirements, exclude))
        return ranked[0]

    def rank(self, requirements: TaskRequirements, exclude: Collection[str] = ()) -> tuple[Candidate, ...]:
        """Return every model that meets the requirements, best first; equal scores are ordered by id."""
        fitting = (model for model in self._models if not missing(model, requirements, exclude))
        candidates = (_score(model, requirements) for model in fitting)
        return tuple(sorted(candidates, key=lambda candidate: (-candidate.score, candidate.model_id)))

    def _why_none(self, requirements: TaskRequirements, exclude: Collection[str]) -> str:
        counts = Counter(missing(model, requirements, exclude) for model in self._models)
        left_out = "; ".join(f"{count} left out: {reason}" for reason, count in counts.most_common())
        return f"none of {len(self._models)} models can work on this task ({left_out or 'the catalogue is empty'})"


def missing(model: ModelCapability, requirements: TaskRequirements, exclude: Collection[str] = ()) -> str | None:
    """Return the first requirement a model fails, or None; a model asked for by name need not be free."""
    asked_for = requirements.model
    table = (
        (model.model_id in exclude, "it was already tried"),
        (bool(asked_for) and model.model_id != asked_for, f"it is not the model asked for ({asked_for})"),
        (not model.writes_text, "it does not write text"),
        (not model.supports_tools, "it has no tool calls"),
        (
            model.context_length < requirements.context_tokens,
            f"its context is below {requirements.context_tokens} tokens",
        ),
        (requirements.free_only and not asked_for and not model.free, "it is not free"),
    )
    return next((reason for fails, reason in table if fails), None)


def _score(model: ModelCapability, requirements: TaskRequirements) -> Candidate:
    wants_code = requirements.category not in (TaskCategory.ANALYSIS, TaskCategory.DOCUMENTATION)
    code = model.specialization is ModelSpecialization.CODE
    fit = 1.0 if code == wants_code else 0.5
    room = min(1.0, model.context_length / (requirements.context_tokens * 8))
    score = 0.7 * fit + 0.3 * room
    cost = "free" if model.free else "unknown price" if model.price is None else f"${model.price:.2f}/M tokens"
    reasons = (f"{model.specialization} model", f"context {model.context_length:,} tokens", cost)
    return Candidate(model, round(score, 4), reasons)
