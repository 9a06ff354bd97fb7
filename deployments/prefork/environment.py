"""What of the worker's environment reaches its server and its flow runs."""

import os
import re
from collections.abc import Iterable, Mapping

OWN = ("DEVTASKS_", "PREFECT_API_", "PREFECT_CLIENT_")
"""Variables that the flow runs need to reach the server and the ledger; they may hold a password."""

AT_START = (
    *("PYTHON", "LD_", "DYLD_", "MALLOC_", "LC_"),
    *("LANG", "SSL_CERT_FILE", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
)
"""Variables (or how they begin) that take effect when a process or a library starts: a fork cannot change them."""

IN_FORK = ("PYTHONPATH",)
"""Those of them that the fork applies by itself."""

SERVER = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "PREFECT_HOME", "PREFECT_PROFILES_PATH")
"""What the preloaded server inherits besides; nothing else, because everybody's processes may come from it."""

_SECRET_WORDS = re.compile(
    r"(?:^|_)\w*(?:KEY|KEYS|TOKEN|TOKENS|SECRET|SECRETS|PASSWORD|PASSWORDS|PASSWD|PASSPHRASE|CREDENTIAL|CREDENTIALS"
    r"|APIKEY|PGPASSFILE|PAT|AUTH|DSN|COOKIE|PWD)(?:_|$)",
    re.IGNORECASE,
)
_NO_SECRETS = ("PWD", "OLDPWD")
_PASSWORD_IN_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@", re.IGNORECASE)


def is_secret(name: str, value: str) -> bool:
    """Whether a variable looks like a credential, by its name or by a password in a URL; our own never do."""
    if name.startswith(OWN) or name in _NO_SECRETS:
        return False
    return bool(_SECRET_WORDS.search(name) or _PASSWORD_IN_URL.search(value))


def withheld(given: Iterable[str]) -> dict[str, None]:
    """Return the secrets of this environment that a job has not named, as variables that are not to be set."""
    named = set(given)
    return {name: None for name, value in os.environ.items() if name not in named and is_secret(name, value)}


def shown(added: Mapping[str, str]) -> dict[str, str]:
    """Return this environment and what is added to it, without secrets: what a job has that gives nothing itself."""
    return {name: value for name, value in {**os.environ, **added}.items() if not is_secret(name, value)}


def of_server() -> dict[str, str]:
    """Return the environment of the preloaded server."""
    return {name: value for name, value in shown({}).items() if name in SERVER or name.startswith(AT_START)}


def needs_new_process(environment: Mapping[str, str | None], server: Mapping[str, str]) -> str | None:
    """Return a variable that only a new process could take from this environment; None where a fork does."""
    names = (name for name in (*environment, *server) if name.startswith(AT_START) and name not in IN_FORK)
    return next((name for name in names if environment.get(name) != server.get(name)), None)
