"""Wheels without a network: tiny ones written here, and the installed tools packed up again."""

import zipfile
from collections.abc import Mapping
from importlib.metadata import Distribution
from pathlib import Path


def tiny_wheel(folder: Path, name: str, version: str = "1.0", files: Mapping[str, str] | None = None) -> Path:
    """Write a wheel that holds these files, by default one module of its name with `VERSION`."""
    info = f"{name}-{version}.dist-info"
    texts = dict(files or {f"{name}.py": f"VERSION = {version!r}\n"})
    texts[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    texts[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    texts[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in texts) + f"{info}/RECORD,,\n"
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in texts.items():
            archive.writestr(path, text)
    return wheel


def packed(folder: Path, *names: str) -> None:
    """Pack installed distributions as the wheels they were installed from, but for their scripts."""
    for name in names:
        found = Distribution.from_name(name)
        tag = next(
            line.removeprefix("Tag: ") for line in (found.read_text("WHEEL") or "").splitlines() if "Tag: " in line
        )
        wheel = folder / f"{name.replace('-', '_')}-{found.version}-{tag}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for file in found.files or ():
                if (
                    ".." not in file.parts
                    and file.suffix != ".pyc"
                    and file.name not in ("INSTALLER", "direct_url.json")
                ):
                    archive.write(str(file.locate()), str(file))


TOOLS = ("pytest", "coverage", "iniconfig", "packaging", "pluggy", "pygments")
"""What `packed` needs for pytest and coverage."""
