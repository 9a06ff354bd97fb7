import asyncio
import multiprocessing
import random
import sqlite3
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import builders
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from builders import make_call
from hammer import leave
from sqlalchemy import text
from sqlalchemy.exc import StatementError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from devtasks import migrations
from devtasks.errors import InvalidInput, LedgerError, ServiceUnreachable
from devtasks.ledger import Ledger, database, metadata
from devtasks.ledger.measurements import Usage
from devtasks.metrics_collector import ExecutionMetrics, LlmCall
from devtasks.validation.result import Finding, ValidationLevel

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
FINDINGS = (
    Finding("tests_pass", ValidationLevel.ERROR, "1 of 3 fails", place="tests/test_a.py:7", evidence="assert 1 == 2"),
    Finding("coverage", ValidationLevel.INFO, "élan\0 \ud800"),
)


make_attempt = partial(
    builders.make_attempt, model_served="acme/coder", findings=FINDINGS, prompt_tokens=5_000_000_000, started_at=NOON
)
REJECTED = {"outcome": "rejected", "failure": "tests_fail", "score": 0.4}


def run[T](url: str, work: Callable[[Ledger], Coroutine[Any, Any, T]]) -> T:
    async def main() -> T:
        async with Ledger.open(url) as ledger:
            return await work(ledger)

    return asyncio.run(main())


def record(url: str, *attempts: ExecutionMetrics, calls: tuple[LlmCall, ...] = ()) -> None:
    async def work(ledger: Ledger) -> None:
        for attempt in attempts:
            await ledger.record_attempt(attempt)
        await ledger.record_calls(calls)

    run(url, work)


def execute(url: str, *statements: str) -> list[Any]:
    """Run statements beside the ledger and return the last one's first column."""

    async def main() -> list[Any]:
        engine = create_async_engine(url, poolclass=NullPool)
        async with engine.begin() as connection:
            results = [await connection.execute(text(statement)) for statement in statements]
            return list(results[-1].scalars()) if results[-1].returns_rows else []

    return asyncio.run(main())


def test_an_attempt_comes_back_as_it_was_recorded(database_url: str) -> None:
    full = make_attempt(**REJECTED)
    bare = make_attempt(attempt=2, target_file=None, model_served=None, failure=None, findings=(), simulated=True)
    record(database_url, full, bare)
    assert run(database_url, lambda ledger: ledger.attempts("run")) == (full, bare)


def test_a_runs_calls_come_back_in_the_order_they_were_made(database_url: str) -> None:
    calls = [make_call(attempt=attempt, sequence=sequence) for attempt in (1, 2) for sequence in range(1, 13)]
    calls[3] = replace(calls[3], model_served=None, provider=None, generation_id=None, error="rate_limited", status=429)
    shuffled = random.Random(7).sample(calls, len(calls))
    record(database_url, calls=(*shuffled, make_call(flow_run_id="other")))
    assert run(database_url, lambda ledger: ledger.calls("run")) == tuple(calls)


def test_what_runs_have_used_is_summed_up_while_they_run(database_url: str) -> None:
    calls = tuple(
        make_call(flow_run_id=run_id, sequence=number, cost_usd=0.25, simulated=run_id == "c")
        for run_id in ("a", "b", "c")
        for number in (1, 2)
    )
    record(database_url, calls=calls)
    assert run(database_url, lambda ledger: ledger.usage(["a", "b"])) == Usage(4, 1.0, simulated=False)
    assert run(database_url, lambda ledger: ledger.usage(["c", "none"])) == Usage(2, 0.5, simulated=True)
    assert run(database_url, lambda ledger: ledger.usage([])) == Usage(0, 0.0, simulated=False)


