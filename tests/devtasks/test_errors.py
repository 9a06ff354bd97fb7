import re

import devtasks.errors
from devtasks.errors import DevtasksError


def test_the_drawn_tree_holds_exactly_the_errors_there_are() -> None:
    drawn = re.findall(r"[├└]── (\w+)", devtasks.errors.__doc__ or "")
    defined = [
        name
        for name, value in vars(devtasks.errors).items()
        if isinstance(value, type) and issubclass(value, DevtasksError) and value is not DevtasksError
    ]
    assert drawn == defined
