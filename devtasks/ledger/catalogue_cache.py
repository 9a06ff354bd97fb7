"""The last catalogue that a service gave, for as long as its reader finds it fresh."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from devtasks.ledger.columns import table
from devtasks.ledger.database import Database


@dataclass(frozen=True)
class _Entry:
    address: str
    document: str
    fetched_at: datetime


@dataclass(frozen=True)
class CachedCatalogue:
    """A catalogue's document as it was fetched."""

    document: str
    fetched_at: datetime


_catalogues = table("catalogues", _Entry, key=("address",))


class Catalogues(Database):
    """One document for each address."""

    async def cached_catalogue(self, address: str) -> CachedCatalogue | None:
        """Return the document last stored for this address, however old; None where there is none."""
        found = await self._fetch(_Entry, select(_catalogues).where(_catalogues.c.address == address))
        return CachedCatalogue(found[0].document, found[0].fetched_at) if found else None

    async def cache_catalogue(self, address: str, document: str, at: datetime) -> None:
        """Store the document that was fetched from this address, in place of the one before unless that is newer."""
        entry = _Entry(address, document, at)

        def cache(connection: Connection) -> None:
            stored, _ = self._locked_row(connection, _catalogues, entry)
            if stored.fetched_at <= at:
                self._replace(connection, _catalogues, [entry])

        await self._writing(cache)
