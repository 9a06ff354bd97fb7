"""The hooks as their users have them: a real pre-commit, real commits, and no server anywhere."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from harness import BIN, clean_environment, commit_files, git, wait_for

from devtasks.spool import Spool, read_task
from devtasks.untested import changed_files, untested_modules

ROOT = Path(__file__).parents[2]
HOOKS = ".pre-commit-hooks.yaml"
PRICE = "def price(x):\n    return 2 * x\n"
GOOD = "from shop import price\n\n\ndef test_price():\n    assert price(2) == 4\n"
HOLLOW = "from shop import price\n\n\ndef test_price():\n    price(2)\n"


@dataclass
class Checkout:
    """A repository with the hooks installed; `path` is the PATH of its commits."""

    root: Path
    environment: dict[str, str]

    def commit(self, **files: str) -> subprocess.CompletedProcess[str]:
        for name, text in files.items():
            file = self.root / name.replace("__", "/").replace("_py", ".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        git(self.root, "add", "-A")
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        command = ["git", *identity, "commit", "-q", "-m", "more"]
        return subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )

    def committed(self) -> str:
        return git(self.root, "log", "-1", "--format=%s")


@pytest.fixture(scope="module")
def hook_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pre-commit clones of this project: the hooks' manifest and their entry."""
    folder = tmp_path_factory.mktemp("devtasks")
    (folder / "scripts").mkdir()
    shutil.copy2(ROOT / HOOKS, folder / HOOKS)
    shutil.copy2(ROOT / "scripts/pre-commit-hook", folder / "scripts/pre-commit-hook")
    return commit_files(folder, {})


@pytest.fixture
def checkout(hook_repository: Path, tmp_path: Path) -> Checkout:
    hooks = [{"id": each["id"]} for each in yaml.safe_load((ROOT / HOOKS).read_text())]
    rev = git(hook_repository, "rev-parse", "HEAD")
    config = yaml.safe_dump({"repos": [{"repo": str(hook_repository), "rev": rev, "hooks": hooks}]})
    root = commit_files(tmp_path / "shop", {".pre-commit-config.yaml": config, ".gitignore": ".devtasks/\n"})
    environment = clean_environment(tmp_path / "home") | {"PRE_COMMIT_HOME": str(tmp_path / "cache")}
    environment |= {"PATH": f"{BIN}:{os.environ['PATH']}", "DEVTASKS_HOME": str(tmp_path / "state")}
    kinds = ("--hook-type", "pre-commit", "--hook-type", "post-commit")
    subprocess.run([BIN / "pre-commit", "install", *kinds], cwd=root, env=environment, check=True, capture_output=True)
    return Checkout(root, environment)


def test_a_test_that_can_never_fail_stops_the_commit_until_it_can(checkout: Checkout) -> None:
    stopped = checkout.commit(test_shop_py=HOLLOW, shop_py=PRICE)
    assert stopped.returncode == 1
    assert "test_shop.py:4: test_price asserts nothing: assert what the code under test" in stopped.stderr
    assert checkout.committed() == "files"
    passed = checkout.commit(test_shop_py=GOOD)
    assert passed.returncode == 0, passed.stderr
    assert checkout.committed() == "more"
    assert list(Spool.of(checkout.root).files()) == [], "shop.py has tests"


def test_a_commit_with_modules_without_tests_passes_and_a_task_for_each_waits_for_a_server(checkout: Checkout) -> None:
    done = checkout.commit(a__shop_py=PRICE, a__empty_py="X = 1\n", notes_txt="")
    assert done.returncode == 0, done.stderr
    assert "devtasks: no tests yet: a/shop.py. A task for each is kept" in done.stdout + done.stderr
    spool = Spool.of(checkout.root)
    (task,) = map(read_task, spool.files())
    commit = git(checkout.root, "rev-parse", "HEAD")
    assert (task.target_file, task.base_ref, task.repository) == ("a/shop.py", commit, str(checkout.root))
    log = spool.folder.parent / "submit.log"
    wait_for(lambda: "start one with `devtasks up`" in log.read_text(), 60, "the background has looked for a server")
    assert len(list(spool.files())) == 1, "nothing is lost"
    assert git(checkout.root, "status", "--porcelain") == ""


