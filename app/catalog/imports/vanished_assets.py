"""Assets that were taken over and that the source has no more: they go to the trash, and never further."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from uuid import UUID

from sqlalchemy import ColumnElement, or_, select, update

from app.catalog import quota
from app.catalog.database.engine import Database, now
from app.catalog.files import iterate_batches
from app.catalog.imports.imported_files import release_paths
from app.catalog.schema import tables
from app.catalog.schema.records import FileKind

_asset = tables.asset
_derivative = tables.derivative
_file = tables.file
_library = tables.library


class VanishedAssetRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_page(self, after: UUID, limit: int) -> list[UUID]:
        """Ids of assets that came from the source, ascending, from the first one after `after`."""
        page = select(_asset.c.id).where(_where_imported(), _asset.c.id > after).order_by(_asset.c.id).limit(limit)
        async with self._database.read() as connection:
            return list((await connection.execute(page)).scalars())

    async def list_shown(self, asset_ids: Iterable[UUID]) -> list[UUID]:
        """Those of the assets that came from the source and are not in the trash."""
        shown: list[UUID] = []
        async with self._database.read() as connection:
            for batch in iterate_batches(asset_ids):
                there = select(_asset.c.id).where(
                    _asset.c.id.in_(batch), _asset.c.deleted_at.is_(None), _where_imported()
                )
                shown += (await connection.execute(there)).scalars()
        return shown

    async def has_shown_of(self, owners: Collection[UUID], libraries: Collection[UUID]) -> bool:
        """Whether an asset of one of these users or libraries came from the source and is not in the trash."""
        theirs = _asset.c.owner_id.in_(list(owners)) | _asset.c.library_id.in_(list(libraries))
        shown = select(_asset.c.id).where(theirs, _asset.c.deleted_at.is_(None), _where_imported()).limit(1)
        async with self._database.read() as connection:
            return (await connection.execute(shown)).first() is not None

    async def trash(self, asset_ids: Iterable[UUID]) -> int:
        """Returns how many were not in the trash."""
        moment = now()
        trashed = 0
        async with self._database.write() as connection:
            for batch in iterate_batches(asset_ids):
                there = (_asset.c.id.in_(batch), _asset.c.deleted_at.is_(None), _where_imported())
                owners = select(_asset.c.owner_id).where(*there).distinct()
                for owner_id in sorted((await connection.execute(owners)).scalars()):
                    await quota.lock_owner(connection, owner_id)
                values = {"deleted_at": moment, "updated_at": moment}
                trashed += (await connection.execute(update(_asset).where(*there).values(values))).rowcount
        return trashed

    async def list_without_bytes(self, asset_ids: Iterable[UUID]) -> list[UUID]:
        """Those of the vanished assets, also in the trash, that have a checksum, and whose originals have no copy of ours."""
        found: list[UUID] = []
        async with self._database.read() as connection:
            for batch in iterate_batches(asset_ids):
                without = select(_asset.c.id).where(_asset.c.id.in_(batch), _where_without_bytes())
                found += (await connection.execute(without)).scalars()
        return found

    async def give_up_checksums(self, asset_ids: Iterable[UUID]) -> None:
        """Give up the checksums of `list_without_bytes`: the source deletes the files of such assets, and an upload of the same bytes that were
        answered as a duplicate would be nowhere."""
        async with self._database.write() as connection:
            for batch in iterate_batches(asset_ids):
                without = (_asset.c.id.in_(batch), _where_without_bytes())
                owners = select(_asset.c.owner_id).where(*without).distinct()
                for owner_id in sorted((await connection.execute(owners)).scalars()):
                    await quota.lock_owner(connection, owner_id)
                await connection.execute(update(_asset).where(*without).values(checksum=None))

    async def release(self, asset_ids: Iterable[UUID]) -> None:
        """Give up the paths and checksums of vanished assets, as another asset has them now. Files of ours beside them stay where they
        are."""
        async with self._database.write() as connection:
            for batch in iterate_batches(asset_ids):
                mine = (_asset.c.id.in_(batch), _where_imported())
                vanished = select(_asset.c.id).where(*mine)
                named = or_(
                    _file.c.id.in_(select(_asset.c.file_id).where(*mine)),
                    _file.c.id.in_(select(_asset.c.sidecar_id).where(*mine, _asset.c.sidecar_id.is_not(None))),
                    _file.c.id.in_(select(_derivative.c.file_id).where(_derivative.c.asset_id.in_(vanished))),
                )
                theirs = _file.c.is_foreign | (_file.c.kind == FileKind.EXTERNAL)
                released = (await connection.execute(select(_file.c.id).where(named, theirs))).scalars().all()
                await release_paths(connection, released)
                await connection.execute(update(_asset).where(*mine).values(checksum=None))


def _where_without_bytes() -> ColumnElement[bool]:
    uncopied = (_file.c.id == _asset.c.file_id) & _file.c.is_foreign & _file.c.copy_path.is_(None)
    return _asset.c.checksum.is_not(None) & select(_file.c.id).where(uncopied).exists()


def _where_imported() -> ColumnElement[bool]:
    """True for assets whose original is foreign, and for those of libraries that the source scans."""
    foreign = select(_file.c.id).where(_file.c.id == _asset.c.file_id, _file.c.is_foreign).exists()
    scanned = select(_library.c.id).where(_library.c.id == _asset.c.library_id, _library.c.is_foreign).exists()
    return or_(foreign, scanned)
