"""The report of a task: one value that the artifacts, the command line and machines read."""

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict

from devtasks.metrics_collector import ExecutionMetrics
from devtasks.task import DevTask
from devtasks.validation.result import Finding

MAX_DIFF = 100_000
"""Characters of a diff that an artifact shows; the patch file holds it whole."""


DELIVERED = frozenset({"accepted", "approved"})
"""Outcomes whose result was handed over as the task asked."""

_CHANGE: Mapping[str, str] = {
    **dict.fromkeys(DELIVERED, "Delivered"),
    "undelivered": "No pull request, but delivered",
}
"""By outcome what became of the change that a report shows; of any other, nothing."""


class TaskReport(BaseModel):
    """Where a task stands, with every attempt; the stable answer of `demo --json` and `get-status --json`.

    `state` is the Prefect state's name, `outcome` accepted, approved (by a person, not by validation), undelivered (one
    of both, but the pull request is missing), rejected, failed, cancelled, crashed, unverified (it ended as completed
    but left no report) or open.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task_id: str
    flow_run_id: str
    title: str
    state: str
    outcome: str
    reason: str
    repository: str
    simulated: bool = False
    isolation: str | None = None
    base_commit: str | None = None
    attempts: tuple[ExecutionMetrics, ...] = ()
    diff_path: str | None = None
    evidence: str | None = None
    branch: str | None = None
    commit: str | None = None
    pull_request: str | None = None

    @property
    def mark(self) -> str:
        """The word that everything made with a simulated model carries, with a leading space; else nothing."""
        return " (simulated)" if self.simulated else ""


def verdict_markdown(report: TaskReport) -> str:
    """Return the verdict as Markdown: outcome, reason, attempts and the last attempt's findings."""
    lines = [f"# {report.state}{report.mark}: {report.title}", "", report.reason, ""]
    if report.simulated:
        lines += ["> The model's answers were **simulated**; nothing here says anything about a real model.", ""]
    lines += _attempt_table(report)
    for attempt in report.attempts:
        lines += ["", f"## Attempt {attempt.attempt}: {attempt.model_requested}", ""]
        lines += [finding_line(finding) for finding in attempt.findings] or ["No findings."]
        lines += _evidence(report, attempt.attempt)
    lines += ["", f"Isolation: {report.isolation}. Base commit: `{report.base_commit}`."]
    change = report.pull_request or report.branch or report.diff_path
    what = _CHANGE.get(report.outcome, "Not delivered; the last attempt's change")
    lines += [f"{what}: `{change}`."] if change else []
    return "\n".join(lines) + "\n"


def pull_request_text(report: TaskReport) -> tuple[str, str]:
    """Return the title and the text of a report's pull request.

    What the model had a hand in stands in a code block, where GitHub links nobody and closes no issue; paths of this
    machine are left out.
    """
    lines = [f"**{report.state}{report.mark}**: {report.title}", "", report.reason, ""]
    if report.simulated:
        lines += ["> The model's answers were **simulated**; nothing here says anything about a real model.", ""]
    lines += _attempt_table(report)
    found = [finding_line(finding) for attempt in report.attempts[-1:] for finding in attempt.findings]
    if found:
        lines += ["", "What the validation found in the last attempt:", "", *fenced("\n".join(found), "text")]
    lines += ["", f"Isolation: {report.isolation}. Base commit: {report.base_commit}. Flow run: {report.flow_run_id};"]
    lines += [f"`devtasks show {report.flow_run_id}` replays what its agent did."]
    return f"{report.title}{report.mark}", "\n".join(lines) + "\n"


def _evidence(report: TaskReport, attempt: int) -> list[str]:
    """Return where an attempt's evidence is and how to see it; a path, because browsers follow no link to a file."""
    if report.evidence is None:
        return []
    place = f"{report.evidence}/attempts/{attempt}"
    shown = f"Replay: `devtasks show {report.flow_run_id} --attempt {attempt}`."
    return ["", f"Trajectory, last words, verdict and diff: `{place}`. {shown}"]


def diff_markdown(diff: str, *, simulated: bool) -> str:
    """Return a diff as a Markdown code block, cut at MAX_DIFF characters."""
    cut = f"\n… {len(diff) - MAX_DIFF} characters cut; the patch file holds them" if len(diff) > MAX_DIFF else ""
    head = "Made with a **simulated** model.\n\n" if simulated else ""
    return head + "\n".join(fenced(f"{diff[:MAX_DIFF]}{cut}", "diff")) + "\n"


def fenced(text: str, language: str) -> list[str]:
    """Return the lines of a Markdown code block that no text can end."""
    fence = "`" * max(4, _longest_run(text) + 1)
    return [f"{fence}{language}", text, fence]


def _attempt_table(report: TaskReport) -> list[str]:
    head = ["| # | model | outcome | score | calls | tokens | cost | seconds |", "|---|---|---|---|---|---|---|---|"]
    return head + ["| " + " | ".join(row) + " |" for row in attempt_rows(report.attempts)]


def attempt_rows(attempts: Iterable[ExecutionMetrics]) -> list[tuple[str, ...]]:
    """Return for each attempt: number, model, outcome, score, calls, tokens, cost and seconds, as readable cells."""
    return [
        (
            str(attempt.attempt),
            _models(attempt) + (" (simulated)" if attempt.simulated else ""),
            _ending(attempt),
            f"{attempt.score:.2f}",
            str(attempt.llm_calls),
            f"{attempt.prompt_tokens + attempt.completion_tokens:,}",
            f"${attempt.cost_usd:.4f}",
            f"{attempt.seconds:.1f}",
        )
        for attempt in attempts
    ]


def _models(attempt: ExecutionMetrics) -> str:
    return attempt.model_requested + (f" (after {attempt.rotations} in trouble)" if attempt.rotations else "")


def _ending(attempt: ExecutionMetrics) -> str:
    failure = f" ({attempt.failure})" if attempt.failure not in (None, attempt.outcome) else ""
    return f"{attempt.outcome}{failure}"


def finding_line(finding: Finding) -> str:
    """Return a finding as one line of Markdown."""
    place = f" at `{finding.place}`" if finding.place else ""
    return f"- **{finding.level}** {finding.rule}{place}: {finding.message}"


def delivered_message(
    *, task: DevTask, flow_run_id: str, model: str | None, score: float, passed: bool, simulated: bool
) -> str:
    """Return the message of a delivered commit: what, the verdict, and the trailers that name task and run."""
    mark = " (simulated)" if simulated else ""
    verdict = (
        f"accepted{mark}, score {score:.2f}, validated independently of the agent."
        if passed
        else f"NOT accepted by validation{mark}, score {score:.2f}; delivered because a person said so."
    )
    return (
        f"{task.title}{mark}\n\n"
        f"{task.description.splitlines()[0][:200]}\n\n"
        f"Verdict: {verdict}\n\n"
        f"Devtasks-Task: {task.task_id}\n"
        f"Devtasks-Run: {flow_run_id}\n"
        f"Devtasks-Model: {model}{mark}\n"
    )


def _longest_run(text: str) -> int:
    longest = current = 0
    for character in text:
        current = current + 1 if character == "`" else 0
        longest = max(longest, current)
    return longest
