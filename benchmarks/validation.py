"""What the validator of unit tests accepts and rejects, over modules on PyPI: the confusion matrix, kind by kind.

For each module of the corpus (tests/support/corpus) the project is laid out without its tests, but for one other
test file, and measured; then its own tests are judged, which are good, and every bad result that is made of them by
program. A bad result counts as `cut` where single tests of it are cut out and every test that is left is one of the
good result's own: then the bad part is out of it, whether what is left is accepted or not. Tests run in bubblewrap
where that works here, and as processes of this machine where it does not. A command gets 60 seconds, so that endless
loops end.

A bad result's rules stop where nothing can make it accepted any more: at an error that no cut can take away, or where
what is cut leaves nothing bad. So its score and the rules that reject it are not all that `devtasks validate` says.

What was judged is kept line by line in results/validation.jsonl; `--resume` adds to it, and counts all of it.

Exit codes: 0 no bad result was accepted, 1 one was (with CHECK=1 any other missed aim too), 2 wrong usage.
"""

import ast
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from corpus.kinds import KINDS
from corpus.modules import MODULES, Module
from corpus.results import Result, good_result
from corpus.sources import CACHE, fetch, good, lay_out
from cyclopts import App, Parameter
from report import RESULTS, Aim, finish, machine

from devtasks.errors import DevtasksError, InvalidInput
from devtasks.execution import bubblewrap
from devtasks.execution.bubblewrap import BubblewrapRuntime
from devtasks.execution.local import LocalRuntime
from devtasks.execution.runtime import Runtime
from devtasks.task import DevTask, TaskCategory
from devtasks.validation.baseline import Baseline, measure_baseline
from devtasks.validation.conventions import defined_tests
from devtasks.validation.cutting import Cutting
from devtasks.validation.result import ValidationLevel, ValidationResult
from devtasks.validation.rule import RuleOutcome, ValidationContext, ValidationRule
from devtasks.validation.validator import RULES, ResultValidator
from devtasks.workspace import Change, ChangeStatus

GOOD = "good"
COMMAND_SECONDS = 60.0
GOOD_REJECTED = 0.02
"""The aim: what part of the good results may be rejected."""

_IDLE = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Import, ast.ImportFrom, ast.Assign)

app = App(name="validation.py", help="Judge good and bad results of modules on PyPI.")


@dataclass(frozen=True)
class Judgement:
    """The verdict on one result, or that this kind cannot be made of this module; `errors` by the rules' names.

    `left_good`: tests were cut, and what is left is part of the good result; a bad one's is not judged to its end then.
    `commit`: the validator's.
    """

    module: str
    kind: str
    made: bool = True
    passed: bool = False
    left_good: bool = False
    score: float = 0
    seconds: float = 0
    errors: tuple[tuple[str, str], ...] = ()
    commit: str = ""

    @property
    def right(self) -> bool:
        """Whether a good result was accepted, or nothing bad of a bad one."""
        return self.passed if self.kind == GOOD else not self.passed or self.left_good


@dataclass
class _Course:
    """What is known of a bad result while it is judged: `left_good` once cutting leaves nothing bad of it."""

    holds_only_good: Callable[[], bool]
    left_good: bool = False


@dataclass(frozen=True)
class _UntilDecided:
    """A rule that stops the others where a bad result can no longer be accepted with what is bad of it."""

    rule: ValidationRule
    course: _Course

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def weight(self) -> float:
        return self.rule.weight

    async def check(self, context: ValidationContext) -> RuleOutcome:
        if self.course.left_good:
            return RuleOutcome(0, (), stop=True)
        outcome = await self.rule.check(context)
        errors = [finding for finding in outcome.findings if finding.level is ValidationLevel.ERROR]
        with Cutting(context.workspace) as cutting:
            if cutting.cut(context, outcome.findings):
                self.course.left_good = self.course.holds_only_good()
                return replace(outcome, stop=outcome.stop or self.course.left_good)
        return replace(outcome, stop=outcome.stop or bool(errors))


