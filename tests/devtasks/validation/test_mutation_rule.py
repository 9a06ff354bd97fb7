import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from devtasks.validation import mutation_run
from devtasks.validation.mutation_rule import NoticesMistakes
from devtasks.validation.result import ValidationLevel
from devtasks.validation.settings import ValidationSettings

EXACT = """\
from shop.price import discount, tax


def test_discount():
    assert (discount(100), discount(200)) == (100, 180)


class TestTax:
    def test_tax(self):
        assert tax(2, 3) == 6
"""
VAGUE = """\
from shop.price import discount, tax


def test_discount():
    assert discount(100) is not NotImplemented
    assert discount(200) is not NotImplemented


def test_tax():
    assert tax(2, 2) is not NotImplemented
"""


@pytest.fixture
def ask(change):
    def run(files, **task):
        files = {"tests/test_more.py": files} if isinstance(files, str) else files
        return asyncio.run(NoticesMistakes().check(change(files, **task)))

    return run


def test_exact_tests_notice_every_mistake(ask):
    outcome = ask(EXACT)
    (finding,) = outcome.findings
    assert (outcome.value, finding.level) == (1, ValidationLevel.INFO)
    assert "8 of 8 mistakes made in src/shop/price.py were noticed" in finding.message


def test_vague_tests_notice_none_and_are_refused_with_the_mistakes(ask):
    outcome = ask(VAGUE)
    (finding,) = outcome.findings
    assert (outcome.value, finding.level) == (0, ValidationLevel.ERROR)
    assert "0 of 8 mistakes" in finding.message
    assert "src/shop/price.py:5: `total > LIMIT` became `(total >= LIMIT)`" in (finding.evidence or "")


def test_what_is_missed_is_a_warning_where_most_is_noticed(ask):
    outcome = ask(EXACT.replace("discount(100), ", "").replace("(100, 180)", "180"))
    (finding,) = outcome.findings
    assert finding.level is ValidationLevel.WARNING
    assert 0.5 < outcome.value < 1
    assert "total >= LIMIT" in (finding.evidence or "")


SUMS = {f"f{number}": f"def f{number}(a, b):\n    return a - b\n" for number in range(12)}


@pytest.mark.parametrize(("asked", "level"), [(0.2, ValidationLevel.WARNING), (0.5, ValidationLevel.ERROR)])
def test_of_many_mistakes_the_part_that_the_project_asks_has_to_be_noticed(ask, shop, shop_baseline, asked, level):
    (shop / "src/shop/price.py").write_text("\n\n".join(SUMS.values()))
    exact = "".join(f"def test_{name}():\n    assert price.{name}(5, 2) == 3\n" for name in list(SUMS)[:4])
    vague = "".join(f"def test_{name}():\n    assert price.{name}(5, 2) != 99\n" for name in list(SUMS)[4:])
    settings = ValidationSettings(kill_rate=asked, mutants=12)
    outcome = ask(f"from shop import price\n{exact}{vague}", baseline=replace(shop_baseline, settings=settings))
    assert (outcome.value, outcome.findings[0].level) == (4 / 12, level)


def test_of_few_mistakes_one_has_to_be_noticed(ask):
    outcome = ask(VAGUE.replace("tax(2, 2) is not NotImplemented", "tax(2, 2) == 4"))
    assert outcome.findings[0].level is ValidationLevel.WARNING
    assert "1 of 8 mistakes" in outcome.findings[0].message


def test_an_endless_loop_that_a_mistake_makes_is_noticed_and_ends(ask, shop, runner):
    (shop / "src/shop/price.py").write_text(
        "def count(total):\n    n = 0\n    while total > 0:\n        total -= 1\n        n += 1\n    return n\n"
    )
    text = "from shop.price import count\n\n\ndef test_count():\n    assert count(3) == 3\n"
    outcome = ask(text)
    assert outcome.value == 1
    assert runner.commands[-1].timeout == 60


def test_endless_loops_alone_do_not_show_that_anything_is_checked(ask, shop):
    (shop / "src/shop/price.py").write_text(
        "def count(total):\n    while total > 0:\n        total -= 1\n    return total\n"
    )
    text = "from shop.price import count\n\n\ndef test_count():\n    assert count(3) is not NotImplemented\n"
    outcome = ask(text)
    (finding,) = outcome.findings
    assert 0 < outcome.value < 1
    assert finding.level is ValidationLevel.ERROR
    assert "no check of theirs failed" in finding.message


def test_a_mistake_is_seen_by_the_tests_alone_and_never_in_the_file(ask, shop):
    before = (shop / "src/shop/price.py").read_bytes()
    assert ask(EXACT).value == 1
    assert (shop / "src/shop/price.py").read_bytes() == before
    assert not list(Path(shop).rglob("mutant-*"))


def test_lines_that_only_importing_runs_are_left(ask):
    outcome = ask("from shop.price import tax\n\n\ndef test_tax():\n    assert tax(2, 3) == 6\n")
    assert "2 of 2 mistakes" in outcome.findings[0].message


def test_what_set_up_runs_counts_for_its_test(ask):
    text = "import pytest\n\nfrom shop.price import tax\n\n\n@pytest.fixture\ndef taxed():\n    return tax(2, 3)\n\n\n"
    outcome = ask(f"{text}def test_tax(taxed):\n    assert taxed == 6\n")
    assert "2 of 2 mistakes" in outcome.findings[0].message


def test_tests_that_cannot_be_run_against_mistakes_earn_nothing(ask):
    text = "import sys\nfrom shop.price import tax\n\n\ndef test_tax():\n    assert tax(2, 3) == 6\n"
    outcome = ask(f"{text}    assert 'mutation_run' not in sys.argv[0]\n")
    (finding,) = outcome.findings
    assert (outcome.value, finding.level) == (0, ValidationLevel.WARNING)
    assert "could not be run" in finding.message


def test_no_line_no_mistake(ask):
    assert ask("def test_nothing():\n    assert True\n").value == 0


def test_plugins_of_installed_packages_are_imported_beforehand_without_a_warning(tmp_path):
    files = {
        "price.py": "def tax(total):\n    return total * 2\n",
        "mutant.py": "def tax(total):\n    return total * 3\n",
        "test_price.py": "from price import tax\n\n\ndef test_tax():\n    assert tax(1) == 2\n",
        "pytest.ini": "[pytest]\nfilterwarnings = error\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    tests = ["./test_price.py::test_tax"]
    job = {"target": str(tmp_path / "price.py"), "folder": str(tmp_path), "options": [], "tests": tests}
    job |= {"seconds": 60, "jobs": 1, "mutants": [{"source": str(tmp_path / "mutant.py"), "tests": tests}]}
    (tmp_path / "job.json").write_text(json.dumps(job))
    script = Path(mutation_run.__file__)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, script, "job.json", "answer.json"], cwd=tmp_path, env=environment, check=True)
    assert json.loads((tmp_path / "answer.json").read_text()) == {"plain": 0, "mutants": [1]}
