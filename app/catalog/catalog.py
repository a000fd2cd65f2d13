"""The entrance to the catalogue: opens the database, its tables up to date, and holds the parts that answer for them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.catalog.archives import Archives
from app.catalog.assets import Assets
from app.catalog.credentials import ApiKeys, Sessions
from app.catalog.derivatives import Derivatives
from app.catalog.download_parts import DownloadParts
from app.catalog.dump import Restoration, Snapshot, restoration, snapshot
from app.catalog.engine import Database, now, parse_url
from app.catalog.exchanges import Exchanges
from app.catalog.files import Files
from app.catalog.folded_names import FoldedNames
from app.catalog.installation import Installation
from app.catalog.libraries import Libraries
from app.catalog.library_files import LibraryFiles
from app.catalog.locks import Lock, exclusively, hold
from app.catalog.motion_parts import MotionParts
from app.catalog.moves import Moves
from app.catalog.persons import Persons
from app.catalog.pictures import Pictures
from app.catalog.tasks import Tasks
from app.catalog.upgrade import ensure_current
from app.catalog.users import Users

_WRITE_PROBE = "write-probe"


class Catalog:
    """All methods of its parts raise `CatalogError`s only, and may be cancelled: a transaction takes place whole or not at all."""

    def __init__(self, database: Database) -> None:
        self.database = database
        """For the rooms that keep tables of their own beside these."""
        self.outages = database.outages
        self.users = Users(database)
        self.api_keys = ApiKeys(database)
        self.sessions = Sessions(database)
        self.files = Files(database)
        self.assets = Assets(database)
        self.folded_names = FoldedNames(database)
        self.derivatives = Derivatives(database)
        self.motion_parts = MotionParts(database)
        self.persons = Persons(database)
        self.tasks = Tasks(database)
        self.pictures = Pictures(database)
        self.archives = Archives(database)
        self.download_parts = DownloadParts(database)
        self.libraries = Libraries(database)
        self.library_files = LibraryFiles(database)
        self.installation = Installation(database)
        self.moves = Moves(database)
        self.exchanges = Exchanges(database)

    @property
    def engine(self) -> AsyncEngine:
        """The engine that writes, for tests and tools."""
        return self.database.writer

    async def ping(self) -> None:
        """Raises `CatalogUnavailable` when the database does not answer. Set a time limit of your own."""
        async with self.database.read() as connection:
            await connection.execute(text("SELECT 1"))

    async def try_write(self, recent: float) -> None:
        """Raises why nothing can be written. A write in the last `recent` seconds proves enough; otherwise one row is changed."""
        await self.database.require_file()
        if time.monotonic() - self.database.written_at > recent:
            await self.installation.set_flag(_WRITE_PROBE, now().isoformat())

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """All of it, as it is in one moment. Raises `SchemaMismatch` where the tables are not this program's any more."""
        return snapshot(self.database)

    def lock(self, name: str) -> AbstractAsyncContextManager[Lock | None]:
        """See `app.catalog.locks.hold`."""
        return hold(self.database, name)

    def exclusively(self, name: str) -> AbstractAsyncContextManager[bool]:
        """See `app.catalog.locks`."""
        return exclusively(self.database, name)

    async def aclose(self) -> None:
        await self.database.aclose()


async def open_catalog(db_url: str, *, upgrade: bool = True) -> Catalog:
    """Raises `InvalidDatabaseUrl`, `CatalogUnavailable`, or `SchemaMismatch` where the tables are not current and may not be
    upgraded."""
    database = Database(parse_url(db_url))
    try:
        await ensure_current(database, upgrade=upgrade)
    except BaseException:
        await database.aclose()
        raise
    return Catalog(database)


async def upgrade(db_url: str) -> bool:
    """Bring the tables up to date; False when they were. Raises as `open_catalog`."""
    database = Database(parse_url(db_url))
    try:
        return await ensure_current(database, upgrade=True)
    finally:
        await database.aclose()


@asynccontextmanager
async def restore_into(db_url: str, revision: str) -> AsyncIterator[Restoration]:
    """See `app.catalog.dump.restoration`; the database need not have tables. Raises `InvalidDatabaseUrl`, too."""
    database = Database(parse_url(db_url))
    try:
        async with restoration(database, revision) as begun:
            yield begun
    finally:
        await database.aclose()
