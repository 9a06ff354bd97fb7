"""Where tasks stand: their reports as the server keeps them, else what their flow runs' states say."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact, FlowRun, StateType

from devtasks.report import TaskReport
from tasks.deliver_result import REPORT_KEY

OUTCOMES: Mapping[StateType, str] = {
    StateType.COMPLETED: "unverified",
    StateType.FAILED: "failed",
    StateType.CANCELLED: "cancelled",
    StateType.CRASHED: "crashed",
}
"""What a flow run without a report came to, by its state's type; any other is still open."""

_AT_ONCE = 20
"""Tasks whose reports are asked for together: one asked by a person has several."""


async def read_report(client: PrefectClient, flow_run: FlowRun) -> TaskReport:
    """Return where a task stands: its report where it has one, else what the flow run's state says."""
    return (await read_reports(client, [flow_run]))[0]


async def read_reports(client: PrefectClient, flow_runs: Sequence[FlowRun]) -> Sequence[TaskReport]:
    """Return where each of these tasks stands."""
    found: dict[UUID, Artifact] = {}
    for start in range(0, len(flow_runs), _AT_ONCE):
        found |= await _newest(client, [each.id for each in flow_runs[start : start + _AT_ONCE]])
    return [_report(each, found.get(each.id)) for each in flow_runs]


async def _newest(client: PrefectClient, flow_run_ids: list[UUID]) -> Mapping[UUID, Artifact]:
    artifacts = await client.read_artifacts(
        artifact_filter=ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=flow_run_ids), key=ArtifactFilterKey(any_=[REPORT_KEY])
        )
    )
    oldest_first = sorted(artifacts, key=lambda artifact: str(artifact.created))
    return {each.flow_run_id: each for each in oldest_first if each.flow_run_id}


def _report(flow_run: FlowRun, artifact: Artifact | None) -> TaskReport:
    state = flow_run.state
    name = (state and state.name) or "Pending"
    if artifact and state and (state.is_final() or state.is_paused()):
        report = TaskReport.model_validate_json(str(artifact.data))
        now = {"state": name}
        if report.outcome == "open" and state.is_final():  # nobody answered, or it was cancelled while it was asked
            now |= {"outcome": OUTCOMES[state.type], "reason": state.message or ""}
        return report.model_copy(update=now)
    return TaskReport(
        task_id=str(flow_run.id),
        flow_run_id=str(flow_run.id),
        title=flow_run.name,
        state=name,
        outcome=OUTCOMES.get(state.type, "open") if state else "open",
        reason=(state and state.message) or "",
        repository=str((flow_run.parameters or {}).get("repository", "")),
    )
