from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import State, StateType

from deployments.orphans import begun_elsewhere
from devtasks.run_folder import RunFolder


@pytest.mark.parametrize(
    ("kind", "after", "elsewhere"),
    [
        pytest.param(StateType.RUNNING, timedelta(seconds=-1), False, id="this machine's own"),
        pytest.param(StateType.RUNNING, timedelta(seconds=90), False, id="the clocks differ"),
        pytest.param(StateType.RUNNING, timedelta(minutes=4), True, id="taken up by another machine"),
        pytest.param(StateType.CRASHED, timedelta(minutes=4), False, id="nobody's"),
        pytest.param(StateType.SCHEDULED, timedelta(hours=4), False, id="waiting"),
    ],
)
def test_a_run_that_another_machine_has_taken_up_since_is_left_to_it(
    kind: StateType, after: timedelta, elsewhere: bool, tmp_path: Path
) -> None:
    folder = RunFolder.claim(tmp_path, str(uuid4()))
    state = State(type=kind, timestamp=datetime.now(UTC) + after)
    assert begun_elsewhere(state, folder) is elsewhere


def test_a_run_without_a_state_is_nobody_s(tmp_path: Path) -> None:
    assert not begun_elsewhere(None, RunFolder.claim(tmp_path, str(uuid4())))
