"""Reads Immich's tables, page by page: memory does not depend on the number of rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import sql

from app.immich.source.connection import SourceConnection
from app.immich.source.records import (
    SourceAsset,
    SourceFile,
    SourceKey,
    SourceLibrary,
    SourcePerson,
    SourceSession,
    SourceUser,
)
from app.immich.source.rows import Row, build_asset, build_key, build_library, build_person, build_session, build_user
from app.immich.source.schema import NOT_TAKEN_OVER, SourceSchema, build_schema
from app.immich.source.update_ids import build_least_id, is_timed_id

PAGE_ROWS = 500
_NIL = UUID(int=0)
_COLUMNS = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"


class SourceReader:
    """All methods raise `SourceUnavailable`."""

    def __init__(self, connection: SourceConnection, schema: SourceSchema) -> None:
        self._connection = connection
        self.schema = schema

    @classmethod
    async def open(cls, connection: SourceConnection) -> SourceReader:
        """Raises `NotImmich`, too."""
        rows = await connection.fetch(_COLUMNS)
        return cls(connection, build_schema((str(table), str(column)) for table, column in rows))

    async def read_time(self) -> datetime:
        """When the transaction began, by the clock of Immich's database."""
        return (await self._connection.fetch("SELECT transaction_timestamp()"))[0][0]

    async def read_version(self) -> str | None:
        """The newest version that Immich has recorded."""
        if not self.schema.has("version_history", "version") or not self.schema.has("version_history", "createdAt"):
            return None
        rows = await self._connection.fetch('SELECT version FROM version_history ORDER BY "createdAt" DESC LIMIT 1')
        return str(rows[0][0]) if rows else None

    async def read_media_location(self) -> str | None:
        """The media location, as Immich's container sees it."""
        if not self.schema.has("system_metadata", "value"):
            return None
        query = "SELECT value ->> 'location' FROM system_metadata WHERE key = 'MediaLocation'"
        rows = await self._connection.fetch(query)
        return rows[0][0] if rows else None

    async def list_users(self) -> list[SourceUser]:
        return [build_user(row) for row in await self._select_all("user")]

    async def list_keys(self) -> list[SourceKey]:
        return [build_key(row) for row in await self._select_all("api_key")]

    async def list_sessions(self) -> list[SourceSession] | None:
        """None where the role may not read them."""
        if not all(self.schema.has("session", name) for name in ("id", "userId", "token")):
            return None
        return [build_session(row) for row in await self._select_all("session")]

    async def list_libraries(self) -> list[SourceLibrary]:
        return [build_library(row) for row in await self._select_all("library")]

    async def count_not_taken_over(self) -> dict[str, int]:
        """Rows of each table that stays with Immich, if the role may read it."""
        return {name: await self._count(name) for name in NOT_TAKEN_OVER if self.schema.has(name)}

    async def count_assets(self, owners: Sequence[UUID] | None = None) -> int:
        where = sql.SQL("") if owners is None else sql.SQL(' WHERE "ownerId" = ANY(%s)')
        query = sql.SQL("SELECT count(*) FROM asset") + where
        return (await self._connection.fetch(query, [] if owners is None else [list(owners)]))[0][0]

    async def count_moves(self) -> int:
        """Moves that were interrupted."""
        return await self._count("move_history") if self.schema.has("move_history") else 0

    async def iterate_persons(self, since: datetime | None = None) -> AsyncIterator[list[SourcePerson]]:
        """`since`: only those that were written then or later, where Immich records that."""
        where, parameters = sql.SQL("TRUE"), list[Any]()
        if since is not None and self.schema.has("person", "updatedAt"):
            where, *parameters = await self._written_since("person", since)
        if self.schema.has("person", "ownerId"):
            async for rows in self._pages("person", self._columns("person"), where, parameters):
                yield [build_person(row) for row in rows]

    async def iterate_assets(
        self, *, after: UUID | None = None, owners: Sequence[UUID] | None = None, rows: int = PAGE_ROWS
    ) -> AsyncIterator[list[SourceAsset]]:
        """Pages of assets by ascending id, with their files and EXIF data. `owners`: only theirs."""
        where, parameters = sql.SQL("TRUE"), list[Any]()
        if owners is not None:
            where, parameters = sql.SQL('t."ownerId" = ANY(%s)'), [list(owners)]
        async for page in self._pages("asset", self._asset_columns(), where, parameters, after=after, limit=rows):
            yield await self._complete(page)

    async def get_assets(self, asset_ids: Iterable[UUID]) -> list[SourceAsset]:
        """Those of the assets that have a row."""
        columns = sql.SQL(", ").join(self._asset_columns())
        query = sql.SQL("SELECT {} FROM {} WHERE t.id = ANY(%s) ORDER BY t.id").format(columns, self._from("asset"))
        return await self._complete(self._name(await self._connection.fetch(query, [list(asset_ids)]), "asset"))

    async def get_original_paths(self, asset_ids: Iterable[UUID]) -> dict[UUID, str]:
        """The paths of the originals of those of the assets that have a row."""
        requested = list(asset_ids)
        if not requested:
            return {}
        query = 'SELECT id, "originalPath" FROM asset WHERE id = ANY(%s)'
        return {row[0]: row[1] for row in await self._connection.fetch(query, [requested])}

    async def iterate_live_photos(
        self, owners: Sequence[UUID], *, rows: int = PAGE_ROWS
    ) -> AsyncIterator[dict[UUID, UUID]]:
        """Pages of photos with videos: the ids of both."""
        if not self.schema.has("asset", "livePhotoVideoId"):
            return
        linked = '"livePhotoVideoId" IS NOT NULL AND "ownerId" = ANY(%s) AND id > %s ORDER BY id LIMIT %s'
        last = _NIL
        while True:
            query = f'SELECT id, "livePhotoVideoId" FROM asset WHERE {linked}'  # noqa: S608 - of constants
            page = dict(await self._connection.fetch(query, [list(owners), last, rows]))  # pyright: ignore[reportArgumentType]
            if page:
                yield page
            if len(page) < rows:
                return
            last = max(page)

    async def list_ids(self, table: str, after: UUID, last: UUID) -> set[UUID]:
        """Ids of `asset` or `person` that are greater than `after`, up to `last`."""
        query = sql.SQL("SELECT id FROM {} WHERE id > %s AND id <= %s").format(sql.Identifier(table))
        return {row[0] for row in await self._connection.fetch(query, [after, last])}

    async def iterate_changed_ids(self, since: datetime) -> AsyncIterator[list[UUID]]:
        """Ids of assets whose row, files or EXIF data were written at `since` or later, each id once, ascending."""
        parts: list[sql.Composable] = []
        parameters: list[Any] = []
        for table, column in (("asset", "id"), ("asset_file", "assetId"), ("asset_exif", "assetId")):
            if self.schema.has(table, "updatedAt"):
                where, parameter = await self._written_since(table, since)
                selected = sql.SQL("SELECT {} AS id FROM {} AS t WHERE {}")
                parts.append(selected.format(sql.Identifier("t", column), sql.Identifier(table), where))
                parameters.append(parameter)
        query = sql.SQL("SELECT id FROM ({}) AS changed ORDER BY id").format(sql.SQL(" UNION ").join(parts))
        async for page in self._stream_ids(query, parameters):
            yield page

    async def _written_since(self, table: str, since: datetime) -> tuple[sql.Composable, Any]:
        """The condition for rows `t` that were written at `since` or later, and its parameter. By `updateId` where that grows with the time:
        Immich has an index of it, and none of `updatedAt`."""
        if self.schema.has(table, "updateId"):
            newest = sql.SQL('SELECT "updateId" FROM {} ORDER BY "updateId" DESC LIMIT 1').format(sql.Identifier(table))
            rows = await self._connection.fetch(newest)
            if rows and is_timed_id(rows[0][0], await self.read_time()):
                return sql.SQL('t."updateId" >= %s'), build_least_id(since)
        return sql.SQL('t."updatedAt" >= %s'), since

    @property
    def records_deletions(self) -> bool:
        """Whether Immich records which assets it deletes, and the role may read that."""
        return self.schema.has("asset_audit", "assetId") and self.schema.has("asset_audit", "deletedAt")

    async def iterate_deleted_ids(self, since: datetime) -> AsyncIterator[list[UUID]]:
        """Ids of assets that were deleted at `since` or later, and have no row. Those that went with their user or library are not
        among them (see `app.immich.vanished`)."""
        gone = 'NOT EXISTS (SELECT FROM asset WHERE asset.id = "assetId")'
        query = f'SELECT DISTINCT "assetId" FROM asset_audit WHERE "deletedAt" >= %s AND {gone}'  # noqa: S608 - of constants
        async for page in self._stream_ids(sql.SQL(query), [since]):  # pyright: ignore[reportArgumentType]
            yield page

    async def _stream_ids(self, query: sql.Composable, parameters: Sequence[Any]) -> AsyncIterator[list[UUID]]:
        page: list[UUID] = []
        async for (found,) in self._connection.stream(query, parameters):
            page.append(found)
            if len(page) == PAGE_ROWS:
                yield page
                page = []
        if page:
            yield page

    async def stream_paths(self, prefix: str) -> AsyncIterator[tuple[str, int]]:
        """Every path below `prefix` that a row names, with the number of rows that name it, in the order of its bytes."""
        query = sql.SQL(
            'SELECT path, count(*) FROM ({}) AS named WHERE starts_with(path, %s) GROUP BY path ORDER BY path COLLATE "C"'
        ).format(sql.SQL(" UNION ALL ").join(self._path_selections()))
        async for path, rows in self._connection.stream(query, [prefix]):
            yield path, rows

    async def count_checksum_conflicts(self) -> int:
        """Pairs of owner and checksum that several uploads have: Immich's own unique index is missing then."""
        query = 'SELECT count(*) FROM (SELECT 1 FROM asset WHERE {} GROUP BY "ownerId", checksum HAVING count(*) > 1) AS pairs'
        uploads = sql.SQL('"libraryId" IS NULL' if self.schema.has("asset", "libraryId") else "TRUE")
        return (await self._connection.fetch(sql.SQL(query).format(uploads)))[0][0]

    async def sum_used_bytes(self) -> dict[UUID, int]:
        """The bytes of each user's uploads, as Immich counts them for the quota."""
        if not self.schema.has("asset_exif", "fileSizeInByte"):
            return {}
        uploads = sql.SQL('t."libraryId" IS NULL' if self.schema.has("asset", "libraryId") else "TRUE")
        query = sql.SQL('SELECT t."ownerId", coalesce(sum(e."fileSizeInByte"), 0)::bigint FROM {} WHERE {} GROUP BY 1')
        return dict(await self._connection.fetch(query.format(self._from("asset"), uploads)))  # pyright: ignore[reportArgumentType]

    def _path_selections(self) -> list[sql.Composable]:
        named = (
            ("asset", "originalPath"), ("asset", "sidecarPath"), ("asset", "encodedVideoPath"), ("asset_file", "path"),
            ("user", "profileImagePath"), ("person", "thumbnailPath"),
        )  # fmt: skip
        return [
            sql.SQL("SELECT {column} AS path FROM {table} WHERE {column} <> ''").format(
                column=sql.Identifier(column), table=sql.Identifier(table)
            )
            for table, column in named
            if self.schema.has(table, column)
        ]

    async def _complete(self, rows: list[Row]) -> list[SourceAsset]:
        """The assets of these rows, with their files and interrupted moves."""
        assets = {row["id"]: build_asset(row) for row in rows}
        if not assets:
            return []
        edited = sql.Identifier("isEdited") if self.schema.has("asset_file", "isEdited") else sql.SQL("FALSE")
        files = sql.SQL('SELECT "assetId", type, path, {} FROM asset_file WHERE "assetId" = ANY(%s)').format(edited)
        for asset_id, type_, path, is_edited in await self._connection.fetch(files, [list(assets)]):
            assets[asset_id].files.append(SourceFile(str(type_), path, is_edited=bool(is_edited)))
        if self.schema.has("move_history", "entityId"):
            moves = 'SELECT "entityId", "pathType", "oldPath", "newPath" FROM move_history WHERE "entityId" = ANY(%s)'
            for asset_id, type_, old, new in await self._connection.fetch(moves, [list(assets)]):
                assets[asset_id].moves[str(type_)] = (new, old)
        return list(assets.values())

    async def _pages(
        self,
        table: str,
        columns: list[sql.Composable],
        where: sql.Composable,
        parameters: list[Any],
        *,
        after: UUID | None = None,
        limit: int = PAGE_ROWS,
    ) -> AsyncIterator[list[Row]]:
        """Pages by ascending id."""
        query = sql.SQL("SELECT {} FROM {} WHERE t.id > %s AND {} ORDER BY t.id LIMIT %s").format(
            sql.SQL(", ").join(columns), self._from(table), where
        )
        last = _NIL if after is None else after
        while True:
            page = self._name(await self._connection.fetch(query, [last, *parameters, limit]), table)
            if page:
                yield page
            if len(page) < limit:
                return
            last = page[-1]["id"]

    async def _select_all(self, table: str) -> list[Row]:
        """All rows of a table of few rows, the oldest first where that is known."""
        if not self.schema.has(table, "id"):
            return []
        order = sql.Identifier("createdAt") if self.schema.has(table, "createdAt") else sql.SQL("t.id")
        query = sql.SQL("SELECT {} FROM {} ORDER BY {}, t.id").format(
            sql.SQL(", ").join(self._columns(table)), self._from(table), order
        )
        return self._name(await self._connection.fetch(query), table)

    async def _count(self, table: str) -> int:
        query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
        return (await self._connection.fetch(query))[0][0]

    def _columns(self, table: str, alias: str = "t") -> list[sql.Composable]:
        """The columns of the table that are read; NULL for those that this database lacks."""
        return [
            sql.Identifier(alias, name) if self.schema.has(table, name) else sql.SQL("NULL")
            for name in self.schema.list_read_columns(table)
        ]

    def _asset_columns(self) -> list[sql.Composable]:
        return [*self._columns("asset"), *(self._columns("asset_exif", "e") if self._has_exif else ())]

    @property
    def _has_exif(self) -> bool:
        return self.schema.has("asset_exif", "assetId")

    def _from(self, table: str) -> sql.Composable:
        joined = sql.SQL('asset AS t LEFT JOIN asset_exif AS e ON e."assetId" = t.id')
        return joined if table == "asset" and self._has_exif else sql.SQL("{} AS t").format(sql.Identifier(table))

    def _name(self, rows: list[tuple[Any, ...]], table: str) -> list[Row]:
        names = list(self.schema.list_read_columns(table))
        if table == "asset" and self._has_exif:
            names += [f"exif.{name}" for name in self.schema.list_read_columns("asset_exif")]
        return [dict(zip(names, row, strict=True)) for row in rows]
