"""Assets by the folders of their originals. The folder of an upload is one of the media location, of an external file
one of its library."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from sqlalchemy import ColumnElement, func, select

from app.catalog.assets.asset_queries import asset_from_row, select_assets_with_files, where_trashed, where_visible
from app.catalog.database.engine import Database
from app.catalog.schema import tables
from app.catalog.schema.records import Asset, Visibility

_asset = tables.asset
_file = tables.file

_PAGE = 500
IDS_AT_ONCE = 50_000
"""Of a folder: finding them reads all of the owner's assets, so they are found together."""
_folder: ColumnElement[str] = func.rtrim(_file.c.path, func.replace(_file.c.path, "/", ""))
"""The path up to its last slash: without the characters at its end that are any of the path's but the slash."""


class FolderRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_paths(self, owner_id: UUID) -> list[str]:
        """The folders with assets of the owner's timeline, sorted."""
        folders = select(_folder).select_from(_asset.join(_file, _asset.c.file_id == _file.c.id))
        async with self._database.read() as connection:
            found = (await connection.execute(folders.where(*_where_shown(owner_id)).distinct())).scalars()
            return sorted(path.rstrip("/") or "/" for path in found)

    async def iter_folder(self, owner_id: UUID, path: str) -> AsyncIterator[list[Asset]]:
        """The assets of the owner's timeline right in this folder, by path, in pages; the first one may be empty."""
        inside = _folder == path.rstrip("/") + "/"
        found = select(_asset.c.id, _file.c.path).join(_file, _asset.c.file_id == _file.c.id)
        found = found.where(*_where_shown(owner_id), inside).order_by(_file.c.path).limit(IDS_AT_ONCE)
        statement = found
        while True:
            async with self._database.read() as connection:
                rows = (await connection.execute(statement)).all()
            ids = [row.id for row in rows]
            for begin in range(0, max(len(ids), 1), _PAGE):
                yield await self._get_page(owner_id, ids[begin : begin + _PAGE])
            if len(rows) < IDS_AT_ONCE:
                return
            statement = found.where(_file.c.path > rows[-1].path)

    async def _get_page(self, owner_id: UUID, ids: list[UUID]) -> list[Asset]:
        assets = select_assets_with_files().where(_asset.c.id.in_(ids), *_where_shown(owner_id)).order_by(_file.c.path)
        async with self._database.read() as connection:
            return [asset_from_row(row) for row in await connection.execute(assets)]


def _where_shown(owner_id: UUID) -> list[ColumnElement[bool]]:
    return [_asset.c.owner_id == owner_id, where_visible(Visibility.TIMELINE), where_trashed(False)]
