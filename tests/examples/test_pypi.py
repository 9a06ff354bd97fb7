import re
import tarfile
from io import BytesIO

import pytest

from devtasks.recovery import FailureKind
from devtasks.simulator import Scenario
from devtasks.task import TaskLimits
from devtasks.validation.conventions import is_test_file
from examples.pypi.packages import FOLDER, PACKAGES, Package
from examples.pypi.source import make_repository

every_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)


def test_packages_and_scenario_files_belong_to_each_other():
    names = [package.name for package in PACKAGES]
    assert len(set(names)) == len(names)
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(names)


@every_package
def test_scenario_loads_and_talks_about_the_module(package: Package):
    scenario = Scenario.load(package.scenario)
    matches = [conversation.match for model in scenario.models for conversation in model.conversations]
    assert any(match.pattern and match.search(f"`{package.module}`") for match in matches)


@every_package
def test_source_is_pinned(package: Package):
    assert re.fullmatch(r"[0-9a-f]{64}", package.sha256)
    assert re.fullmatch(r"\d+(\.\d+)+", package.version)
    assert package.licence in {"MIT", "BSD-3-Clause"}


@every_package
def test_files_taken_away_and_expected_are_tests(package: Package):
    assert package.module.endswith(".py")
    assert package.removed
    assert all(is_test_file(path) for path in (*package.removed, *package.added))


@every_package
def test_expected_attempts_are_possible(package: Package):
    kinds = {kind.value for kind in FailureKind}
    assert 1 <= len(package.expected) <= TaskLimits().attempts
    assert set(package.expected[:-1]) <= kinds
    assert package.expected[-1] in kinds | {"accepted"}
    assert bool(package.added) == (package.outcome == "accepted")


def test_the_packages_show_acceptance_and_rejection():
    assert {"accepted", "rejected"} == {package.outcome for package in PACKAGES}


def test_repository_has_one_commit_without_the_removed_tests(tmp_path):
    package = PACKAGES[0]
    sdist = tmp_path / package.sdist
    _write_sdist(sdist, package, (package.module, *package.removed, "README.md"))
    repository = make_repository(package, sdist, tmp_path / "repositories")
    files = {path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file()}
    assert {file for file in files if not file.startswith(".git/")} == {package.module, "README.md"}
    assert make_repository(package, sdist, tmp_path / "repositories") == repository


def test_source_that_leads_outside_its_folder_is_refused(tmp_path):
    package = PACKAGES[0]
    sdist = tmp_path / package.sdist
    _write_sdist(sdist, package, ("../../outside.py",))
    with pytest.raises(tarfile.OutsideDestinationError):
        make_repository(package, sdist, tmp_path / "repositories")
    assert not (tmp_path / "outside.py").exists()


def _write_sdist(sdist, package, files):
    with tarfile.open(sdist, "w:gz") as archive:
        for name in files:
            archive.addfile(tarfile.TarInfo(f"{package.name}-{package.version}/{name}"), BytesIO())
