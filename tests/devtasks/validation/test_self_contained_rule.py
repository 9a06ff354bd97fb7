import asyncio

import pytest

from devtasks.validation.result import ValidationLevel
from devtasks.validation.self_contained_rule import SelfContained

RELYING = {
    "sleeping": ("import time\ntime.sleep(0.6)\ntime.sleep(0.6)", "sleeps for 1.2 s"),
    "a host by name": (
        "import socket\nwith pytest.raises(OSError):\n    socket.create_connection(('devtasks.invalid', 9), 1)",
        "asks other hosts (devtasks.invalid)",
    ),
    "a host by number": (
        "import socket\nwith socket.socket() as s:\n    s.settimeout(0.01)\n    s.connect_ex(('192.0.2.1', 9))",
        "asks other hosts (192.0.2.1)",
    ),
    "a file in the project": ("open('left-behind', 'w').close()", "leaves files behind"),
    "another folder": ("import os\nos.chdir('/')", "leaves another working folder behind"),
    "a variable": (
        "import os\nos.environ['LEFT_BEHIND'] = '1'",
        "leaves other environment variables behind (LEFT_BEHIND)",
    ),
    "a folder of this machine": ("assert open('WORKSPACE/src/shop/price.py').read()", "names a folder of this machine"),
    "a year": ("import datetime as dt\nassert dt.date.today().isoformat() < '2050-01-01'", "at certain times only"),
    "a day": (
        "from datetime import UTC, datetime\nassert datetime.now(UTC) < datetime(2050, 1, 1, tzinfo=UTC)",
        "at certain times only",
    ),
    "a time of the day": ("from time import time\nassert time() % 86_400 >= 0", "at certain times only"),
    "luck": ("import random\nassert random.random() < 0.999999", "passes by chance"),
    "luck with a number": ("from random import randint as any_of\nassert any_of(0, 10**9) != 7", "passes by chance"),
    "luck with a name": ("import uuid\nassert str(uuid.uuid4())[0] in '0123456789abcdef'", "passes by chance"),
}


def file_of(body: str) -> str:
    lines = body.replace("\n", "\n    ")
    head = "import pytest\nfrom shop.price import tax\n\n\ndef test_it(tmp_path, monkeypatch):\n"
    return f"{head}    assert tax(2, 3) == 6\n    {lines}\n"


@pytest.fixture
def ask(change, shop):
    def run(body: str):
        text = file_of(body.replace("WORKSPACE", str(shop)))
        return asyncio.run(SelfContained().check(change({"tests/test_new.py": text})))

    return run


@pytest.mark.parametrize(("body", "said"), RELYING.values(), ids=RELYING)
def test_a_test_that_needs_more_than_the_code_is_refused_by_name(ask, body, said):
    outcome = ask(body)
    (finding,) = outcome.findings
    assert (outcome.value, finding.level) == (0, ValidationLevel.ERROR)
    assert finding.test == "tests/test_new.py::test_it"
    assert said in finding.message


FINE = {
    "a short sleep": "import time\ntime.sleep(0.01)",
    "its own server": (
        "import socket\nwith socket.create_server(('127.0.0.1', 0)) as server:\n"
        "    socket.create_connection(server.getsockname()).close()"
    ),
    "a temporary file": "(tmp_path / 'a').write_text('x')",
    "a file that it takes away": "import pathlib\npathlib.Path('a').write_text('x')\npathlib.Path('a').unlink()",
    "what a fixture puts back": "monkeypatch.chdir(tmp_path)\nmonkeypatch.setenv('A', '1')",
    "how long something takes": "import time\nbegun = time.time()\nassert time.time() - begun < 60",
    "a time that it gives itself": "from datetime import date\nassert date(2020, 1, 2).isoformat() == '2020-01-02'",
    "what the code says of now": "from datetime import date\nyear = tax(1, 1)\nassert year != date.today().year",
    "chance that it repeats": "import random\nassert random.Random(7).random() < 2",
    "chance that it seeds": "import random\nrandom.seed(7)\nassert random.random() < 2",
    "what the code makes of chance": "import random\nnumber = random.random()\nassert tax(number, 0) == 0",
    "what it only reads": "import pathlib\nassert pathlib.Path(__file__).read_text()",
}


@pytest.mark.parametrize("body", FINE.values(), ids=FINE)
def test_what_needs_nothing_else_is_not(ask, body):
    assert ask(body).findings == ()


def test_a_clock_that_a_test_stops_may_be_asked_for_its_date(change, shop):
    text = file_of("import datetime\nassert datetime.date.today().isoformat() == '2020-01-02'")
    stopped = "def freeze_time(when):\n    return lambda test: test\n"
    project = {"freezegun.py": stopped, "tests/test_new.py": "from freezegun import freeze_time\n" + text}
    findings = asyncio.run(SelfContained().check(change(project))).findings
    assert not [each for each in findings if "certain times" in each.message]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param("    assert random.Random(7).random() < 2\n", id="generator"),
        pytest.param("    random.seed(7)\n    assert random.random() < 2\n", id="seed"),
    ],
)
def test_what_another_test_seeds_does_not_make_up_for_luck(change, other):
    text = file_of("import random\nassert random.random() < 0.9") + f"\n\ndef test_other():\n    import random\n{other}"
    findings = asyncio.run(SelfContained().check(change({"tests/test_new.py": text}))).findings
    assert [each.test for each in findings if "by chance" in each.message] == ["tests/test_new.py::test_it"]


def test_one_such_test_is_cut_and_the_rest_is_accepted(judge):
    good = "\n\n\ndef test_more():\n    assert tax(3, 3) == 9\n"
    verdict = judge({"tests/test_new.py": file_of("import os\nos.environ['LEFT_BEHIND'] = '1'") + good})
    assert (verdict.passed, verdict.cut) == (True, ("tests/test_new.py::test_it",))