def test_recording_a_key_again_replaces_the_row(database_url: str) -> None:
    accepted = make_attempt(outcome="accepted", failure=None, score=1.0, findings=())
    answered = make_call(status=200, cost_usd=0.5)
    record(database_url, make_attempt(**REJECTED), calls=(make_call(status=500), make_call(sequence=2)))
    record(database_url, accepted, calls=(answered, make_call(sequence=3)))
    assert run(database_url, lambda ledger: ledger.attempts()) == (accepted,)
    assert run(database_url, lambda ledger: ledger.calls("run")) == (
        answered,
        make_call(sequence=2),
        make_call(sequence=3),
    )


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        pytest.param({}, ["b1", "a1", "a2"], id="all-by-start"),
        pytest.param({"flow_run_id": "a"}, ["a1", "a2"], id="one-run"),
        pytest.param({"flow_run_id": "missing"}, [], id="unknown-run"),
        pytest.param({"since": NOON}, ["a1", "a2"], id="since-is-inclusive"),
        pytest.param({"since": (NOON).astimezone(timezone(timedelta(hours=9)))}, ["a1", "a2"], id="since-elsewhere"),
        pytest.param({"since": NOON + timedelta(microseconds=1)}, ["a2"], id="since-a-moment-later"),
        pytest.param({"include_simulated": False}, ["b1", "a1"], id="without-simulated"),
        pytest.param({"since": NOON, "include_simulated": False}, ["a1"], id="both"),
    ],
)
def test_attempts_are_filtered(database_url: str, filters: dict[str, Any], expected: list[str]) -> None:
    record(
        database_url,
        make_attempt(flow_run_id="a", attempt=2, started_at=NOON + timedelta(hours=1), simulated=True),
        make_attempt(flow_run_id="a", attempt=1, started_at=NOON),
        make_attempt(flow_run_id="b", attempt=1, started_at=NOON - timedelta(microseconds=1)),
    )
    found = run(database_url, lambda ledger: ledger.attempts(**filters))
    assert [f"{row.flow_run_id}{row.attempt}" for row in found] == expected


def test_a_runs_attempts_are_in_their_order_also_when_the_clock_was_set_back(database_url: str) -> None:
    record(database_url, make_attempt(attempt=1), make_attempt(attempt=2, started_at=NOON - timedelta(hours=1)))
    assert [row.attempt for row in run(database_url, lambda ledger: ledger.attempts("run"))] == [1, 2]


def test_moments_come_back_in_utc(database_url: str) -> None:
    record(database_url, make_attempt(started_at=NOON.astimezone(timezone(timedelta(hours=-7)))))
    (row,) = run(database_url, lambda ledger: ledger.attempts())
    assert (row.started_at, row.started_at.utcoffset()) == (NOON, timedelta(0))


def test_a_moment_without_time_zone_is_refused(database_url: str) -> None:
    with pytest.raises(StatementError, match="time zone"):
        record(database_url, make_attempt(started_at=NOON.replace(tzinfo=None)))


def test_text_no_database_can_store_does_not_lose_the_row(database_url: str) -> None:
    record(database_url, make_attempt(model_served="a\0b\ud800", target_file="\udcff.py"))
    (row,) = run(database_url, lambda ledger: ledger.attempts())
    assert (row.model_served, row.target_file) == ("a\N{REPLACEMENT CHARACTER}b?", "?.py")


def test_many_coroutines_record_through_one_ledger(database_url: str) -> None:
    async def work(ledger: Ledger) -> int:
        await asyncio.gather(*(ledger.record_attempt(make_attempt(attempt=n)) for n in range(30)))
        return len(await ledger.attempts())

    assert run(database_url, work) == 30


def test_the_tables_are_those_of_the_models(database_url: str) -> None:
    record(database_url)

    async def differences() -> list[Any]:
        engine = create_async_engine(database_url, poolclass=NullPool)
        async with engine.connect() as connection:
            return await connection.run_sync(lambda sync: compare_metadata(MigrationContext.configure(sync), metadata))

    assert asyncio.run(differences()) == []


def test_the_revision_named_head_is_the_last_version() -> None:
    assert ScriptDirectory(str(Path(migrations.__file__).parent)).get_heads() == [migrations.HEAD]