@dataclass(frozen=True)
class Bench:
    """A laid-out project with its baseline, and the sandbox in which its results are judged one after the other."""

    module: Module
    original: Path
    folder: Path
    runtime: Runtime
    baseline: Baseline | None = None

    @property
    def workspace(self) -> Path:
        """Where the project lies when it is judged; the sandbox holds on to the folder itself."""
        return self.folder / "workspace"

    @property
    def task(self) -> DevTask:
        """What an agent would have been asked."""
        return DevTask.parse(
            task_id="corpus",
            category="unit_test",
            description="Write unit tests.",
            repository=str(self.original),
            target_file=self.module.target,
            limits={"seconds": COMMAND_SECONDS},
        )

    def reset(self) -> None:
        """Make the workspace what it was."""
        self.workspace.mkdir(parents=True, exist_ok=True)
        for path in self.workspace.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.copytree(self.original, self.workspace, dirs_exist_ok=True)

    def scratch(self, name: str) -> Path:
        """Make an empty folder for reports."""
        folder = self.folder / "scratch" / name
        folder.mkdir(parents=True)
        return folder

    async def measure(self) -> Baseline:
        """Measure the project without the module's tests."""
        self.reset()
        return await measure_baseline(
            self.task, self.workspace, self.runtime, self.scratch("baseline"), self.runtime.python
        )

    def _before(self, path: str) -> bytes | None:
        file = self.original / path
        return file.read_bytes() if file.is_file() else None

    async def judge(
        self, kind: str, result: Result, known: Result, baseline: Baseline
    ) -> tuple[ValidationResult, bool]:
        """Make a result's changes in a fresh workspace; return the verdict, and whether a cut left nothing bad."""
        self.reset()
        context = ValidationContext(
            task=self.task,
            workspace=self.workspace,
            changes=tuple(_changes(self.workspace, result)),
            baseline=baseline,
            runner=self.runtime,
            scratch=self.scratch(kind),
            python=self.runtime.python,
            before=self._before,
        )
        if kind == GOOD:
            verdict = await ResultValidator().validate(context)
            return verdict, bool(verdict.cut)
        course = _Course(lambda: self._holds_only(known, result))
        rules = tuple(_UntilDecided(rule, course) for rule in RULES[TaskCategory.UNIT_TEST])
        verdict = await ResultValidator(rules).validate(context)
        return verdict, course.left_good or (bool(verdict.cut) and self._holds_only(known, result))

    def _holds_only(self, known: Result, result: Result) -> bool:
        """Whether all that is left of a result in the workspace is part of another."""
        theirs = {path: _digests(ast.parse(text)) for path, text in known.written.items()}
        return not result.deleted and all(
            path in theirs and _digests(ast.parse((self.workspace / path).read_bytes())) <= theirs[path]
            for path in result.written
        )


@app.default
def main(
    *,
    modules: Annotated[int | None, Parameter(help="Only so many modules, from all over the corpus.")] = None,
    kinds: Annotated[str | None, Parameter(help="Only these kinds of bad results, separated by commas.")] = None,
    part: Annotated[str, Parameter(help="One of so many equal parts of the matrix, such as 2/8.")] = "1/1",
    resume: Annotated[bool, Parameter(negative=(), help="Leave out what was judged before, and count it.")] = False,
    jobs: Annotated[int, Parameter(help="Modules at the same time.")] = 1,
    cache: Annotated[Path, Parameter(help="Where source distributions are kept.")] = CACHE,
) -> int:
    """Judge the corpus; print the matrix, the bad results accepted and the good ones rejected."""
    chosen = kinds.split(",") if kinds else list(KINDS)
    for kind in chosen:
        if kind not in KINDS:
            raise InvalidInput.unknown("--kinds", kind, list(KINDS))
    if jobs < 1 or (modules is not None and modules < 1):
        raise InvalidInput("--jobs, --modules", "below 1", "a whole number from 1 on")
    number, parts = _part(part)
    record = Record(RESULTS / "validation.jsonl", resume)
    work = {
        module: [
            kind
            for column, kind in enumerate((GOOD, *chosen))
            if (row + column) % parts == number - 1 and (module.name, kind) not in record.judgements
        ]
        for row, module in enumerate(_sample(modules))
    }
    where = machine()
    asyncio.run(_judge_all({module: kinds for module, kinds in work.items() if kinds}, jobs, cache, record))
    judgements = sorted(record.judgements.values(), key=lambda each: [GOOD, *KINDS].index(each.kind))
    wrong = [each for each in judgements if each.made and not each.right]
    for each in wrong:
        print(f"{'bad one accepted' if each.passed else 'good one rejected'}: {each.kind} of {each.module}")
        for rule, message in each.errors:
            print(f"    {rule}: {message}")
    commits = Counter(each.commit for each in judgements)
    print("judged at", ", ".join(f"{commit} ({number})" for commit, number in commits.items()))
    rows = _rows(judgements)
    missed = finish("validation", where, rows, rows, _aims(judgements))
    return 1 if any(each.kind != GOOD for each in wrong) else missed


def _part(text: str) -> tuple[int, int]:
    """Return which part of how many."""
    number, slash, parts = text.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise InvalidInput("--part", text, "K/N with K from 1 to N, such as 2/8")
    return int(number), int(parts)


