import pytest

from blocks import OpenHandsRuntime
from devtasks.config import OpenHandsConfig
from tasks.sandbox import in_docker


@pytest.mark.parametrize(
    ("asked", "block", "environment", "expected"),
    [
        pytest.param(False, None, None, False, id="nobody-says"),
        pytest.param(False, None, "true", True, id="environment"),
        pytest.param(False, None, "false", False, id="environment-says-no"),
        pytest.param(False, "docker", "false", True, id="block-before-environment"),
        pytest.param(False, "local", "true", False, id="block-says-local"),
        pytest.param(True, "local", "false", True, id="a-task-may-ask-for-it"),
        pytest.param(False, "docker", None, True, id="a-task-cannot-leave-it"),
    ],
)
def test_task_block_and_environment_choose_the_runtime(
    asked: bool, block: str | None, environment: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENHANDS_USE_DOCKER_RUNTIME", raising=False)
    if environment:
        monkeypatch.setenv("OPENHANDS_USE_DOCKER_RUNTIME", environment)
    assert in_docker(asked, OpenHandsRuntime(runtime=block), OpenHandsConfig.from_env()) is expected
