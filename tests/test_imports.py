import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Each may import what stands left of it, and itself; the command line is a layer of its own, on top of all.
LAYERS = ("devtasks", "blocks", "tasks", "flows", "deployments", "cli")
CLI = "devtasks/cli.py"

OWNS: dict[str, tuple[str, ...]] = {"openhands": ("devtasks/execution/agent.py",)}
"""Packages that only these files may import, even for types."""

READS_ENVIRONMENT = {
    "devtasks/config.py": "looks for secrets by their names, beside the settings that pydantic reads",
    "devtasks/cli.py": "sets PREFECT_HOME and the stack's address before Prefect is imported, which reads them",
    "devtasks/environments/making.py": "passes on to uv how to reach an index, and no key",
    "devtasks/execution/docker_builder.py": "has docker pass on by name what may hold an index's password",
    "devtasks/execution/local.py": "passes a few harmless variables on to the agent",
    "devtasks/execution/supervisor.py": "adds a command's variables to its own, which are scrubbed",
    "devtasks/validation/mutation_run.py": "asks, in the sandbox, whether pytest loads plugins by itself",
    "devtasks/validation/watch_tests.py": "compares, in the sandbox, what a test leaves with what it found",
    "devtasks/workspace/git.py": "passes all but GIT_* on to git, which needs HOME, proxies and askpass",
    "deployments/prefork/child.py": "takes over its job's environment, as a new process would",
    "deployments/prefork/environment.py": "decides what of a worker's environment its runs inherit",
    "deployments/prefork/private.py": "looks at what Prefect would read its settings from",
    "deployments/stack.py": "passes all but the key on to the stack's processes; a server's password is Prefect's",
}
"""Who touches the environment, and what for."""


def sources() -> list[str]:
    packages = ("devtasks", "blocks", "tasks", "flows", "deployments")
    return sorted(str(path.relative_to(ROOT)) for package in packages for path in (ROOT / package).rglob("*.py"))


def parse(source: str) -> ast.Module:
    return ast.parse((ROOT / source).read_text(encoding="utf-8"), source)


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module a file names in an import, wherever it stands, `importlib.import_module` with a literal included."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(level=0, module=str(module)):
                yield module
                yield from (f"{module}.{alias.name}" for alias in node.names)
            case ast.ImportFrom():
                raise AssertionError(f"line {node.lineno}: relative imports hide the direction")
            case ast.Constant(value=str(text)) if text.isidentifier() or text.replace(".", "").isidentifier():
                yield text if "." in text else ""
            case _:
                pass


def layer(name: str) -> str:
    """The layer of a module or a file."""
    dotted = name.removesuffix(".py").replace("/", ".")
    return "cli" if dotted.startswith("devtasks.cli") else dotted.partition(".")[0]


def touches_environment(tree: ast.Module) -> bool:
    names = {"environ", "getenv", "environb", "putenv", "unsetenv"}
    return any(
        (isinstance(node, ast.Attribute) and node.attr in names and ast.unparse(node.value) == "os")
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and names & {each.name for each in node.names})
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize("source", sources())
def test_imports_point_one_way(source: str) -> None:
    own = LAYERS.index(layer(source))
    upward = {name for name in imported(parse(source)) if layer(name) in LAYERS[own + 1 :]}
    assert not upward, f"{source} is of layer {LAYERS[own]} and imports {sorted(upward)}"


@pytest.mark.parametrize("source", [each for each in sources() if layer(each) == "devtasks"])
def test_the_domain_knows_nothing_of_prefect(source: str) -> None:
    assert "prefect" not in {name.partition(".")[0] for name in imported(parse(source))}


@pytest.mark.parametrize("package", OWNS)
def test_a_heavy_package_is_imported_in_one_place(package: str) -> None:
    importers = [each for each in sources() if package in {name.split(".")[0] for name in imported(parse(each))}]
    assert importers == list(OWNS[package])


def test_the_environment_is_read_in_one_place() -> None:
    touching = {source for source in sources() if touches_environment(parse(source))}
    assert touching == set(READS_ENVIRONMENT)


def test_the_walk_sees_what_it_looks_for() -> None:
    lazily = ast.parse("def f():\n    from prefect.client import orchestration\n    import openhands.sdk\n")
    assert {"prefect.client.orchestration", "openhands.sdk"} <= set(imported(lazily))
    assert "openhands.tools.terminal" in set(imported(ast.parse('for m in ("openhands.tools.terminal",): load(m)')))
    assert touches_environment(ast.parse("import os\nos.environ.get('X')"))
    assert touches_environment(ast.parse("from os import getenv"))
    assert not touches_environment(ast.parse("stack.environment()"))


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        pytest.param("devtasks.cli", ("prefect", "openhands", "pandas", "sqlalchemy"), id="command-line"),
        pytest.param("devtasks.execution.supervisor", ("prefect", "openhands", "pandas", "aiohttp"), id="supervisor"),
        pytest.param("devtasks.execution.local", ("prefect", "openhands", "pandas"), id="local-runtime"),
    ],
)
def test_importing_does_not_load_what_may_not_be_needed(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
