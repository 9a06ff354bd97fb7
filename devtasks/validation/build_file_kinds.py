"""What a build file is, by its name or its first line."""

import re
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import PurePosixPath


class BuildFileKind(StrEnum):
    """How the text of a file is read; the value is what messages call it."""

    SHELL = "shell script"
    DOCKERFILE = "Dockerfile"
    MAKEFILE = "Makefile"
    PYTHON = "Python"
    TOML = "TOML"
    YAML = "YAML"
    JSON = "JSON"
    INI = "INI"


SHELLS = frozenset({"sh", "bash", "dash", "ksh"})

_SHEBANG = re.compile(rb"#!\s*(?:\S*/)?(?:env\s+(?:-S\s+)?)?(?:\S*/)?(?P<program>[a-z]+)[\d.]*(?:\s|$)")
_NAMES = (
    (BuildFileKind.SHELL, ("*.sh", "*.bash")),
    (BuildFileKind.DOCKERFILE, ("Dockerfile", "Dockerfile.*", "*.Dockerfile", "Containerfile")),
    (BuildFileKind.MAKEFILE, ("Makefile", "makefile", "GNUmakefile", "*.mk")),
    (BuildFileKind.PYTHON, ("*.py",)),
    (BuildFileKind.TOML, ("*.toml",)),
    (BuildFileKind.YAML, ("*.yml", "*.yaml")),
    (BuildFileKind.JSON, ("*.json",)),
    (BuildFileKind.INI, ("*.ini", "*.cfg")),
)
_SCHEMAS = {
    "github-workflows": (".github/workflows/*.yml", ".github/workflows/*.yaml"),
    "github-actions": ("action.yml", "action.yaml", ".github/actions/*/action.y*ml"),
    "dependabot": (".github/dependabot.yml", ".github/dependabot.yaml"),
    "gitlab-ci": (".gitlab-ci.yml",),
    "compose-spec": ("compose*.y*ml", "docker-compose*.y*ml"),
    "readthedocs": (".readthedocs.yml", ".readthedocs.yaml"),
}


def kind_of(path: str, content: bytes) -> BuildFileKind | None:
    """Return the kind by the name, else by the shebang; None for a file that is read as neither."""
    name = PurePosixPath(path).name
    for kind, patterns in _NAMES:
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            return kind
    program = _program(content)
    if program in SHELLS:
        return BuildFileKind.SHELL
    return BuildFileKind.PYTHON if program == "python" else None


def shell_of(content: bytes) -> str:
    """Return the shell that a script's shebang names, bash where it names none."""
    program = _program(content)
    return program if program in SHELLS else "bash"


def schema_of(path: str) -> str | None:
    """Return the name of the schema that a file of this path has to follow."""
    return next((name for name, each in _SCHEMAS.items() if any(fnmatchcase(path, one) for one in each)), None)


def _program(content: bytes) -> str:
    match = _SHEBANG.match(content)
    return match["program"].decode() if match else ""
