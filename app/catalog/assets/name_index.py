"""The index by which searches find parts of names: GIN of trigrams on PostgreSQL (pg_trgm), FTS5 of trigrams on SQLite.

On PostgreSQL the planner chooses it. On SQLite `find_candidates` does: most common names are found sooner by reading the assets in order.
`NameIndexRepository.update` makes the index, or puts in what is new, beside the work of all others. Names that are not in it yet are found all
the same. Where the database cannot have the index, a search reads all of the user's assets.
"""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import FromClause, Integer, Join, Subquery, Uuid, bindparam, column, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles

from app.catalog.database.concurrent_indexes import build_index, find_index_validity
from app.catalog.database.engine import Database
from app.catalog.database.error_translation import translate_database_error
from app.catalog.database.locations import SqliteLocation
from app.catalog.schema import tables
from app.catalog.schema.column_types import replace_unstorable
from app.catalog.schema.records import AssetFilters
from app.unicode_folding import fold_case

SQLITE_BATCH = 5000
"""Names that one transaction puts into the index."""
MOST_CANDIDATES = 20_000
"""Where more names match, reading the assets in order fills a page sooner."""
MOST_TRIGRAMS = 32
"""Of a long name that is searched for. The name itself is compared afterwards."""

_TRIGRAM = 3
_GIN_INDEX = "ix_asset_folded_name_trigram"
_ADVISORY_LOCK = 0x6D656469_6E616D65
_log = logging.getLogger(__name__)

_IS_IN_PLACE = text("SELECT count(*) FROM sqlite_master WHERE name = 'asset_name_index'")
_FOUND = """
SELECT rowid AS number FROM asset_name_index WHERE asset_name_index MATCH :trigrams
UNION ALL SELECT rowid FROM asset WHERE rowid > (SELECT last_row FROM asset_name_progress)
UNION ALL SELECT rowid FROM asset WHERE folded_name IS NULL AND +rowid <= (SELECT last_row FROM asset_name_progress)
"""
# The rows' numbers change if somebody rebuilds the tables, such as by a dump and a restore of SQLite's own.
_IS_VALID = """
SELECT coalesce((SELECT id FROM asset WHERE rowid = last_row) = last_id, last_row = 0) FROM asset_name_progress
"""
_PROBE = text(f"SELECT (SELECT count(*) FROM ({_FOUND} LIMIT :most + 1)), ({_IS_VALID})")  # noqa: S608
_NEXT = text("SELECT last_row FROM asset_name_progress")
_LAST_OF_BATCH = text(
    "SELECT rowid, id FROM (SELECT rowid, id FROM asset WHERE rowid > :after ORDER BY rowid LIMIT :count) "
    "ORDER BY rowid DESC LIMIT 1"
).columns(column("rowid", Integer), column("id", Uuid))
_PUT_IN = text(
    "INSERT INTO asset_name_index (rowid, folded_name) SELECT rowid, folded_name FROM asset "
    "WHERE rowid > :after AND rowid <= :last AND folded_name IS NOT NULL"
)
_SET_PROGRESS = text("UPDATE asset_name_progress SET last_row = :last, last_id = :id").bindparams(
    bindparam("id", type_=Uuid)
)

_FIND_OPERATOR_CLASS = text(
    "SELECT quote_ident(nspname) FROM pg_opclass JOIN pg_namespace ON pg_namespace.oid = opcnamespace "
    "WHERE opcname = 'gin_trgm_ops'"
)


async def find_candidates(connection: AsyncConnection, filters: AssetFilters) -> Subquery | None:
    """The numbers of the rows that may match the filters' name, on SQLite; None: read the assets in order."""
    if filters.name_contains is None or connection.dialect.name != "sqlite":
        return None
    trigrams = build_trigram_query(filters.name_contains)
    if trigrams is None or not (await connection.execute(_IS_IN_PLACE)).scalar_one():
        return None
    count, is_valid = (await connection.execute(_PROBE, {"trigrams": trigrams, "most": MOST_CANDIDATES})).one()
    if count > MOST_CANDIDATES or not is_valid:
        return None
    found = text(_FOUND).bindparams(trigrams=trigrams)
    return found.columns(column("number", Integer)).subquery("named")


