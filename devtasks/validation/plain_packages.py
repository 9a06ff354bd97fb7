"""A plugin of pytest for the sandbox: leaves installed packages' assertions as they are, where pytest rewrites them.

pytest does so for every package that comes with a plugin, as soon as it is imported, and compiles each of its files for
that anew, because the sandbox writes no bytecode: 1.5 CPU-seconds for Hypothesis, whose plugin imports it at the end of
every session. Only the messages of assertions in these packages differ. It is copied beside the run's reports.
"""

import contextlib
import sys

from _pytest.assertion.rewrite import AssertionRewritingHook

with contextlib.suppress(AttributeError):  # a pytest that keeps them elsewhere is slower, and right
    for hook in sys.meta_path:
        if isinstance(hook, AssertionRewritingHook):
            hook._must_rewrite.clear()  # pyright: ignore[reportPrivateUsage]
