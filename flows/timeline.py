"""The run's timeline: each step of the policy as an event, and as a line of one artifact that grows."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from uuid import UUID

from prefect.artifacts import acreate_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.events import emit_event

from devtasks.recovery import Attempt, FailureKind, Step

KEY = "timeline"


@dataclass(frozen=True)
class Line:
    """One step: when it was decided (UTC), after which attempt of which model, for which failure, and why.

    `simulated` is whether the model is.
    """

    at: datetime
    attempt: int
    model: str
    failure: FailureKind | None
    step: Step
    why: str
    simulated: bool


@dataclass
class Timeline:
    """A run's steps so far, and the artifact that shows them."""

    lines: tuple[Line, ...] = ()
    artifact: UUID | None = None

    async def add(self, flow_run_id: str, line: Line) -> None:
        """Emit a step as `devtasks.task.STEP` and show it in the artifact."""
        self.lines += (line,)
        emit_event(
            f"devtasks.task.{line.step}",
            resource={"prefect.resource.id": f"devtasks.task.{flow_run_id}"},
            related=[{"prefect.resource.id": f"prefect.flow-run.{flow_run_id}", "prefect.resource.role": "flow-run"}],
            payload=asdict(line) | {"at": line.at.isoformat()},
        )
        table = [_cells(each) for each in self.lines]
        if self.artifact is None:
            self.artifact = await acreate_table_artifact(table, key=KEY, description="What followed each attempt")
            return
        async with get_client() as client:
            await client.update_artifact(self.artifact, ArtifactUpdate(data=json.dumps(table)))


def line_of(number: int, attempt: Attempt, step: Step, why: str, *, simulated: bool) -> Line:
    """Return a step that is decided now."""
    return Line(datetime.now(UTC), number, attempt.model, attempt.failure, step, why, simulated)


def _cells(line: Line) -> dict[str, str | int]:
    return {
        "time (UTC)": f"{line.at:%Y-%m-%d %H:%M:%S}",
        "attempt": line.attempt,
        "model": line.model + (" (simulated)" if line.simulated else ""),
        "failure": line.failure or "",
        "step": line.step.replace("_", " "),
        "why": line.why,
    }
