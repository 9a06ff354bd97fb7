import json

import pytest

from devtasks.validation.target_coverage import FunctionLines, TargetCoverage, parse_coverage


def coverage(executed=(), missing=(), taken=(), left=(), functions=()):
    return TargetCoverage(tuple(executed), tuple(missing), tuple(taken), tuple(left), tuple(functions))


def test_the_fraction_counts_lines_and_branches_alike():
    assert coverage([1, 2], [3], [(2, 3)], [(2, -1)]).fraction == 3 / 5
    assert coverage().fraction == 1


def test_almost_everything_is_not_100_percent():
    assert coverage(range(1, 10_000), [10_000]).percent == "99.9%"


def test_the_union_is_what_ran_in_either():
    some = coverage([1], [2, 3], [(1, 2)], [(1, 3)])
    others = coverage([3], [1, 2], [], [(1, 2), (1, 3)])
    assert some.union(others) == coverage([1, 3], [2], [(1, 2)], [(1, 3)])
    assert some.union(others).total == some.total == others.total


def test_nothing_ran_keeps_the_statements():
    assert coverage([1], [2], [(1, 2)], []).without_executed() == coverage([], [1, 2], [], [(1, 2)])


def test_what_is_uncovered_is_named():
    functions = [FunctionLines("a", (2, 3, 4)), FunctionLines("B.c", (7, 8))]
    found = coverage([1, 7], [2, 3, 4, 8, 10], [], [(2, 3), (7, 8), (7, -6)], functions)
    assert found.uncovered() == (
        "functions never run: `a`; lines not run: 2-4, 8, 10; branches not taken (from line to line): 7 to 8, 7 to exit"
    )
    assert coverage([1]).uncovered() == ""


def test_a_long_list_is_cut_with_its_count():
    assert coverage([], range(1, 101, 2)).uncovered().endswith("29 and 35 more")


REGION = {"executed_lines": [1], "missing_lines": [], "executed_branches": [], "missing_branches": []}


@pytest.mark.parametrize(
    "report",
    [
        b"",
        b"[]",
        b'{"files": 3}',
        json.dumps({"files": {"other.py": {**REGION, "functions": {}}}}).encode(),
        json.dumps({"files": {"a.py": REGION}}).encode(),
        json.dumps({"files": {"a.py": {**REGION, "functions": {}, "executed_lines": [-3]}}}).encode(),
        json.dumps({"files": {"a.py": {**REGION, "functions": {}}}, "tests": ["t"], "lines": {"1": [1]}}).encode(),
    ],
    ids=["empty", "a list", "a wrong type", "another file", "no functions", "a negative line", "a test without a name"],
)
def test_a_report_that_does_not_tell_the_target_is_none(report):
    assert parse_coverage(report, "a.py") is None


def test_a_report_is_read_without_the_modules_own_region():
    regions = {"f": {"executed_lines": [], "missing_lines": [3]}, "": {"executed_lines": [1], "missing_lines": []}}
    report = json.dumps({"files": {"a.py": {**REGION, "missing_lines": [3], "functions": regions}}}).encode()
    assert parse_coverage(report, "a.py") == coverage([1], [3], functions=[FunctionLines("f", (3,))])
