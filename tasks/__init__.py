"""Prefect tasks: one for each step of the picture.

A step is one call of the domain plus what only Prefect can do: native retries (as data, in `options`), logs, artifacts.
"""

from tasks.check_price import check_price
from tasks.deliver_result import deliver_result, publish_report
from tasks.open_pull_request import check_pull_request, open_pull_request
from tasks.prepare_workspace import prepare_workspace, show_environment
from tasks.record_metrics import AttemptEnd, record_metrics, write_broken_off
from tasks.run_openhands import Assignment, restore_calls, run_openhands
from tasks.select_model import select_model
from tasks.validate_result import validate_result

__all__ = [
    "Assignment",
    "AttemptEnd",
    "check_price",
    "check_pull_request",
    "deliver_result",
    "open_pull_request",
    "prepare_workspace",
    "publish_report",
    "record_metrics",
    "restore_calls",
    "run_openhands",
    "select_model",
    "show_environment",
    "validate_result",
    "write_broken_off",
]
