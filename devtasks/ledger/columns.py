"""How values are stored: text that no database refuses, moments in UTC, findings as JSON; and tables from records."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from types import NoneType
from typing import Any, get_args, get_type_hints

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)

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


class _Name[Names: StrEnum](TypeDecorator[Names]):
    """A member of an enumeration as its name in text."""

    impl = Text
    cache_ok = True

    def __init__(self, names: type[Names]) -> None:
        super().__init__()
        self.names = names

    def process_bind_param(self, value: Names | None, dialect: Dialect) -> str | None:
        return None if value is None else value.value

    def process_result_value(self, value: str | None, dialect: Dialect) -> Names | None:
        return None if value is None else self.names(value)


_COLUMN_TYPES: dict[Any, Any] = {
    str: _CleanText,
    int: BigInteger,
    float: Double,
    bool: Boolean,
    datetime: _UtcDateTime,
    tuple[Finding, ...]: _Findings,
}

metadata = MetaData()


def table(name: str, record: type[Any], key: Sequence[str]) -> Table:
    """Return the table with a column for each field of the record, so that neither can drift from the other."""
    columns: list[Column[Any]] = []
    for field, hint in get_type_hints(record).items():
        nullable = NoneType in get_args(hint)
        bare = get_args(hint)[0] if nullable else hint
        kind = _Name(bare) if bare not in _COLUMN_TYPES and issubclass(bare, StrEnum) else _COLUMN_TYPES[bare]
        columns.append(Column(field, kind, primary_key=field in key, nullable=nullable))
    return Table(name, metadata, *columns)
