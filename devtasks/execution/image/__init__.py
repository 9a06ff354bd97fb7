"""What the docker runtime's image is made of, and the name that follows from it; `python -m` prints the name."""

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent
PYTHON = "/opt/devtasks/bin/python"
"""The interpreter in the image that has OpenHands, pytest and coverage."""

PATH = "/opt/devtasks/bin:/usr/local/bin:/usr/bin:/bin"
"""The image's PATH; uv, too, lies in the first of these."""

SOURCE = "/opt/devtasks/src/devtasks"
"""Where a container shows this package, read-only: its agent speaks the protocol of the worker that started it."""

RECIPE_LABEL = "devtasks.recipe"
"""The image's label with its recipe; an image made `FROM` it inherits the label."""

_INGREDIENTS = ("Dockerfile", "requirements.txt")


def recipe() -> str:
    """Return a digest of what the image is made of, 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in _INGREDIENTS:
        digest.update((FOLDER / name).read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def default_image() -> str:
    """Return the name that `make image` gives the image, by its recipe."""
    return f"devtasks-agent:{recipe()}"
