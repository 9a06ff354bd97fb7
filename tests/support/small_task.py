"""The smallest task that is accepted at its first attempt: one function, one test, one simulated model."""

import json
from pathlib import Path

from harness import commit_files

TARGET, TEST = "shop.py", "test_shop.py"
CODE = "def price(pieces):\n    return 150 * pieces\n"
WRITE = (
    r"printf 'from shop import price\n\n\ndef test_price():\n    assert (price(0), price(2)) == (0, 300)\n'"
    f" > {TEST}"
)
SCENARIO = f"""
name: small
models:
  - id: acme/coder-mini:free
    context_length: 262144
    supported_parameters: [tools, tool_choice, max_tokens]
    conversations:
      - turns:
          - tool_calls: [{{name: terminal, arguments: {{command: {json.dumps(WRITE)}}}}}]
          - finish: The test is written.
"""


CALLS = 2
"""What the model is asked in one attempt."""


def small_repository(folder: Path) -> Path:
    return commit_files(folder / "shop", {TARGET: CODE})


def small_scenario(folder: Path) -> Path:
    file = folder / "small.yaml"
    file.write_text(SCENARIO)
    return file
