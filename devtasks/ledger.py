"""The SQL store of what was measured: attempts and calls to models, on PostgreSQL or in a SQLite file."""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType
from typing import Any, Self, get_args, get_type_hints

from sqlalchemy import (
    JSON,
    URL,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    Index,
    MetaData,
    Select,
    Table,
    Text,
    TypeDecorator,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random

from devtasks import migrations
from devtasks.errors import InvalidInput, LedgerError, ServiceUnreachable
from devtasks.metrics_collector import ExecutionMetrics, LlmCall
from devtasks.validation.result import Finding, ValidationLevel


class _CleanText(TypeDecorator[str]):
    """Text from models and programs: what no database can store (NUL, lone surrogates) is replaced, not refused."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return (
            None
            if value is None
            else value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
        )


class _UtcDateTime(TypeDecorator[datetime]):
    """Moments: aware in and out, kept in UTC also where the database knows no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"a datetime with a time zone is needed, not {value!r}")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class _Findings(TypeDecorator[tuple[Finding, ...]]):
    """Findings as a JSON list of objects."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: tuple[Finding, ...] | None, dialect: Dialect) -> list[dict[str, Any]]:
        return [asdict(finding) for finding in value or ()]

    def process_result_value(self, value: list[dict[str, Any]] | None, dialect: Dialect) -> tuple[Finding, ...]:
        return tuple(Finding(**{**item, "level": ValidationLevel(item["level"])}) for item in value or ())


_COLUMN_TYPES: dict[Any, Any] = {
    str: _CleanText,
    int: BigInteger,
    float: Double,
    bool: Boolean,
    datetime: _UtcDateTime,
    tuple[Finding, ...]: _Findings,
}

metadata = MetaData()


def _table(name: str, record: type[Any], key: Sequence[str]) -> Table:
    """Return the table with a column for each field of the record, so that neither can drift from the other."""
    columns: list[Column[Any]] = []
    for field, hint in get_type_hints(record).items():
        nullable = NoneType in get_args(hint)
        kind = _COLUMN_TYPES[get_args(hint)[0] if nullable else hint]
        columns.append(Column(field, kind, primary_key=field in key, nullable=nullable))
    return Table(name, metadata, *columns)


_attempts = _table("attempts", ExecutionMetrics, key=("flow_run_id", "attempt"))
_llm_calls = _table("llm_calls", LlmCall, key=("flow_run_id", "attempt", "sequence"))
Index("ix_attempts_started_at", _attempts.c.started_at)

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
_CONNECT_ARGS: dict[str, dict[str, float]] = {
    "sqlite": {"timeout": 30},  # seconds a statement waits for another process's write
    "postgresql": {"timeout": 10, "command_timeout": 60},
}
_INSERTS = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_UPGRADE_LOCKS = {
    "sqlite": ("PRAGMA journal_mode=WAL", "BEGIN IMMEDIATE"),
    "postgresql": ("SELECT pg_advisory_xact_lock(4845873142)",),
}


class Ledger:
    """The open ledger; every method is one transaction, and may be called from several coroutines at once.

    Every method raises ServiceUnreachable when the database went away or stays locked, and LedgerError when it refuses.
    """

    def __init__(self, engine: AsyncEngine, address: str) -> None:
        self._engine = engine
        self._address = address

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncGenerator[Self]:
        """Connect, bring the schema to this version, and close every connection at the end.

        `url` is `sqlite:///FILE` (its folder is made) or `postgresql://...`, also over a Unix socket
        (`postgresql://USER@/NAME?host=FOLDER`), with or without the async driver's name.
        Raises InvalidInput for any other URL, ServiceUnreachable when nothing answers there, and LedgerError when
        the schema is of a newer version.
        """
        parsed, address = _parse(url), _without_password(url)
        dialect = parsed.get_backend_name()
        engine = create_async_engine(
            parsed, connect_args=_CONNECT_ARGS[dialect], pool_size=1, max_overflow=4, pool_pre_ping=True
        )
        ledger = cls(engine, address)
        try:
            if dialect == "sqlite":
                ledger._make_file(Path(parsed.database or ""))
            if await ledger._revision() != migrations.HEAD:
                await ledger._upgrade()
            yield ledger
        finally:
            await engine.dispose()

    async def record_attempt(self, metrics: ExecutionMetrics) -> None:
        """Store the attempt, in place of what was stored for the same run and number."""
        await self._replace(_attempts, [metrics])

    async def record_calls(self, calls: Sequence[LlmCall]) -> None:
        """Store the calls, all or none, each in place of what was stored for the same run, attempt and sequence."""
        await self._replace(_llm_calls, calls)

    async def attempts(
        self, flow_run_id: str | None = None, since: datetime | None = None, include_simulated: bool = True
    ) -> tuple[ExecutionMetrics, ...]:
        """Return the attempts of one run by number, or of all runs by start; `since` is inclusive and aware."""
        query = select(_attempts)
        if flow_run_id is not None:
            query = query.where(_attempts.c.flow_run_id == flow_run_id).order_by(_attempts.c.attempt)
        if since is not None:
            query = query.where(_attempts.c.started_at >= since)
        if not include_simulated:
            query = query.where(_attempts.c.simulated.is_(False))
        query = query.order_by(_attempts.c.started_at, _attempts.c.flow_run_id, _attempts.c.attempt)
        return await self._fetch(ExecutionMetrics, query)

    async def calls(self, flow_run_id: str) -> tuple[LlmCall, ...]:
        """Return one run's calls in the order they were made."""
        query = select(_llm_calls).where(_llm_calls.c.flow_run_id == flow_run_id)
        return await self._fetch(LlmCall, query.order_by(_llm_calls.c.attempt, _llm_calls.c.sequence))

    async def _replace(self, table: Table, records: Sequence[Any]) -> None:
        if not records:
            return
        insert = _INSERTS[self._engine.dialect.name](table)
        changed = {column.name: insert.excluded[column.name] for column in table.c if not column.primary_key}
        statement = insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed)
        rows = [{field.name: getattr(record, field.name) for field in fields(record)} for record in records]
        async with self._connect() as connection, connection.begin():
            await connection.execute(statement, rows)

    async def _fetch[Record](self, record: type[Record], query: Select[Any]) -> tuple[Record, ...]:
        async with self._connect() as connection:
            rows = (await connection.execute(query)).mappings()
            return tuple(record(**row) for row in rows)

    @asynccontextmanager
    async def _connect(self) -> AsyncGenerator[AsyncConnection]:
        """Yield a connection whose errors are this project's."""
        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(self._engine.connect())
            except TypeError as error:  # an unknown option in the URL's query becomes an unknown argument of the driver
                raise InvalidInput("DEVTASKS_DATABASE_URL", self._address, f"the driver's options: {error}") from None
            except Exception as error:
                raise self._unreachable(error) from error
            try:
                yield connection
            except OSError as error:
                raise self._unreachable(error) from error
            except DBAPIError as error:
                if _is_passing(error):
                    raise self._unreachable(error) from error
                raise LedgerError(f"the ledger at {self._address} refused: {error.orig}") from error

    async def _revision(self) -> str | None:
        async with self._connect() as connection:
            try:
                return await connection.scalar(text("SELECT version_num FROM alembic_version"))
            except DBAPIError as error:
                if _is_missing_table(error):
                    return None
                raise

    # SQLite does not wait, but fails at once, where two processes switch the same file to WAL.
    @retry(
        retry=retry_if_exception_type(ServiceUnreachable),
        wait=wait_random(0.01, 0.1),
        stop=stop_after_delay(30),
        reraise=True,
    )
    async def _upgrade(self) -> None:
        async with self._connect() as connection, connection.begin():
            for statement in _UPGRADE_LOCKS[self._engine.dialect.name]:
                await connection.exec_driver_sql(statement)
            await connection.run_sync(migrations.upgrade)

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


