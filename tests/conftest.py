"""Every test starts without the user's settings, and with a Prefect home that goes with the test run."""

import os
import shutil
import signal
import tempfile

OURS = ("PREFECT", "OPENHANDS", "OPENROUTER", "DEVTASKS")

# A script's background process ignores Ctrl-C, and so would every program that a test starts and then interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before any test imports Prefect, which reads its settings and makes its home when it is imported.
for name in [each for each in os.environ if each.startswith(OURS)]:
    del os.environ[name]
HOME = os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="devtasks-tests-")


def pytest_unconfigure() -> None:
    shutil.rmtree(HOME, ignore_errors=True)
