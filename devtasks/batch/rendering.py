"""A batch's summary as Markdown, JSON, JUnit XML and one self-contained page of HTML."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any
from xml.etree import ElementTree as Xml

from devtasks.batch.standing import Standing
from devtasks.batch.summary import BatchSummary, BatchTask, MergedBranch
from devtasks.report import fenced

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ACTIVE = re.compile(r"([\\`*_\[\]<>|#!])")
_SHOWN = 300
_SIMULATED = "> The models' answers were **simulated**; nothing here says anything about a real model."


class Format(StrEnum):
    """What a summary can be written as; each is the ending of its file but for Markdown and JUnit XML."""

    MARKDOWN = "markdown"
    JSON = "json"
    JUNIT = "junit"
    HTML = "html"


FILES: Mapping[Format, str] = {
    Format.MARKDOWN: "batch.md",
    Format.JSON: "batch.json",
    Format.JUNIT: "batch.xml",
    Format.HTML: "batch.html",
}
"""The names of a batch's files in its run's folder."""


def render(summary: BatchSummary, to: Format) -> str:
    """Return a summary in one of the formats."""
    return _RENDERERS[to](summary)


def document(summary: BatchSummary) -> dict[str, Any]:
    """Return a summary as JSON's types, with what is counted from its tasks."""
    return {
        **summary.model_dump(mode="json"),
        "counts": summary.counts,
        "all_accepted": summary.all_accepted,
        "simulated": summary.simulated,
        "llm_calls": summary.llm_calls,
        "tokens": summary.tokens,
        "cost_usd": summary.cost_usd,
    }


def task_cells(task: BatchTask) -> dict[str, str]:
    """Return a task as a row of readable cells."""
    mark = " (simulated)" if task.simulated else ""
    note = "; was there before" if task.was_there else ""
    return {
        "task": task.task_id,
        "title": task.title,
        "result": f"{task.standing}{mark}{note}",
        "failure": task.failure or "",
        "attempts": str(task.attempts),
        "calls": str(task.llm_calls),
        "cost": f"${task.cost_usd:.4f}",
        "seconds": f"{task.seconds:.1f}",
        "why": " ".join(task.reason.split())[:_SHOWN],
        "flow run": task.flow_run_id or "",
    }


def branch_line(branch: MergedBranch) -> str:
    """Return in one sentence what became of a repository's merged branch."""
    if branch.branch is None:
        return f"{branch.repository}: no branch: {branch.problem}"
    out = "".join(f"; left out task {task}: {why}" for task, why in branch.left_out.items())
    suite = f"; the project's tests there: {branch.suite}" if branch.suite else ""
    number = len(branch.merged)
    tasks = f"{number} task{'' if number == 1 else 's'}"
    draft = f"; draft pull request: {branch.pull_request}" if branch.pull_request else ""
    missing = f"; no pull request: {branch.problem}" if branch.problem else ""
    place = f"{branch.repository}: branch {branch.branch} at {(branch.commit or '')[:12]}"
    return f"{place} holds {tasks}{out}{suite}{draft}{missing}"


def draft_text(name: str, merged: MergedBranch, tasks: Sequence[BatchTask]) -> tuple[str, str]:
    """Return the title and the text of the pull request of a merged branch, which holds these tasks' patches.

    What is not ours stands in a code block, where GitHub links nobody and closes no issue.
    """
    mark = " (simulated)" if any(task.simulated for task in tasks) else ""
    lines = [f"{len(tasks)} accepted results, a commit for each. The project's tests there: {merged.suite}.", ""]
    if mark:
        lines += [_SIMULATED, ""]
    rows = [(task.title, task.model, f"score {task.score or 0:.2f}", f"run {task.flow_run_id}") for task in tasks]
    lines += fenced("\n".join("; ".join(map(str, row)) for row in rows), "text")
    if merged.left_out:
        out = "\n".join(f"{task}: {' '.join(why.split())}" for task, why in merged.left_out.items())
        lines += ["", "Accepted, but not on this branch:", "", *fenced(out, "text")]
    return f"{' '.join(name.split())}{mark}", "\n".join(lines) + "\n"


def _totals(summary: BatchSummary) -> str:
    return (
        f"{summary.counted} of {len(summary.tasks)} tasks; {summary.llm_calls} calls, {summary.tokens:,} tokens, "
        f"${summary.cost_usd:.4f}"
    )