def _parse(raw: str) -> URL:
    refusal = InvalidInput(
        "DEVTASKS_DATABASE_URL",
        _without_password(raw),
        "sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME, with special characters percent-encoded",
    )
    try:
        url = make_url(raw)
    except (ArgumentError, ValueError):
        raise refusal from None
    if url.drivername not in _DRIVERS or "@" in (url.host or ""):
        raise refusal
    if url.get_backend_name() == "sqlite" and (
        url.host or not url.database or re.match(":memory:|file:", url.database)
    ):
        raise refusal
    if "sslmode" in url.query:  # libpq's name, as hosting services print it; asyncpg's is `ssl`
        url = url.update_query_dict({"ssl": url.query["sslmode"]}).difference_update_query(["sslmode"])
    return url.set(drivername=_DRIVERS[url.drivername])


def _without_password(raw: str) -> str:
    """Return the URL as it may be shown, also one that cannot be parsed."""
    shown = re.sub(r"//([^:/@]*):.*@", r"//\1:***@", raw) if "//" in raw else re.sub(r".*@", "***@", raw)
    return re.sub(r"(password=)[^&]*", r"\1***", shown)


def _is_missing_table(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) == "42P01" or "no such table" in str(error.orig)


def _is_passing(error: DBAPIError) -> bool:
    """Whether the connection was lost, or a resource or lock was not free: PostgreSQL's classes 08, 53 and 57."""
    sqlstate = getattr(error.orig, "sqlstate", None) or ""
    locked = "database is locked" in str(error.orig)
    return error.connection_invalidated or locked or sqlstate.startswith(("08", "53", "57"))
