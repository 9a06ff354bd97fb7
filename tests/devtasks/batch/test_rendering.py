import json
import re
from xml.etree import ElementTree as Xml

import pytest

from devtasks.batch.rendering import FILES, Format, draft_text, render
from devtasks.batch.standing import Standing
from devtasks.batch.summary import BatchSummary, BatchTask, MergedBranch

HOSTILE = "<script>alert('x')</script> & | `a` \x00\x1b[31m [link](http://x)"


def make_task(task_id: str, standing: Standing, **changes: object) -> BatchTask:
    values = {"title": f"unit_test {task_id}.py", "category": "unit_test", "target_file": f"{task_id}.py"}
    return BatchTask.model_validate(
        values | {"task_id": task_id, "standing": standing, "repository": "/srv/shop"} | changes
    )


def make_summary(*tasks: BatchTask, **changes: object) -> BatchSummary:
    values = {"batch_id": "b1", "name": "night", "state": "Finished", "reason": ""}
    return BatchSummary.model_validate(values | {"tasks": tasks} | changes)


TASKS = (
    make_task("a", Standing.ACCEPTED, attempts=2, llm_calls=7, tokens=1_000, cost_usd=0.25, seconds=12.5),
    make_task("b", Standing.REJECTED, failure="stuck", reason="no result passed", llm_calls=3, cost_usd=0.5),
    make_task("c", Standing.CRASHED),
    make_task("d", Standing.NOT_SUBMITTED),
    make_task("e", Standing.ACCEPTED, was_there=True, cost_usd=9, llm_calls=90),
)


def test_formats_and_files_are_whole() -> None:
    assert set(FILES) == set(Format)
    assert all(render(make_summary(*TASKS), form) for form in Format)


def test_what_was_there_before_is_counted_and_not_paid() -> None:
    summary = make_summary(*TASKS)
    assert summary.counted == "1 not submitted, 2 accepted, 1 rejected, 1 crashed"
    assert (summary.llm_calls, summary.cost_usd, summary.all_accepted) == (10, 0.75, False)


def test_markdown_has_a_row_for_each_task() -> None:
    text = render(make_summary(*TASKS), Format.MARKDOWN)
    assert text.startswith("# Finished: batch night\n")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(TASKS)
    assert "| b | unit\\_test b.py | rejected | stuck | 0 | 3 | $0.5000 | 0.0 | no result passed |" in rows[2]


def test_machines_read_the_counts_too() -> None:
    told = json.loads(render(make_summary(*TASKS), Format.JSON))
    assert told["counts"] == {"not submitted": 1, "accepted": 2, "rejected": 1, "crashed": 1}
    assert (told["cost_usd"], told["tasks"][1]["failure"]) == (0.75, "stuck")


def test_junit_tells_failures_errors_and_what_was_not_tried_apart() -> None:
    suite = Xml.fromstring(render(make_summary(*TASKS), Format.JUNIT))[0]
    assert {name: suite.attrib[name] for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }
    ends = {case.attrib["name"]: [child.tag for child in case if child.tag != "system-out"] for case in suite}
    assert list(ends.values()) == [[], ["failure"], ["error"], ["skipped"], []]
    failure = suite[1].find("failure")
    assert failure is not None
    assert failure.attrib == {"message": "rejected: no result passed", "type": "stuck"}


@pytest.mark.parametrize("form", [Format.HTML, Format.JUNIT])
def test_nothing_that_a_task_says_becomes_markup(form: Format) -> None:
    text = render(make_summary(make_task("a", Standing.REJECTED, reason=HOSTILE), name=HOSTILE), form)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    if form is Format.JUNIT:
        assert "\x1b" not in text
        Xml.fromstring(text)


def test_page_needs_nothing_from_elsewhere() -> None:
    text = render(make_summary(*TASKS), Format.HTML)
    assert not re.search(r"<(?:script|link|img|iframe)|src=|href=|url\(", text)
    assert "default-src 'none'" in text


def test_markdown_of_a_hostile_reason_stays_one_row() -> None:
    text = render(
        make_summary(make_task("a", Standing.REJECTED, reason=f"{HOSTILE}\n\n# Head\n| x |")), Format.MARKDOWN
    )
    assert len([line for line in text.splitlines() if line.startswith("|")]) == 3
    assert "\\<script\\>" in text
    assert "\n# Head" not in text


@pytest.mark.parametrize("form", Format)
def test_simulated_is_said_in_every_format(form: Format) -> None:
    assert "simulated" in render(make_summary(make_task("a", Standing.ACCEPTED, simulated=True)), form)


def test_merged_branch_names_what_is_left_out() -> None:
    branch = MergedBranch(
        repository="/srv/shop", branch="night", commit="c" * 40, merged=("a",), left_out={"b": "it does not apply"}
    )
    text = render(make_summary(*TASKS, branches=(branch,)), Format.MARKDOWN)
    assert "branch night at cccccccccccc holds 1 task; left out task b: it does not apply" in text


def test_pull_request_that_is_missing_is_told_and_leaves_the_batch_undelivered() -> None:
    branch = MergedBranch(repository="/srv/shop", branch="night", commit="c" * 40, merged=("a",))
    opened = branch.model_copy(update={"pull_request": "https://github.com/acme/shop/pull/1"})
    refused = branch.model_copy(update={"problem": "the token may not write"})
    done = make_task("a", Standing.ACCEPTED)
    assert make_summary(done, branches=(opened,)).delivered
    assert "pull/1" in render(make_summary(done, branches=(opened,)), Format.MARKDOWN)
    assert not make_summary(done, branches=(refused,)).delivered
    assert "no pull request: the token may not write" in render(make_summary(done, branches=(refused,)), Format.HTML)


def test_draft_says_what_is_on_the_branch_and_links_nobody() -> None:
    left_out = {"b": "its patch does not apply: closes #7 ```` @someone"}
    merged = MergedBranch(repository="/srv/shop", branch="night", merged=("a",), left_out=left_out, suite="green")
    title, body = draft_text("my night", merged, [make_task("a", Standing.ACCEPTED, simulated=True, model="acme/m")])
    assert title == "my night (simulated)"
    assert "were **simulated**" in body
    assert "/srv/shop" not in body
    _, fence, rest = body.partition("\n`````text\n")
    assert fence
    assert "@someone" in rest.partition("\n`````\n")[0]
    assert "acme/m" in body
