import os

import pytest

from devtasks.validation.pytest_options import kept_options, own_settings

ADDOPTS = "--cov=pkg -n 4 --import-mode=importlib -m 'not slow' -q"
KEPT = ("--import-mode=importlib", "-m", "not slow")
CONFIGURATIONS = {
    "pyproject.toml": f'[tool.pytest.ini_options]\naddopts = "{ADDOPTS}"\n',
    "pyproject.toml with a list": '[tool.pytest]\naddopts = ["--import-mode=importlib", "-m", "not slow", "-v"]\n',
    "pytest.toml": f'[pytest]\naddopts = "{ADDOPTS}"\n',
    "pytest.ini": f"[pytest]\naddopts =\n  {ADDOPTS}\n",
    "tox.ini": f"[tox]\nenvlist = py\n[pytest]\naddopts = {ADDOPTS}\n",
    "setup.cfg": f"[tool:pytest]\naddopts = {ADDOPTS}\n",
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_what_decides_about_tests_is_kept_and_plugins_options_are_not(tmp_path, name):
    (tmp_path / name.partition(" ")[0]).write_text(CONFIGURATIONS[name])
    assert kept_options(tmp_path) == KEPT
    assert "-c" not in own_settings(tmp_path)


def test_an_option_and_its_value_may_be_apart(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --ignore tests/slow --maxfail 3 -k fast --deselect=a\n")
    assert kept_options(tmp_path) == ("--ignore", "tests/slow", "-k", "fast", "--deselect=a")


def test_the_first_file_that_configures_pytest_wins(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -k ini\n")
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "-k toml"\n')
    assert kept_options(tmp_path) == ("-k", "ini")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", "[tool.pytest.ini_options\n"),
        ("pyproject.toml", "[tool]\npytest = 3\n"),
        ("pyproject.toml", "[project]\nname = 'x'\n"),
        ("pytest.ini", "addopts = -k x\n"),
        ("setup.cfg", "[metadata]\nname = x\n"),
    ],
)
def test_a_project_without_settings_for_pytest_does_not_get_those_of_a_folder_above(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert kept_options(tmp_path) == ()
    assert own_settings(tmp_path)[-2:] == ("-c", os.devnull)


def test_options_that_cannot_be_split_are_left_out(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -k 'x\n")
    assert kept_options(tmp_path) == ()