def _markdown(summary: BatchSummary) -> str:
    lines = [f"# {summary.state}{summary.mark}: batch {_plain(summary.name)}", ""]
    lines += [_plain(summary.reason), ""] if summary.reason else []
    if summary.simulated:
        lines += [_SIMULATED, ""]
    lines += [f"{_totals(summary)}.", ""]
    rows = [task_cells(task) for task in summary.tasks]
    lines += [f"| {' | '.join(rows[0])} |", f"|{'---|' * len(rows[0])}"] if rows else []
    lines += [f"| {' | '.join(map(_plain, row.values()))} |" for row in rows]
    lines += ["", *(f"- {_plain(branch_line(each))}" for each in summary.branches)] if summary.branches else []
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Return a text as one line that Markdown shows as it is."""
    return _ACTIVE.sub(r"\\\1", " ".join(text.split()))


def _json(summary: BatchSummary) -> str:
    return json.dumps(document(summary), indent=2) + "\n"


def _junit(summary: BatchSummary) -> str:
    ends = {task.task_id: _JUNIT.get(task.standing, "error") for task in summary.tasks}
    numbers = {
        name: str(sum(end == word for end in ends.values()))
        for name, word in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
    }
    seconds = sum(task.seconds for task in summary.tasks)
    common = {"tests": str(len(summary.tasks)), **numbers, "time": f"{seconds:.3f}"}
    root = Xml.Element("testsuites", {"name": "devtasks", **common})
    suite = Xml.SubElement(root, "testsuite", {"name": _xml(f"batch {summary.name}{summary.mark}"), **common})
    for task in summary.tasks:
        case = Xml.SubElement(
            suite,
            "testcase",
            {"classname": task.category, "name": _xml(f"{task.task_id} {task.title}"), "time": f"{task.seconds:.3f}"},
        )
        if end := ends[task.task_id]:
            details = {"message": _xml(f"{task.standing}: {task.reason}"), "type": task.failure or str(task.standing)}
            Xml.SubElement(case, end, {"message": details["message"]} if end == "skipped" else details)
        text = "\n".join(f"{name}: {value}" for name, value in task_cells(task).items())
        Xml.SubElement(case, "system-out").text = _xml(text)
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _xml(text: str) -> str:
    """Return a text without what XML cannot hold."""
    return _NOT_IN_XML.sub("\ufffd", text)


_JUNIT: Mapping[Standing, str] = {
    Standing.ACCEPTED: "",
    Standing.APPROVED: "",
    Standing.REJECTED: "failure",
    Standing.NOT_SUBMITTED: "skipped",
    Standing.CANCELLED: "skipped",
    Standing.WAITING: "skipped",
    Standing.RUNNING: "skipped",
    Standing.NEEDS_REVIEW: "skipped",
}
"""The element that says how a task ended, none for one that delivered; all other standings are errors."""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ summary.state }}{{ summary.mark }}: batch {{ summary.name }}</title>
<style>
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem; color: #1b1f24; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #d0d7de; vertical-align: top; }
.accepted { color: #116329; } .approved { color: #7d4e00; } .failure { color: #a40e26; }
.simulated { background: #fff8c5; padding: .4rem .8rem; }
</style>
</head>
<body>
<h1>{{ summary.state }}{{ summary.mark }}: batch {{ summary.name }}</h1>
{% if summary.reason %}<p>{{ summary.reason }}</p>{% endif %}
{% if summary.simulated %}<p class="simulated">The models' answers were <strong>simulated</strong>; nothing here says
anything about a real model.</p>{% endif %}
<p>{{ totals }}.</p>
<table>
<tr>{% for name in rows[0] %}<th>{{ name }}</th>{% endfor %}</tr>
{% for task, row in pairs %}
<tr>{% for name, value in row.items() %}
<td{% if name == "result" %} class="{{ styles.get(task.standing, "failure") }}"{% endif %}>{{ value }}</td>{% endfor %}
</tr>
{% endfor %}
</table>
{% for branch in branches %}<p>{{ branch }}</p>
{% endfor %}
</body>
</html>
"""

_STYLES = {Standing.ACCEPTED: "accepted", Standing.APPROVED: "approved"}


def _html(summary: BatchSummary) -> str:
    from jinja2 import Environment, StrictUndefined

    rows = [task_cells(task) for task in summary.tasks]
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(_PAGE)
    return template.render(
        summary=summary,
        totals=_totals(summary),
        rows=rows,
        pairs=list(zip(summary.tasks, rows, strict=True)),
        branches=[branch_line(each) for each in summary.branches],
        styles=_STYLES,
    )


_RENDERERS: Mapping[Format, Callable[[BatchSummary], str]] = {
    Format.MARKDOWN: _markdown,
    Format.JSON: _json,
    Format.JUNIT: _junit,
    Format.HTML: _html,
}
