import pytest

from devtasks.validation.junit import CaseOutcome, parse_junit

HEAD = '<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite>'
TAIL = "</testsuite></testsuites>"


def report(*cases: str) -> bytes:
    return (HEAD + "".join(cases) + TAIL).encode()


def case(attributes: str, inner: str = "") -> str:
    return f"<testcase {attributes}>{inner}</testcase>"


IN_CLASS = 'classname="tests.test_a.TestX.TestY" name="test_m[a.b::c]" file="tests/test_a.py" line="6"'


def test_the_id_is_the_one_pytest_prints_and_the_line_counts_from_one():
    (found,) = parse_junit(report(case(IN_CLASS)))
    assert found.nodeid == "tests/test_a.py::TestX::TestY::test_m[a.b::c]"
    assert found.place == "tests/test_a.py:7"
    assert found.outcome is CaseOutcome.PASSED


@pytest.mark.parametrize(
    ("attributes", "nodeid"),
    [
        ('classname="tests.test_b.TestB" name="test_m" file="tests/base.py"', "tests.test_b.TestB::test_m"),
        ('classname="" name="tests.test_a"', "tests.test_a"),
    ],
    ids=["inherited from another file", "a file that could not be imported"],
)
def test_the_id_of_a_case_outside_its_file(attributes, nodeid):
    assert parse_junit(report(case(attributes)))[0].nodeid == nodeid


@pytest.mark.parametrize(
    ("inner", "outcome"),
    [
        ('<failure message="assert 0">text</failure>', CaseOutcome.FAILED),
        ('<error message="on setup">text</error>', CaseOutcome.ERROR),
        ('<skipped type="pytest.xfail" message="" />', CaseOutcome.SKIPPED),
        ("<system-out>printed</system-out>", CaseOutcome.PASSED),
    ],
)
def test_outcomes(inner, outcome):
    assert parse_junit(report(case(IN_CLASS, inner)))[0].outcome is outcome


def test_a_test_reported_twice_counts_once_with_its_worst_end():
    bad = case(IN_CLASS, '<error message="teardown" />')
    (found,) = parse_junit(report(case(IN_CLASS), bad, case(IN_CLASS)))
    assert (found.outcome, found.message) == (CaseOutcome.ERROR, "teardown")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not xml",
        b"\xff\xfe<",
        HEAD.encode(),
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><testsuites/>',
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE x []><testsuites/>').encode("utf-16"),
    ],
    ids=["empty", "prose", "bytes", "cut off", "entities", "entities in another encoding"],
)
def test_what_pytest_would_not_write_is_refused(text):
    with pytest.raises(ValueError, match=r"JUnit|document type|decode"):
        parse_junit(text)
