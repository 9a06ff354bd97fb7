"""The summary of a batch: one value that its files, artifacts and the command line are made from."""

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from devtasks.batch.standing import OPEN, Standing, count


class BatchTask(BaseModel):
    """One task of a batch and what came of it; `failure` is the last attempt's kind.

    `was_there` is a task that an earlier submission had answered: its calls and cost are not the batch's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task_id: str
    title: str
    category: str
    target_file: str | None
    repository: str
    standing: Standing
    reason: str = ""
    flow_run_id: str | None = None
    was_there: bool = False
    failure: str | None = None
    attempts: int = 0
    llm_calls: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0
    score: float | None = None
    model: str | None = None
    simulated: bool = False
    diff_path: str | None = None
    branch: str | None = None


class MergedBranch(BaseModel):
    """The branch of one repository that accepted patches were put together on.

    `left_out` says why a task's patch is not on it, by task; `suite` how the project's tests ended there, None where
    they were not run. `problem` says why there is no branch, or none of the pull request that was wanted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str
    branch: str | None = None
    commit: str | None = None
    merged: tuple[str, ...] = ()
    left_out: Mapping[str, str] = {}
    suite: str | None = None
    pull_request: str | None = None
    problem: str | None = None


class BatchSummary(BaseModel):
    """What came of a batch; `state` is its flow run's, `reason` says what stopped it where something did."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_id: str
    name: str
    state: str
    reason: str
    tasks: tuple[BatchTask, ...]
    started_at: datetime | None = None
    ended_at: datetime | None = None
    branches: tuple[MergedBranch, ...] = ()

    @property
    def counts(self) -> Mapping[Standing, int]:
        """How many tasks stand where, without those standings that none has."""
        return {standing: number for standing, number in count(each.standing for each in self.tasks).items() if number}

    @property
    def simulated(self) -> bool:
        """Whether any of the tasks was worked on by a simulated model."""
        return any(each.simulated for each in self.tasks)

    @property
    def mark(self) -> str:
        """The word that everything made with a simulated model carries, with a leading space; else nothing."""
        return " (simulated)" if self.simulated else ""

    @property
    def all_accepted(self) -> bool:
        """Whether every task was accepted."""
        return all(each.standing is Standing.ACCEPTED for each in self.tasks)

    @property
    def delivered(self) -> bool:
        """Whether every task was accepted, and what was wanted of them together was made."""
        return self.all_accepted and not any(each.problem for each in self.branches)

    @property
    def open(self) -> bool:
        """Whether some task is still waiting or at work."""
        return any(each.standing in OPEN for each in self.tasks)

    @property
    def llm_calls(self) -> int:
        """The calls of the batch's own tasks."""
        return sum(each.llm_calls for each in self.tasks if not each.was_there)

    @property
    def tokens(self) -> int:
        """The tokens of the batch's own tasks."""
        return sum(each.tokens for each in self.tasks if not each.was_there)

    @property
    def cost_usd(self) -> float:
        """The US dollars of the batch's own tasks."""
        return sum(each.cost_usd for each in self.tasks if not each.was_there)

    @property
    def counted(self) -> str:
        """The counts as a person reads them, such as `2 accepted, 1 rejected`."""
        return ", ".join(f"{number} {standing}" for standing, number in self.counts.items())
