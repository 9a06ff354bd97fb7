"""What people do in the Prefect UI of a real stack, in Debian's chromium; the models are simulated.

With SCREENSHOTS=FOLDER in the environment the pictures of docs/ui.md are written there.
"""

import os
import re
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import Up, example_repository, git, simulating, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage")
SCREENSHOTS = os.environ.get("SCREENSHOTS")
PATIENCE_MS = 60_000
FIELD_MS = 20_000
FILLED = 3
"""How often the form is filled in, until it keeps what it was given."""

HOLLOW = """
name: hollow
models:
  - id: acme/coder-mini:free
    context_length: 262144
    supported_parameters: [tools, tool_choice, max_tokens]
    conversations:
      - turns:
          - tool_calls:
              - name: terminal
                arguments: {command: "printf 'def test_nothing():\\n    pass\\n' > tests/test_nothing.py"}
          - finish: It is done.
          - finish: It stays as it is.
"""
"""A model that writes a test without any check, which no validation accepts."""

SLOW = """
name: slow
models:
  - id: acme/coder-mini:free
    context_length: 262144
    supported_parameters: [tools, tool_choice, max_tokens]
    latency: {distribution: fixed, seconds: 300}
    conversations:
      - turns:
          - finish: Too late.
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the path")


@pytest.fixture(scope="module")
def browser() -> "Generator[Browser]":
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def context(up: Up, browser: "Browser") -> "Generator[BrowserContext]":
    """A browser that has logged in, after the UI refused a wrong password."""
    opened = browser.new_context(viewport={"width": 1120, "height": 760})
    opened.set_default_timeout(PATIENCE_MS)
    page = opened.new_page()
    page.goto(address(up))
    password = page.locator("input")
    password.fill("devtasks:wrong")
    page.get_by_role("button", name="Login").click()
    page.get_by_text("Invalid credentials").wait_for()
    assert "/login" in page.url
    password.fill(up.connection()["PREFECT_API_AUTH_STRING"])
    page.get_by_role("button", name="Login").click()
    page.wait_for_url("**/dashboard**")
    page.close()
    yield opened
    opened.close()


@pytest.fixture
def page(context: "BrowserContext") -> "Generator[Page]":
    opened = context.new_page()
    yield opened
    opened.close()


def address(up: Up) -> str:
    return up.connection()["PREFECT_API_URL"].removesuffix("/api")


def picture(page: "Page", name: str) -> None:
    if SCREENSHOTS:
        # A canvas does not say when it has been drawn.
        page.wait_for_timeout(3_000)
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", animations="disabled")


def submit(page: "Page", up: Up, choices: dict[str, str], texts: dict[str, str]) -> str:
    """Fill in the form of the deployment `normal` as a person does, and return the flow run's id."""
    page.goto(address(up))
    page.get_by_role("link", name="Deployments").click()
    page.get_by_role("link", name="normal", exact=True).click()
    for _ in range(FILLED):
        page.get_by_role("button", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Custom run").click()
        if filled(page, choices, texts):
            break
        page.go_back()
    else:
        pytest.fail("the form does not keep what is filled in")
    page.get_by_label("description", exact=True).scroll_into_view_if_needed()
    picture(page, "submit")
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("button", name="View run").click()
    page.wait_for_url("**/runs/flow-run/**")
    return page.url.rpartition("/")[2].partition("?")[0]


def filled(page: "Page", choices: dict[str, str], texts: dict[str, str]) -> bool:
    """Fill in the form; return whether it holds that now.

    The UI makes up a run's name a moment after it shows the form, and may set every field back with it.
    """
    from playwright.sync_api import TimeoutError as TooLate

    fields = {name: page.get_by_label(re.compile(rf"^{name}( \(Optional\))?$")) for name in texts}
    try:
        page.wait_for_function("document.querySelector('input[name=name]')?.value")
        for field, value in choices.items():
            page.get_by_role("button", name=f"Select {field}").click(timeout=FIELD_MS)
            page.get_by_role("option", name=value, exact=True).click(timeout=FIELD_MS)
        for name, value in texts.items():
            fields[name].fill(value, timeout=FIELD_MS)
    except TooLate:
        return False
    return all(fields[name].input_value() == value for name, value in texts.items())


def state(up: Up, flow_run_id: str) -> str:
    return str(up.state(flow_run_id)["state_name"])


def open_run(page: "Page", up: Up, flow_run_id: str) -> None:
    page.goto(f"{address(up)}/v2/runs/flow-run/{flow_run_id}")


def menu(page: "Page", choice: str) -> None:
    page.get_by_role("button", name="Open menu").first.click()
    page.get_by_role("menuitem", name=choice).click()


def test_a_task_is_submitted_by_the_form_looked_at_and_answered(up: Up, page: "Page", tmp_path: Path) -> None:
    repository = example_repository(tmp_path / "shop")
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(HOLLOW)
    with simulating(up, scenario) as simulator:
        texts = {
            "description": "Test the prices.",
            "repository": str(repository),
            "target_file": "shop/pricing.py",
            "review_hours": "1",
            "credentials": simulator.block,
        }
        choices = {"category": "unit_test", "delivery": "branch"}
        flow_run_id = submit(page, up, choices, texts)
        wait_for(lambda: state(up, flow_run_id) == "NeedsReview", 600, "a person is asked")

        open_run(page, up, flow_run_id)
        page.get_by_role("tab", name="Artifacts").click()
        for key in ("verdict", "diff", "metrics", "timeline"):
            page.get_by_role("link", name=key).first.wait_for()
        page.get_by_role("link", name="verdict").first.click()
        page.locator("a[href*='/artifacts/artifact/']").first.click()
        page.wait_for_url("**/artifacts/artifact/**")
        page.get_by_text("asserts nothing").first.wait_for()
        picture(page, "verdict")

        open_run(page, up, flow_run_id)
        menu(page, "Resume")
        page.get_by_role("button", name="Select Decision").click()
        page.get_by_role("option", name="accept anyway").click()
        picture(page, "review")
        page.get_by_role("dialog").get_by_role("button", name="Resume", exact=True).click()
        assert up.wait_ended(flow_run_id)["state_name"] == "Approved"
    open_run(page, up, flow_run_id)
    page.get_by_text("Approved").first.wait_for()
    assert "NOT accepted by validation" in git(repository, "log", "--branches=devtasks/*", "-1", "--format=%B")


def test_a_running_task_is_cancelled(up: Up, page: "Page", tmp_path: Path) -> None:
    repository = example_repository(tmp_path / "shop")
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(SLOW)
    with simulating(up, scenario) as simulator:
        words = ("--category", "unit_test", "--target-file", "shop/pricing.py", "--description", "Test the prices.")
        made = up.run("devtasks", "submit-task", *words, "--repository", repository, "--credentials", simulator.block)
        flow_run_id = made.stdout.strip()
        wait_for(simulator.requests, 120, "the model is asked")
        open_run(page, up, flow_run_id)
        menu(page, "Cancel")
        page.get_by_role("button", name="Cancel Flow Run").click()
        assert up.wait_ended(flow_run_id, 60)["state_name"] == "Cancelled"
    open_run(page, up, flow_run_id)
    page.get_by_text("Cancelled", exact=True).first.wait_for()
    page.locator("canvas").first.wait_for()
    picture(page, "cancelled")