def _sample(number: int | None) -> list[Module]:
    """Return so many modules, as far from each other in the corpus as can be."""
    number = min(number or len(MODULES), len(MODULES))
    return [MODULES[index * len(MODULES) // number] for index in range(number)]


class Record:
    """What was judged, by module and kind, in a file of one line each; what is added is in the file at once."""

    def __init__(self, path: Path, resume: bool) -> None:
        self._path = path
        path.open("a" if resume else "w").close()
        found = [Judgement(**json.loads(line)) for line in path.read_text().splitlines()]
        self.judgements = {(each.module, each.kind): each for each in found}
        git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
        self.commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()

    def add(self, judgement: Judgement) -> None:
        """Keep a judgement."""
        judgement = replace(judgement, commit=self.commit)
        self.judgements[judgement.module, judgement.kind] = judgement
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(judgement)) + "\n")


async def _judge_all(work: Mapping[Module, list[str]], jobs: int, cache: Path, record: Record) -> None:
    turns = asyncio.Semaphore(jobs)
    sdists = {release: fetch(release, cache) for release in {module.release for module in work}}

    async def judge(module: Module, kinds: list[str]) -> None:
        async with turns:
            await _judge(module, kinds, sdists[module.release], record)

    await asyncio.gather(*(judge(module, kinds) for module, kinds in work.items()))


async def _judge(module: Module, kinds: Iterable[str], sdist: Path, record: Record) -> None:
    """Judge results of these kinds that are made of a module's good one."""
    with tempfile.TemporaryDirectory(prefix="devtasks-corpus-") as name:
        folder = Path(name)
        (folder / "run").mkdir()
        original = lay_out(module, sdist, folder / "original")
        async with _runtime(folder / "run") as runtime:
            bench = Bench(module, original, folder / "run", runtime)
            known = good(module, sdist, original, bench.workspace)
            baseline = await bench.measure()
            for kind in kinds:
                result = good_result(known) if kind == GOOD else KINDS[kind](known)
                record.add(await _judgement(bench, kind, result, good_result(known), baseline))


async def _judgement(bench: Bench, kind: str, result: Result | None, known: Result, baseline: Baseline) -> Judgement:
    if result is None:
        return Judgement(bench.module.name, kind, made=False)
    started = time.monotonic()
    verdict, left_good = await bench.judge(kind, result, known, baseline)
    seconds = round(time.monotonic() - started, 1)
    errors = tuple(
        (finding.rule, finding.message) for finding in verdict.findings if finding.level is ValidationLevel.ERROR
    )
    said = (
        "cut"
        if left_good
        else "accepted"
        if verdict.passed
        else f"rejected by {', '.join(dict.fromkeys(rule for rule, _ in errors))}"
    )
    print(f"{bench.module.name} {kind}: {said} ({verdict.score:.2f}, {seconds} s)", file=sys.stderr, flush=True)
    return Judgement(bench.module.name, kind, True, verdict.passed, left_good, round(verdict.score, 3), seconds, errors)


def _digests(tree: ast.Module) -> set[str]:
    """Return what tells the tests of a file apart, and what else its top does besides importing and assigning."""
    tests = {ast.dump(node) for _, node in defined_tests(tree)}
    others = (node for node in tree.body if not isinstance(node, _IDLE))
    return tests | {ast.dump(node) for node in others}


def _runtime(folder: Path) -> LocalRuntime:
    return LocalRuntime(folder) if bubblewrap.why_not() else BubblewrapRuntime(folder)


def _changes(workspace: Path, result: Result) -> Iterable[Change]:
    for name, text in result.written.items():
        path = workspace / name
        yield Change(name, ChangeStatus.MODIFIED if path.exists() else ChangeStatus.ADDED)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in result.deleted:
        (workspace / name).unlink()
        yield Change(name, ChangeStatus.DELETED)


def _rows(judgements: list[Judgement]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("kind", "judged", "accepted", "cut", "rejected", "left out", "rejected by")]
    for kind in dict.fromkeys(each.kind for each in judgements):
        all_of = [each for each in judgements if each.kind == kind]
        judged = [each for each in all_of if each.made]
        cut = sum(each.left_good for each in judged)
        accepted = sum(each.passed and not each.left_good for each in judged)
        rules = Counter(rule for each in judged for rule in {rule for rule, _ in each.errors})
        numbers = (len(judged), accepted, cut, len(judged) - accepted - cut, len(all_of) - len(judged))
        rows.append((kind, *map(str, numbers), ", ".join(f"{rule} {number}" for rule, number in rules.most_common())))
    return rows


def _aims(judgements: list[Judgement]) -> list[Aim]:
    good_ones = [each for each in judgements if each.kind == GOOD]
    accepted = sum(not each.right for each in judgements if each.kind != GOOD)
    rejected = sum(not each.passed for each in good_ones) / max(len(good_ones), 1)
    return [
        Aim("bad results accepted", accepted, 0, "at most"),
        Aim("part of the good results rejected", rejected, GOOD_REJECTED, "at most"),
    ]


if __name__ == "__main__":
    try:
        code = app()
    except DevtasksError as error:
        print(f"validation.py: {error}", file=sys.stderr)
        code = error.exit_code
    sys.exit(code)
