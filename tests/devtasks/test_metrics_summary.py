from datetime import UTC, datetime

from builders import make_attempt

from devtasks.metrics_summary import model_rows, report_periods, summary_markdown

NOW = datetime(2026, 3, 10, 6, 30, tzinfo=UTC)


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, tzinfo=UTC)


def test_the_periods_are_whole_days_of_utc_that_are_over() -> None:
    yesterday, longer = report_periods(NOW, 5)
    assert (yesterday.since, yesterday.until) == (at(9), at(10))
    assert (longer.since, longer.until) == (at(5), at(10))


def test_each_period_sums_up_the_attempts_that_began_in_it() -> None:
    rows = [
        make_attempt(task_id="old", started_at=at(4, 23)),
        make_attempt(task_id="week", started_at=at(5), outcome="rejected", failure="rejected"),
        make_attempt(task_id="yesterday", started_at=at(9, 23), cost_usd=0.25),
        make_attempt(task_id="today", started_at=at(10)),
    ]
    _, yesterday, longer = summary_markdown(report_periods(NOW, 5), rows).split("\n## ")
    assert yesterday.startswith("Yesterday (2026-03-09 UTC)")
    assert "1 of 1 tasks accepted (100%), 1 of 1 attempts, 3 calls, 110 tokens, $0.2500" in yesterday
    assert longer.startswith("The last 5 days (2026-03-05 to 2026-03-09 UTC)")
    assert "1 of 2 tasks accepted (50%), 1 of 2 attempts" in longer
    assert "| acme/coder:free | all | 2 | 1 | 50% |" in longer


def test_nothing_to_report_is_said_and_simulated_attempts_are_nothing() -> None:
    text = summary_markdown(report_periods(NOW, 5), [make_attempt(started_at=at(9), simulated=True)])
    assert text.count("Nothing to report") == 2
    assert "Attempts by simulated models are left out." in text


def test_a_table_by_category_has_a_row_for_each() -> None:
    rows = [make_attempt(started_at=at(9)), make_attempt(started_at=at(9), category="refactoring")]
    table = model_rows(report_periods(NOW, 5)[0].of(rows).models(by_category=True))
    assert [row["category"] for row in table] == ["refactoring", "unit_test"]
