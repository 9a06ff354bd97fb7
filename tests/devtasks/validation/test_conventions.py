import pytest

from devtasks.validation.conventions import existing_tests, is_test_file, is_test_support, read_tests


@pytest.mark.parametrize(
    ("path", "test", "support"),
    [
        ("tests/test_a.py", True, False),
        ("src/pkg/a_test.py", True, False),
        ("tests/a.py", False, False),
        ("tests/testing.py", False, False),
        ("tests/test_a.txt", False, False),
        ("tests/unit/conftest.py", False, True),
        ("pkg/test/__init__.py", False, True),
        ("conftest.py", False, False),
        ("src/pkg/__init__.py", False, False),
    ],
)
def test_names(path, test, support):
    assert (is_test_file(path), is_test_support(path)) == (test, support)


def test_tests_are_found_where_pytest_searches(tmp_path):
    for folder in ("tests", ".venv/lib", "node_modules/x", "build"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "test_a.py").write_text("def test_one(): pass\n")
    (tmp_path / "tests/test_bad.py").write_text("def test_(:\n")
    assert [(test.path, test.name) for test in existing_tests(tmp_path)] == [("tests/test_a.py", "test_one")]


def test_methods_are_named_with_their_classes_and_helpers_are_not_tests(tmp_path):
    (tmp_path / "test_a.py").write_text(
        "def helper(): pass\nclass TestA:\n  class TestB:\n    async def test_c(self): pass\n  def test_d(self): pass\n"
    )
    assert [test.name for test in read_tests(tmp_path, "test_a.py") or ()] == ["TestA::TestB::test_c", "TestA::test_d"]


def test_the_digest_follows_the_code_and_not_its_place(tmp_path):
    digests = set()
    for text in ("def test_a():\n    assert x\n", "# moved\n\ndef test_a(): assert x\n", "def test_a(): assert y\n"):
        (tmp_path / "test_a.py").write_text(text)
        (test,) = read_tests(tmp_path, "test_a.py") or ()
        digests.add(test.digest)
    assert len(digests) == 2


def test_a_fixture_is_no_test_whatever_its_name(tmp_path):
    decorators = ("@pytest.fixture", "@pytest.fixture(params=[1])", "@fixture", "@pytest.mark.slow")
    text = "".join(f"{each}\ndef test_{number}():\n    assert 1\n" for number, each in enumerate(decorators))
    (tmp_path / "test_a.py").write_text(text)
    assert [test.name for test in read_tests(tmp_path, "test_a.py") or ()] == ["test_3"]