def test_a_schema_of_this_version_is_not_touched(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record(database_url, make_attempt())
    monkeypatch.setattr(migrations, "upgrade", lambda connection: pytest.fail("upgraded again"))
    assert len(run(database_url, lambda ledger: ledger.attempts())) == 1


def test_a_failed_upgrade_leaves_nothing_behind(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_late(connection: Any) -> None:
        upgrade(connection)
        raise RuntimeError("late")

    upgrade = migrations.upgrade
    monkeypatch.setattr(migrations, "upgrade", fail_late)
    with pytest.raises(RuntimeError, match="late"):
        record(database_url)
    monkeypatch.undo()
    record(database_url, make_attempt())
    assert len(run(database_url, lambda ledger: ledger.attempts())) == 1


def test_a_schema_of_a_later_version_is_refused_with_what_to_do(database_url: str) -> None:
    record(database_url, make_attempt())
    execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LedgerError, match=r"'9999'.*upgrade devtasks"):
        record(database_url)
    assert execute(database_url, "SELECT attempt FROM attempts") == [1]


def test_the_folder_the_program_runs_in_does_not_matter(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = elsewhere\n")
    monkeypatch.chdir(tmp_path)
    record(database_url, make_attempt())
    assert execute(database_url, "SELECT version_num FROM alembic_version") == [migrations.HEAD]


def _open_and_record(url: str, number: int, start: Any) -> None:
    start.wait()
    record(url, make_attempt(attempt=number), calls=tuple(make_call(attempt=number, sequence=n) for n in range(5)))
    leave()


def test_eight_processes_open_a_fresh_database_at_once(database_url: str) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(8)
    processes = [context.Process(target=_open_and_record, args=(database_url, n, start)) for n in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 8
    assert [row.attempt for row in run(database_url, lambda ledger: ledger.attempts("run"))] == list(range(8))
    assert len(run(database_url, lambda ledger: ledger.calls("run"))) == 40


def test_a_fresh_sqlite_file_locked_by_another_is_waited_for(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def main() -> int:
        asyncio.get_running_loop().call_later(0.3, other.execute, "ROLLBACK")
        async with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
            return len(await ledger.attempts())

    assert asyncio.run(main()) == 0
    other.close()


def test_sqlite_readers_do_not_wait_for_writers(sqlite_url: str) -> None:
    record(sqlite_url)
    assert execute(sqlite_url, "PRAGMA journal_mode") == ["wal"]


def test_a_connection_the_server_dropped_is_replaced(postgresql_url: str) -> None:
    async def work(ledger: Ledger) -> int:
        await ledger.record_attempt(make_attempt())
        kept: Any = await ledger._reading(lambda connection: connection.connection.driver_connection)
        await asyncio.to_thread(
            execute,
            postgresql_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        async with asyncio.timeout(10):
            while not kept.is_closed():
                await asyncio.sleep(0.01)
        await ledger.record_attempt(make_attempt(attempt=2))
        return len(await ledger.attempts())

    assert run(postgresql_url, work) == 2


def test_a_database_that_went_away_is_unreachable(postgresql_url: str) -> None:
    name = postgresql_url.partition("@/")[2].partition("?")[0]

    async def work(ledger: Ledger) -> None:
        await asyncio.to_thread(
            execute, postgresql_url.replace(name, "postgres"), f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"
        )
        await asyncio.to_thread(
            execute,
            postgresql_url.replace(name, "postgres"),
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        )
        await ledger.record_attempt(make_attempt())

    with pytest.raises(ServiceUnreachable, match="cannot be reached"):
        run(postgresql_url, work)


def test_a_connection_lost_in_mid_statement_is_unreachable(postgres: Path, postgresql_url: str) -> None:
    name = postgresql_url.partition("@/")[2].partition("?")[0]
    waiting = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async def work(ledger: Ledger) -> None:
        other = await asyncpg.connect(host=str(postgres), user="postgres", database=name)
        await other.execute("BEGIN; LOCK TABLE attempts")
        recording = asyncio.create_task(ledger.record_attempt(make_attempt()))
        while not await other.fetchval(f"SELECT pg_terminate_backend(pid) {waiting}"):
            await asyncio.sleep(0.01)
        await other.close()
        await recording

    with pytest.raises(ServiceUnreachable):
        run(postgresql_url, work)


def test_a_sqlite_file_that_stays_locked_is_unreachable(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record(sqlite_url)
    monkeypatch.setitem(database.CONNECT_ARGS, "sqlite", {"timeout": 0})
    other = sqlite3.connect(sqlite_url.partition("///")[2], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ServiceUnreachable, match="locked"):
        record(sqlite_url, make_attempt())
    other.close()


def test_a_statement_the_database_refuses_is_an_error_of_the_ledger(database_url: str) -> None:
    async def work(ledger: Ledger) -> None:
        await asyncio.to_thread(execute, database_url, "DROP TABLE attempts")
        await ledger.record_attempt(make_attempt())

    with pytest.raises(LedgerError, match="attempts"):
        run(database_url, work)


@pytest.mark.parametrize("driver", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_postgresql_urls_are_accepted_as_services_print_them(postgresql_url: str, driver: str) -> None:
    url = postgresql_url.replace("postgresql+asyncpg", driver) + "&sslmode=disable"
    record(url, make_attempt())
    assert execute(postgresql_url, "SELECT attempt FROM attempts") == [1]


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+aiosqlite"])
def test_sqlite_urls_are_accepted_with_or_without_a_driver(tmp_path: Path, driver: str) -> None:
    record(f"{driver}:///{tmp_path}/new/folder/ledger.db", make_attempt())
    assert (tmp_path / "new/folder/ledger.db").stat().st_size > 0


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        pytest.param("", "", id="empty"),
        pytest.param("ledger.db", "ledger.db", id="only-a-path"),
        pytest.param("postgresql:me:hush@host/db", "***@host/db", id="no-slashes"),
        pytest.param("postgresql://me:hush@host:port/db", "postgresql://me:***@host:port/db", id="port-is-no-number"),
        pytest.param("postgresql://me:hu@sh@host/db", "postgresql://me:***@host/db", id="unquoted-password"),
        pytest.param("mysql://me:hush@host/db", "mysql://me:***@host/db", id="other-database"),
        pytest.param("postgresql+psycopg2://me:hush@host/db", "postgresql+psycopg2://me:***@host/db", id="sync-driver"),
        pytest.param("sqlite://", "sqlite://", id="in-memory"),
        pytest.param("sqlite:///:memory:", "sqlite:///:memory:", id="in-memory-by-name"),
        pytest.param("sqlite:///file:x?mode=memory&uri=true", "sqlite:///file:x?mode=memory&uri=true", id="file-uri"),
        pytest.param("sqlite://folder/ledger.db", "sqlite://folder/ledger.db", id="two-slashes"),
        pytest.param(
            "postgresql:///db?host=/nowhere&passwrd=1&password=hush",
            "postgresql:///db?host=/nowhere&passwrd=1&password=***",
            id="unknown-option",
        ),
    ],
)
def test_an_url_that_cannot_be_used_is_refused_without_its_password(url: str, shown: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        record(url)
    assert (refused.value.field, refused.value.value) == ("DEVTASKS_DATABASE_URL", shown)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("postgresql://me:hush@/db?host={folder}", id="no-socket"),
        pytest.param("postgresql://me:hush@127.0.0.1:1/db?password=hush", id="no-server"),
        pytest.param("sqlite:///{folder}/file/ledger.db", id="folder-is-a-file"),
        pytest.param("sqlite:///{folder}", id="file-is-a-folder"),
    ],
)
def test_where_nothing_answers_the_message_names_the_address_without_its_password(tmp_path: Path, url: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServiceUnreachable) as refused:
        record(url.format(folder=tmp_path))
    assert refused.value.service == "ledger"
    assert refused.value.address == url.format(folder=tmp_path).replace("hush", "***")
    assert "hush" not in str(refused.value)


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are notes, " * 100)
    with pytest.raises(LedgerError, match="not a database"):
        record(f"sqlite:///{path}")
    assert path.read_text() == "these are notes, " * 100


def test_a_missing_postgresql_database_is_unreachable(postgres: Path) -> None:
    with pytest.raises(ServiceUnreachable, match=r'"missing" does not exist'):
        record(f"postgresql://postgres@/missing?host={postgres}")


def test_no_connection_survives_the_ledger(postgresql_url: str) -> None:
    record(postgresql_url, make_attempt())
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    assert execute(postgresql_url, others) == [0]


def test_no_file_descriptor_survives_the_ledger(sqlite_url: str) -> None:
    record(sqlite_url)
    before = len(list(Path("/dev/fd").iterdir()))
    record(sqlite_url, make_attempt())
    assert len(list(Path("/dev/fd").iterdir())) == before
