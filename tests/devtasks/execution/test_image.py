import asyncio
import re
import tomllib
from pathlib import Path

import pytest

from devtasks.errors import InvalidInput
from devtasks.execution import image
from devtasks.execution.docker_engine import check_image, remove_containers

ROOT = Path(__file__).parents[3]


def test_the_image_holds_the_versions_of_the_lock() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    locked = {package["name"]: package["version"] for package in lock["package"]}
    held = dict(re.findall(r"^([a-z0-9.-]+)==([^ ;]+)", (image.FOLDER / "requirements.txt").read_text(), re.M))
    assert {"openhands-sdk", "openhands-tools", "pytest", "coverage", "psutil", "pydantic"} <= set(held)
    assert {name: version for name, version in held.items() if locked.get(name, version) != version} == {}


def test_everything_in_the_image_is_told_by_its_digest() -> None:
    lines = (image.FOLDER / "requirements.txt").read_text().replace("\\\n", "").splitlines()
    assert [line for line in lines if "--hash=sha256:" not in line] == []


@pytest.mark.parametrize("name", ["Dockerfile", "requirements.txt"])
def test_the_name_follows_from_what_the_image_is_made_of(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in ("Dockerfile", "requirements.txt"):
        (tmp_path / each).write_bytes((image.FOLDER / each).read_bytes())
    before = image.default_image()
    monkeypatch.setattr(image, "FOLDER", tmp_path)
    assert image.default_image() == before
    with (tmp_path / name).open("a") as file:
        file.write("\n")
    assert image.default_image() != before


def test_a_machine_without_docker_is_told_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidInput, match="there is no docker command here"):
        asyncio.run(check_image(image.default_image()))
    assert asyncio.run(remove_containers([tmp_path])) == 0