def build_trigram_query(name: str) -> str | None:
    """The query of FTS5 for rows that have all of the name's trigrams; None: it has none."""
    folded = replace_unstorable(fold_case(name))
    trigrams = dict.fromkeys(folded[begin : begin + _TRIGRAM] for begin in range(len(folded) - _TRIGRAM + 1))
    quoted = ('"' + trigram.replace('"', '""') + '"' for trigram in list(trigrams)[:MOST_TRIGRAMS])
    return " AND ".join(quoted) or None


def join_candidates(candidates: Subquery) -> FromClause:
    """The assets of these rows, which SQLite looks up one by one: without statistics it would choose another index."""
    return _CrossJoin(candidates, tables.asset, text("asset.rowid = named.number"))


class _CrossJoin(Join):
    """SQLite keeps the order of a CROSS JOIN: for each row of the left side it looks up those of the right one."""

    inherit_cache = True


@compiles(_CrossJoin)
def _compile_cross_join(join: _CrossJoin, compiler: Any, **options: Any) -> str:
    options |= {"asfrom": True, "from_linter": None}  # which does not see that `onclause` joins them
    left, right = (compiler.process(side, **options) for side in (join.left, join.right))
    return f"{left} CROSS JOIN {right} ON {compiler.process(join.onclause)}"


class NameIndexRepository:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_refusal_logged = False

    @property
    def is_filled_in_batches(self) -> bool:
        """True on SQLite: `update` has work whenever assets were added. On PostgreSQL it has none once the index is there."""
        return isinstance(self._database.location, SqliteLocation)

    async def update(self) -> None:
        """May be killed at any point, and run in several processes at once. Raises `CatalogError`."""
        if not self.is_filled_in_batches:
            await self._make_gin_index()
            return
        async with self._database.read() as connection:
            if not (await connection.execute(_IS_IN_PLACE)).scalar_one():
                return
        while await self._put_in_batch():
            pass

    async def _put_in_batch(self) -> bool:
        """Returns whether there may be more."""
        async with self._database.write() as connection:
            if not (await connection.execute(text(_IS_VALID))).scalar_one():
                _log.warning("the rows of assets were numbered anew: the index of names is made again")
                await connection.execute(text("INSERT INTO asset_name_index (asset_name_index) VALUES ('delete-all')"))
                await connection.execute(_SET_PROGRESS, {"last": 0, "id": None})
            after = (await connection.execute(_NEXT)).scalar_one()
            batch = await connection.execute(_LAST_OF_BATCH, {"after": after, "count": SQLITE_BATCH})
            if (last := batch.one_or_none()) is None:
                return False
            await connection.execute(_PUT_IN, {"after": after, "last": last.rowid})
            await connection.execute(_SET_PROGRESS, {"last": last.rowid, "id": last.id})
        return True

    async def _make_gin_index(self) -> None:
        async with self._database.read() as connection:
            if await find_index_validity(connection, _GIN_INDEX):
                return
        try:
            async with self._database.dedicated_connection() as connection:
                await self._build_gin_index(connection)
        except DBAPIError as error:
            raise translate_database_error(error) from error

    async def _build_gin_index(self, connection: AsyncConnection) -> None:
        locked = await connection.execute(text(f"SELECT pg_try_advisory_lock({_ADVISORY_LOCK})"))
        if not locked.scalar_one():
            return  # a process that was killed may still be waited for by its server
        try:
            await connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            self._log_refusal(error)
            return
        schema = (await connection.execute(_FIND_OPERATOR_CLASS)).scalar_one()
        await build_index(connection, _GIN_INDEX, f"asset USING gin (folded_name {schema}.gin_trgm_ops)")

    def _log_refusal(self, error: DBAPIError) -> None:
        if not self._is_refusal_logged:
            reason = str(error.orig).partition("\n")[0]
            _log.warning("searches by name read all of a user's assets: pg_trgm cannot be created (%s)", reason)
        self._is_refusal_logged = True
