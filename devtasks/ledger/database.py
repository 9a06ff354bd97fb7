"""The ledger's connection: opened, upgraded, and used in transactions whose errors are this project's."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Self

from sqlalchemy import (
    Connection,
    DateTime,
    Engine,
    Executable,
    Select,
    Table,
    bindparam,
    create_engine,
    event,
    func,
    null,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random

from devtasks import migrations
from devtasks.errors import InvalidInput, LedgerError, ServiceUnreachable
from devtasks.ledger.address import parse, without_password

Clock = Callable[[], datetime]

CONNECT_ARGS: dict[str, dict[str, float]] = {
    "sqlite": {"timeout": 30},  # seconds a statement waits for another process's write
    "postgresql": {"timeout": 10, "command_timeout": 60},
}
CONNECTIONS = 5
"""The most connections of a process; each is opened when it is first needed, and then kept."""

_INSERTS = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_UPGRADE_LOCKS = {
    "sqlite": ("PRAGMA journal_mode=WAL", "BEGIN IMMEDIATE"),
    "postgresql": ("SELECT pg_advisory_xact_lock(4845873142)",),
}


class Database:
    """An open database with the ledger's schema; what is stored where is its subclasses' business.

    What is done in one transaction is a function of its connection. PostgreSQL's driver runs it in the event loop,
    SQLite's as a whole in a thread: to change threads for each statement took longer than the statements.

    Every method raises ServiceUnreachable when the database went away or stays locked, and LedgerError when it refuses.
    """

    def __init__(self, engine: Engine | AsyncEngine, address: str, now: Clock | None) -> None:
        self._engine = engine
        self._address = address
        self._clock = now
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="ledger")
        # SQLite has no queue: whoever finds the file locked sleeps and looks again, so a process's own calls line up.
        self._turn = asyncio.Lock() if self._is_sqlite else nullcontext()

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, now: Clock | None = None) -> AsyncGenerator[Self]:
        """Connect, bring the schema to this version, and close every connection at the end.

        `url` is `sqlite:///FILE` (its folder is made) or `postgresql://...`, also over a Unix socket
        (`postgresql://USER@/NAME?host=FOLDER`), with or without the driver's name. `now` is the clock of the
        quota's windows; by default PostgreSQL's own, which all machines share, and this machine's beside a file.
        Raises InvalidInput for any other URL, ServiceUnreachable when nothing answers there, and LedgerError when
        the schema is of a newer version.
        """
        parsed, address = parse(url), without_password(url)
        dialect = parsed.get_backend_name()
        create = create_engine if dialect == "sqlite" else create_async_engine
        engine = create(parsed, connect_args=CONNECT_ARGS[dialect], pool_size=CONNECTIONS, max_overflow=0)
        for name, listener in _LISTENERS[dialect].items():
            event.listen(engine if isinstance(engine, Engine) else engine.sync_engine, name, listener)
        database = cls(engine, address, now)
        try:
            if dialect == "sqlite":
                database._make_file(Path(parsed.database or ""))
            if await database._reading(_revision) != migrations.HEAD:
                await database._upgrade()
            yield database
        finally:
            await database._close()

    @property
    def _is_sqlite(self) -> bool:
        return isinstance(self._engine, Engine)

    async def _writing[Result](self, work: Callable[[Connection], Result]) -> Result:
        """Return what `work` returns, in a transaction that is rolled back where an error leaves it."""

        def transaction(connection: Connection) -> Result:
            with connection.begin():
                if self._is_sqlite:  # or a transaction that read first fails at once where another process writes
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                return work(connection)

        async with self._turn:
            return await self._reading(transaction)

    async def _reading[Result](self, work: Callable[[Connection], Result]) -> Result:
        """Return what `work` returns; whatever goes wrong is this project's error."""
        if isinstance(self._engine, Engine):
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._read_here, self._engine, work)
        async with AsyncExitStack() as stack:
            with self._connecting():
                connection = await stack.enter_async_context(self._engine.connect())
            with self._working():
                return await connection.run_sync(work)

    def _read_here[Result](self, engine: Engine, work: Callable[[Connection], Result]) -> Result:
        with ExitStack() as stack:
            with self._connecting():
                connection = stack.enter_context(engine.connect())
            with self._working():
                return work(connection)

    def _replace(self, connection: Connection, table: Table, records: Sequence[Any]) -> None:
        """Store the records, each in place of what was stored under its key."""
        if records:
            connection.execute(_upsert(connection.dialect.name, table), rows_of(records))

    def _locked_row[Record](self, connection: Connection, table: Table, fresh: Record) -> tuple[Record, datetime]:
        """Return the record under the key of `fresh`, and the time since which nobody else can change it.

        Nobody can until this transaction's end. Where there is none yet, `fresh` is stored and returned.
        """
        query, row = _lock(connection.dialect.name, table), _row(fresh)
        key = {column.name: row[column.name] for column in table.primary_key}
        found = connection.execute(query, key).one_or_none()
        if found is None:
            connection.execute(_INSERTS[connection.dialect.name](table).on_conflict_do_nothing(), row)
            found = connection.execute(query, key).one()
        *values, moment = found
        now = self._clock() if self._clock else moment or datetime.now(UTC)
        return type(fresh)(*values), now.astimezone(UTC)

    async def _fetch[Record](self, record: type[Record], query: Select[Any]) -> tuple[Record, ...]:
        rows = await self._reading(lambda connection: connection.execute(query).mappings().all())
        return tuple(record(**row) for row in rows)

    @contextmanager
    def _connecting(self) -> Generator[None]:
        try:
            yield
        except TypeError as error:  # an unknown option in the URL's query becomes an unknown argument of the driver
            raise InvalidInput("DEVTASKS_DATABASE_URL", self._address, f"the driver's options: {error}") from None
        except Exception as error:
            raise self._unreachable(error) from error

    @contextmanager
    def _working(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise self._unreachable(error) from error
        except DBAPIError as error:
            if _is_passing(error):
                raise self._unreachable(error) from error
            raise LedgerError(f"the ledger at {self._address} refused: {error.orig}") from error

    # SQLite does not wait, but fails at once, where two processes switch the same file to WAL.
    @retry(
        retry=retry_if_exception_type(ServiceUnreachable),
        wait=wait_random(0.01, 0.1),
        stop=stop_after_delay(30),
        reraise=True,
    )
    async def _upgrade(self) -> None:
        def upgrade(connection: Connection) -> None:
            with connection.begin():
                for statement in _UPGRADE_LOCKS[connection.dialect.name]:
                    connection.exec_driver_sql(statement)
                migrations.upgrade(connection)

        await self._reading(upgrade)

    async def _close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        if isinstance(self._engine, Engine):
            self._engine.dispose()
        else:
            await self._engine.dispose()

    def _make_file(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.touch()
            if not path.is_file():
                raise IsADirectoryError(f"{path} is not a file")
        except OSError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> ServiceUnreachable:
        cause = error.orig if isinstance(error, DBAPIError) else error
        return ServiceUnreachable("ledger", self._address, f"{type(cause).__name__}: {cause}")


@cache
def _upsert(dialect: str, table: Table) -> Executable:
    insert = _INSERTS[dialect](table)
    changed = {column.name: insert.excluded[column.name] for column in table.c if not column.primary_key}
    return insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed)


@cache
def _lock(dialect: str, table: Table) -> Select[Any]:
    """Return the query for the row of a key, and the time by PostgreSQL's clock when its lock was got, else null."""
    is_it = [column == bindparam(column.name) for column in table.primary_key]
    # A query's columns are reckoned before it waits for the lock; those around it, after.
    locked = select(table).where(*is_it).with_for_update().subquery()
    clock = null() if dialect == "sqlite" else func.clock_timestamp(type_=DateTime(timezone=True))
    return select(*locked.c, clock)


def _replace_dropped(_: object, entry: ConnectionPoolEntry, __: object) -> None:
    """Have the pool open a new connection in place of one that the server has closed."""
    if entry.driver_connection and entry.driver_connection.is_closed():
        raise DisconnectionError


def _spare_syncs(connection: Any, _: object) -> None:
    """Let a commit return before it is on the disk: it outlives any process, though not a loss of power."""
    with suppress(sqlite3.DatabaseError):  # what is wrong with the file, the first statement tells
        connection.execute("PRAGMA synchronous=NORMAL")


_LISTENERS: dict[str, dict[str, Callable[..., None]]] = {
    "sqlite": {"connect": _spare_syncs},
    "postgresql": {"checkout": _replace_dropped},
}


def rows_of(records: Sequence[Any]) -> list[dict[str, Any]] | dict[str, Any]:
    """Return the records as a statement's parameters: one alone as itself, which takes the drivers fewer steps."""
    rows = [_row(record) for record in records]
    return rows if len(rows) > 1 else rows[0]


def _revision(connection: Connection) -> str | None:
    try:
        return connection.scalar(text("SELECT version_num FROM alembic_version"))
    except DBAPIError as error:
        if _is_missing_table(error):
            return None
        raise


def _row(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _is_missing_table(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) == "42P01" or "no such table" in str(error.orig)


def _is_passing(error: DBAPIError) -> bool:
    """Whether the connection was lost, or a resource or lock was not free: PostgreSQL's classes 08, 53 and 57."""
    sqlstate = getattr(error.orig, "sqlstate", None) or ""
    locked = "database is locked" in str(error.orig)
    return error.connection_invalidated or locked or sqlstate.startswith(("08", "53", "57"))
