from pathlib import Path

import pytest
import yaml

import devtasks.simulator
from devtasks.errors import InvalidInput
from devtasks.simulator import Scenario

SHIPPED = sorted((Path(devtasks.simulator.__file__).parent / "scenarios").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_scenario_loads_under_its_own_name(path):
    assert Scenario.load(path).name == path.stem


def model(**values):
    return {"name": "s", "models": [{"id": "a/b"} | values]}


@pytest.mark.parametrize(
    ("data", "place", "allowed"),
    [
        ({"models": [{"id": "a/b"}]}, "name: None", "this key is required"),
        ({"name": "s", "models": []}, "models: ", "at least 1 item"),
        ({"name": "s", "models": [{"id": "a/b"}, {"id": "a/b"}]}, "", "distinct ids"),
        ([], "", "valid dictionary"),
        (model(id="no-slash"), "models.0.id: 'no-slash'", "match pattern"),
        (model(prise="0"), "models.0: 'prise'", "one of the keys id, name,"),
        (model(prompt_price="cheap"), "models.0.prompt_price: 'cheap'", "decimal"),
        (model(prompt_price="-1"), "models.0.prompt_price: '-1'", "greater than or equal to 0"),
        (model(faults=[{"kind": "http_999"}]), "models.0.faults.0.kind: 'http_999'", "'upstream_429'"),
        (model(faults=[{"kind": "http_502", "calls": [0]}]), "faults.0.calls.0: 0", "greater than or equal to 1"),
        (model(faults=[{"kind": "http_502", "calls": [1], "rate": 0.5}]), "faults.0", "calls or rate, not both"),
        (model(faults=[{"kind": "http_502", "retry_after": 1}]), "faults.0", "retry_after only with the kinds"),
        (model(faults=[{"kind": "http_502", "seconds": 1}]), "faults.0", "seconds only with the kinds hang,"),
        (model(latency={"distribution": "normal"}), "models.0.latency", "'fixed', 'uniform', 'lognormal'"),
        (
            model(latency={"distribution": "uniform", "minimum": 2, "maximum": 1}),
            "models.0.latency.uniform",
            "a minimum that is not above the maximum",
        ),
        (model(conversations=[{"match": "(", "turns": [{"text": "x"}]}]), "conversations.0.match: '('", "regular"),
        (model(conversations=[{"turns": [{}]}]), "turns.0", "at least one of text, tool_calls, finish, fault"),
        (
            model(conversations=[{"turns": [{"finish": "x", "tool_calls": [{"name": "y"}]}]}]),
            "turns.0",
            "tool_calls or finish, not both",
        ),
        (
            model(conversations=[{"turns": [{"text": "x", "fault": {"kind": "truncated_arguments"}}]}]),
            "turns.0",
            "tool_calls or finish for the fault truncated_arguments",
        ),
        (model() | {"variables": {"w": "no group"}}, "variables.w: 'no group'", "exactly one group"),
    ],
)
def test_bad_scenario_is_refused_with_file_place_and_what_is_allowed(tmp_path, data, place, allowed):
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(InvalidInput) as refused:
        Scenario.load(path)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert place in message
    assert allowed in message.split("expected", 1)[1]
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "allowed"), [(b"name: [", "line 1"), (b"name: \xff", "UTF-8")], ids=["not-yaml", "not-utf8"]
)
def test_unreadable_yaml_is_refused_in_one_line(tmp_path, content, allowed):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=allowed) as refused:
        Scenario.load(path)
    assert "\n" not in str(refused.value)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"absent\.yaml.*No such file"):
        Scenario.load(tmp_path / "absent.yaml")
