"""A script for the sandbox: imports one file and does nothing else, so that coverage sees what importing runs.

Arguments: the file, the folder its top-level module lies in, and the module names to try in turn; when none of
them is that file, it is loaded by its path. Prints that the file was imported, so that one that ends the process can
be told from it; where no way works, prints the first error and exits with 1.
It is copied beside the run's reports, because the sandbox need not see this package: standard library only.
"""

import importlib
import importlib.util
import sys
from pathlib import Path


def _by_name(name: str, path: Path) -> None:
    module = importlib.import_module(name)
    if module.__file__ is None or not path.samefile(module.__file__):
        raise ImportError(f"the name {name} leads to {module.__file__}")


def _by_path(path: Path) -> None:
    spec = importlib.util.spec_from_file_location("imported_target", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)


def _main(file: str, root: str, *names: str) -> int:
    sys.path.append(root)
    path = Path(file)
    problem = ""
    for name in (*names, None):
        try:
            if name is None:
                _by_path(path)
            else:
                _by_name(name, path)
        except BaseException as error:  # a module may also call sys.exit when it is imported
            problem = problem or f"{type(error).__name__}: {error}"
        else:
            print(f"\nimported {file}")
            return 0
    print(problem)
    return 1


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
