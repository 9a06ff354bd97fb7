"""Prints the image's name."""

from devtasks.execution.image import default_image

print(default_image())