def test_without_devtasks_the_commit_passes(checkout: Checkout) -> None:
    checkout.environment["PATH"] = os.defpath
    done = checkout.commit(test_shop_py=HOLLOW)
    assert done.returncode == 0, done.stderr
    assert checkout.committed() == "more"


def hook(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "devtasks-hook", *words], cwd=checkout, capture_output=True, text=True, check=False, timeout=60
    )


BROKEN: dict[str, tuple[tuple[str, ...], Callable[[Path], object], str]] = {
    "no repository": (("submit",), lambda root: shutil.rmtree(root / ".git"), "nothing was done: WorkspaceError"),
    "no such hook": (("lint",), lambda _: None, "no hook 'lint'"),
    "no hook": ((), lambda _: None, "no hook ''"),
    "spool is a file": (
        ("submit",),
        lambda root: (root / ".git/devtasks").write_text(""),
        "nothing was done: NotADirectoryError",
    ),
    "newer Python": (("validate", "test_new.py"), lambda _: None, "test_new.py was not looked at: SyntaxError"),
}


@pytest.mark.parametrize(("words", "spoil", "warning"), BROKEN.values(), ids=BROKEN)
def test_trouble_of_a_hook_is_a_warning_and_no_refusal(
    tmp_path: Path, words: tuple[str, ...], spoil: Callable[[Path], object], warning: str
) -> None:
    root = commit_files(tmp_path / "shop", {"shop.py": PRICE, "test_new.py": "def test_new(:\n"})
    spoil(root)
    done = hook(root, *words)
    assert (done.returncode, warning in done.stderr) == (0, True), done.stderr


def test_a_hollow_test_that_was_there_before_stops_nobody(tmp_path: Path) -> None:
    root = commit_files(tmp_path / "shop", {"test_shop.py": HOLLOW})
    (root / "test_shop.py").write_text(f"{HOLLOW}\n\ndef test_other():\n    pass\n")
    git(root, "add", "-A")
    done = hook(root, "validate", "test_shop.py")
    assert done.returncode == 1
    assert [line.split(": ")[1] for line in done.stdout.splitlines()] == ["test_other asserts nothing"]


def test_what_is_staged_is_judged_and_not_what_lies_in_the_checkout(tmp_path: Path) -> None:
    root = commit_files(tmp_path / "shop", {})
    (root / "test_shop.py").write_text(HOLLOW)
    git(root, "add", "-A")
    (root / "test_shop.py").write_text(GOOD)
    assert hook(root, "validate", "test_shop.py").returncode == 1


def test_hooks_import_nothing_heavy() -> None:
    code = (
        "import sys, devtasks.cli_hooks, devtasks.staged_tests, devtasks.untested, devtasks.spool;"
        "print(*sorted({'prefect', 'openhands', 'pandas', 'httpx', 'sqlalchemy', 'cyclopts'} & set(sys.modules)))"
    )
    done = subprocess.run([BIN / "python", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""


FILES = {
    "src/shop/named.py": PRICE,
    "src/shop/imported.py": PRICE,
    "src/shop/bare.py": PRICE,
    "src/shop/constants.py": "X = 1\n",
    "src/shop/broken.py": "def (:\n",
    "src/shop/__init__.py": PRICE,
    "tests/helpers.py": PRICE,
    "tests/test_named.py": "",
    "tests/test_all.py": "from shop.imported import price\nbare = 1\n",
    "README.md": "",
}


def test_modules_without_tests_are_those_with_functions_that_no_test_is_named_after_or_imports(tmp_path: Path) -> None:
    root = commit_files(tmp_path / "shop", FILES)
    assert untested_modules(root, "HEAD") == ("src/shop/bare.py",)


def test_only_what_the_commit_has_changed_counts(tmp_path: Path) -> None:
    root = commit_files(tmp_path / "shop", {"old.py": PRICE})
    first = git(root, "rev-parse", "HEAD")
    commit_files(root, {"new.py": PRICE})
    assert untested_modules(root, "HEAD") == ("new.py",)
    commit_files(root, {"newer.py": PRICE})
    assert set(changed_files(root, "HEAD", first)) == {"new.py", "newer.py"}
    git(root, "rm", "-q", "new.py")
    git(root, "commit", "-q", "-m", "gone")
    assert untested_modules(root, "HEAD") == ()
