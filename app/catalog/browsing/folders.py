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
        """The assets of the owner's timeline right in this folder, by path, in pages."""
        inside = _folder == path.rstrip("/") + "/"
        assets = select_assets_with_files().where(*_where_shown(owner_id), inside).order_by(_file.c.path)
        page: list[Asset] | None = None
        while page is None or len(page) == _PAGE:
            statement = assets.limit(_PAGE)
            if page:
                statement = statement.where(_file.c.path > page[-1].file.path)
            async with self._database.read() as connection:
                page = [asset_from_row(row) for row in await connection.execute(statement)]
            yield page


def _where_shown(owner_id: UUID) -> list[ColumnElement[bool]]:
    return [_asset.c.owner_id == owner_id, where_visible(Visibility.TIMELINE), where_trashed(False)]
