"""Assets: photos and videos with their files. Whatever changes who refers to a file, and what counts against a quota, happens
here, each time in one transaction; see `quota` for the order of locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Update, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota, tasks
from app.catalog.assets import live_photo_links
from app.catalog.assets.asset_queries import (
    asset_from_row,
    choose_sort_column,
    encode_cursor,
    select_assets_with_files,
    select_usage_by_user,
    usage_from_row,
    where_after_cursor,
    where_filters,
    where_later_than,
    where_trashed,
    where_visible,
)
from app.catalog.assets.asset_removal import remove_assets
from app.catalog.database.engine import Database, now
from app.catalog.errors import (
    CatalogUnavailable,
    ConstraintViolation,
    DuplicateAsset,
    NotAPhoto,
    NotFound,
    QuotaExceeded,
    WriteLeaseLost,
)
from app.catalog.files import ID_BATCH_SIZE, file_from_row, iterate_batches, make_live, mark_unfinished_for_deletion
from app.catalog.schema import tables
from app.catalog.schema.records import (
    AccountUsage,
    Asset,
    AssetChanges,
    AssetFilters,
    AssetStatistics,
    AssetType,
    File,
    NewAsset,
    StoredFile,
    Visibility,
)

_asset = tables.asset
_file = tables.file
_library_file = tables.library_file
_user = tables.user

_INSERT_ATTEMPTS = 3
_CHECKSUM_BATCH = 1000
_NEW_FIELDS = tuple(NewAsset.__dataclass_fields__)


class AssetRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, new: NewAsset, original: StoredFile, sidecar: StoredFile | None = None) -> Asset:
        """The upload's last step, in one transaction: its files become live, the asset is there, the quota is charged, its
        task waits.

        Raises `DuplicateAsset`, `QuotaExceeded`, `WriteLeaseLost`, `NotAPhoto` or `NotFound` (the owner, or the video of a live photo); then
        nothing of it is there and the upload's files are doomed. A motion video is hidden, as in Immich.
        """
        files = [original, sidecar] if sidecar else [original]
        try:
            for _ in range(_INSERT_ATTEMPTS):
                try:
                    return await self._insert(new, files)
                except ConstraintViolation:
                    winner = await self.get_by_checksum(new.owner_id, new.checksum)
                    if winner:
                        raise DuplicateAsset(winner.id, is_trashed=winner.deleted_at is not None) from None
                    # Else the winner was deleted in this moment.
        except (DuplicateAsset, QuotaExceeded, WriteLeaseLost, NotAPhoto, NotFound):
            await self._mark_uploads_for_deletion([stored.file_id for stored in files])
            raise
        raise CatalogUnavailable("other uploads of the same content come and go")

    async def get(self, asset_id: UUID) -> Asset | None:
        return await self._get_one(_asset.c.id == asset_id)

    async def get_owned(self, owner_id: UUID, asset_id: UUID) -> Asset | None:
        return await self._get_one((_asset.c.id == asset_id) & (_asset.c.owner_id == owner_id))

    async def get_many_owned(self, owner_id: UUID, asset_ids: Iterable[UUID]) -> dict[UUID, Asset]:
        """Those of the ids that are this owner's, the trash included."""
        found: dict[UUID, Asset] = {}
        async with self._database.read() as connection:
            for batch in iterate_batches(asset_ids):
                statement = select_assets_with_files().where(_asset.c.owner_id == owner_id, _asset.c.id.in_(batch))
                found.update((asset.id, asset) for asset in map(asset_from_row, await connection.execute(statement)))
        return found

    async def get_all_visible(self, owner_id: UUID) -> list[Asset]:
        """All of the owner's in timeline and archive, oldest first, without the trash."""
        order = (_asset.c.file_created_at, _asset.c.id)
        statement = (
            select_assets_with_files()
            .where(_asset.c.owner_id == owner_id, where_visible(None), where_trashed(False))
            .order_by(*order)
        )
        found: list[Asset] = []
        async with self._database.read() as connection:
            while True:  # in batches: rows are made into assets on the event loop
                page = statement.where(where_later_than(found[-1])) if found else statement
                batch = [asset_from_row(row) for row in await connection.execute(page.limit(ID_BATCH_SIZE))]
                found += batch
                if len(batch) < ID_BATCH_SIZE:
                    return found

    async def originals(self, asset_ids: Iterable[UUID]) -> dict[UUID, File]:
        """The original's file of each asset that is there and not in the trash, whoever owns it."""
        found: dict[UUID, File] = {}
        async with self._database.read() as connection:
            for batch in iterate_batches(asset_ids):
                files = select(_asset.c.id, _file).join(_file, _asset.c.file_id == _file.c.id)
                for row in await connection.execute(files.where(_asset.c.id.in_(batch), where_trashed(False))):
                    found[row[0]] = file_from_row(tuple(row)[1:])
        return found

    async def get_by_checksum(self, owner_id: UUID, checksum: bytes) -> Asset | None:
        """An upload of these bytes (SHA-1), the trash included; external files do not count."""
        return (await self.get_by_checksums(owner_id, [checksum])).get(checksum)

    async def get_by_checksums(self, owner_id: UUID, checksums: Iterable[bytes]) -> dict[bytes, Asset]:
        found: dict[bytes, Asset] = {}
        wanted = list(dict.fromkeys(checksums))
        async with self._database.read() as connection:
            for start in range(0, len(wanted), _CHECKSUM_BATCH):
                batch = wanted[start : start + _CHECKSUM_BATCH]
                statement = select_assets_with_files().where(
                    _asset.c.owner_id == owner_id, _asset.c.checksum.in_(batch), _asset.c.library_id.is_(None)
                )
                for asset in map(asset_from_row, await connection.execute(statement)):
                    if asset.checksum is not None:
                        found[asset.checksum] = asset
        return found

    async def get_page(
        self,
        owner_id: UUID,
        *,
        cursor: str | None = None,
        limit: int = 100,
        type: AssetType | None = None,  # noqa: A002 - the field's name
        trashed: bool = False,
        visibility: Visibility | None = None,
        library_id: UUID | None = None,
    ) -> tuple[list[Asset], str | None]:
        """Newest first, and the cursor of the next page, if there is one. An asset that is there throughout shows once, whatever
        comes and goes between the pages. `visibility` None: timeline and archive. Raises `InvalidCursor`."""
        where = [_asset.c.owner_id == owner_id, where_visible(visibility), where_trashed(trashed)]
        if type is not None:
            where.append(_asset.c.type == type)
        if library_id is not None:
            where.append(_asset.c.library_id == library_id)
        if cursor is not None:
            where.append(where_after_cursor(cursor))
        statement = (
            select_assets_with_files()
            .where(*where)
            .order_by(_asset.c.file_created_at.desc(), _asset.c.id.desc())
            .limit(limit + 1)
        )
        async with self._database.read() as connection:
            found = [asset_from_row(row) for row in await connection.execute(statement)]
        page = found[:limit]
        return page, encode_cursor(page[-1]) if len(found) > limit else None

    async def search(
        self, owner_id: UUID, filters: AssetFilters, page: int = 1, size: int = 250
    ) -> tuple[list[Asset], int | None]:
        """Page `page` (from 1) of what fits, and the number of the next one, if there is one."""
        direction = (lambda c: c.asc()) if filters.ascending else (lambda c: c.desc())
        statement = (
            select_assets_with_files()
            .where(_asset.c.owner_id == owner_id, *where_filters(filters))
            .order_by(direction(choose_sort_column(filters)), direction(_asset.c.id))
            .limit(size + 1)
            .offset((page - 1) * size)
        )
        async with self._database.read() as connection:
            found = [asset_from_row(row) for row in await connection.execute(statement)]
        return found[:size], page + 1 if len(found) > size else None

    async def update(self, owner_id: UUID, asset_id: UUID, changes: AssetChanges) -> Asset | None:
        """None: no such asset of this owner. Raises `NotFound` for a live photo's video that is not there, `NotAPhoto` where the
        asset that is to show it is no photo. A video that it no longer shows comes back into sight. `exif` is added to what is known."""
        mine = (_asset.c.id == asset_id) & (_asset.c.owner_id == owner_id)
        values: dict[str, Any] = {**changes, "updated_at": now()}
        async with self._database.write() as connection:
            if "live_photo_video_id" in changes:
                await quota.lock_owner(connection, owner_id)
            before = (
                await connection.execute(select_assets_with_files().where(mine).with_for_update(of=_asset))
            ).one_or_none()
            if before is None:
                return None
            former = asset_from_row(before)
            if "exif" in changes:
                values["exif"] = (former.exif or {}) | (changes["exif"] or {})
            video = changes.get("live_photo_video_id")
            if video is not None:
                _check_is_photo(asset_id, former.type)
                await live_photo_links.hide_video(connection, owner_id, video)
            await connection.execute(update(_asset).where(mine).values(values))
            changed = asset_from_row((await connection.execute(select_assets_with_files().where(mine))).one())
            if "live_photo_video_id" in changes and former.live_photo_video_id not in (None, video):
                await live_photo_links.unhide_videos(
                    connection, owner_id, {former.live_photo_video_id: changed.visibility}
                )
        return changed

    async def trash(self, owner_id: UUID, asset_ids: Iterable[UUID]) -> None:
        """What is there already keeps its time. Raises `NotFound` naming the ids that are not this owner's."""
        moment = now()
        values = {"deleted_at": func.coalesce(_asset.c.deleted_at, moment), "updated_at": moment}
        wanted = list(asset_ids)
        async with self._database.write() as connection:
            await quota.lock_owner(connection, owner_id)
            await _check_owned(connection, owner_id, wanted)
            for batch in iterate_batches(wanted):
                await connection.execute(update(_asset).where(_asset.c.id.in_(batch)).values(values))
                # The owner has decided: the return of an external file is no reason to undo it.
                decided = update(_library_file).where(_library_file.c.asset_id.in_(batch)).values(trashed=False)
                await connection.execute(decided)

    async def restore(self, owner_id: UUID, asset_ids: Iterable[UUID] | None = None) -> int:
        """Take out of the trash, everything without `asset_ids`; how many there were. Those of a library whose files are gone stay, as in
        Immich, and come out with their files. Raises `NotFound`."""
        values = {"deleted_at": None, "updated_at": now()}
        gone = select(_library_file.c.asset_id).where(_library_file.c.missing_since.is_not(None))
        mine = (_asset.c.owner_id == owner_id) & where_trashed(True)
        there = mine & _asset.c.id.not_in(gone)
        async with self._database.write() as connection:
            await quota.lock_owner(connection, owner_id)
            if asset_ids is None:
                restored = (await connection.execute(update(_asset).where(there).values(values))).rowcount
                theirs = _library_file.c.asset_id.in_(select(_asset.c.id).where(mine))
                await connection.execute(_restore_when_found(theirs))
                return restored
            wanted = list(asset_ids)
            await _check_owned(connection, owner_id, wanted)
            restored = 0
            for batch in iterate_batches(wanted):
                statement = update(_asset).where(_asset.c.id.in_(batch), there).values(values)
                restored += (await connection.execute(statement)).rowcount
                await connection.execute(_restore_when_found(_library_file.c.asset_id.in_(batch)))
            return restored

    async def delete(self, owner_id: UUID, asset_ids: Iterable[UUID]) -> int:
        """Remove for good, in one transaction: the rows go, the files are doomed, the quota is given back. A photo takes its motion
        video along unless another photo shows it or its owner has it in sight or marked. Raises `NotFound` naming the ids that are not this owner's; then all stay."""
        wanted = list(asset_ids)
        async with self._database.write() as connection:
            await quota.lock_owner(connection, owner_id)
            await _check_owned(connection, owner_id, wanted)
            return await remove_assets(connection, owner_id, wanted)

    async def delete_from_library(self, owner_id: UUID, library_id: UUID, limit: int) -> int:
        """As `delete`, with at most so many of the library's assets, in no order; how many went. Several may do so at once."""
        mine = (_asset.c.library_id == library_id) & (_asset.c.owner_id == owner_id)
        async with self._database.write() as connection:
            await quota.lock_owner(connection, owner_id)
            some = list((await connection.execute(select(_asset.c.id).where(mine).limit(limit))).scalars())
            return await remove_assets(connection, owner_id, some)

    async def purge_trash(self, before: datetime, limit: int = 500) -> int:
        """Remove for good what has been in the trash since before that moment, at most about `limit` at a time; how many there were. What
        belongs to an external library stays: its file may be away, and if it is there the next scan would take it in again."""
        old = (_asset.c.deleted_at <= before) & _asset.c.library_id.is_(None)
        due = select(_asset.c.owner_id, _asset.c.id).where(old).order_by(_asset.c.deleted_at).limit(limit)
        by_owner: dict[UUID, list[UUID]] = {}
        async with self._database.read() as connection:
            for owner_id, asset_id in await connection.execute(due):
                by_owner.setdefault(owner_id, []).append(asset_id)
        removed = 0
        for owner_id, asset_ids in by_owner.items():
            async with self._database.write() as connection:
                await quota.lock_owner(connection, owner_id)
                # Asked again: its owner may have restored it since.
                still = select(_asset.c.id).where(_asset.c.owner_id == owner_id, _asset.c.id.in_(asset_ids), old)
                doomed = list((await connection.execute(still.with_for_update())).scalars())
                removed += await remove_assets(connection, owner_id, doomed)
        return removed

    async def get_statistics(
        self,
        owner_id: UUID,
        *,
        trashed: bool = False,
        visibility: Visibility | None = None,
        is_favorite: bool | None = None,
    ) -> AssetStatistics:
        """`visibility` None: timeline and archive."""
        where = [_asset.c.owner_id == owner_id, where_visible(visibility), where_trashed(trashed)]
        if is_favorite is not None:
            where.append(_asset.c.is_favorite == is_favorite)
        statement = select(_asset.c.type, func.count()).where(*where).group_by(_asset.c.type)
        async with self._database.read() as connection:
            counts = {row[0]: row[1] for row in await connection.execute(statement)}
        images, videos = counts.get(AssetType.IMAGE, 0), counts.get(AssetType.VIDEO, 0)
        return AssetStatistics(images, videos, images + videos)

    async def get_usage_by_user(self) -> list[AccountUsage]:
        """Of every user, oldest first."""
        async with self._database.read() as connection:
            return [usage_from_row(row) for row in await connection.execute(select_usage_by_user())]

    async def _insert(self, new: NewAsset, files: Sequence[StoredFile]) -> Asset:
        moment = now()
        async with self._database.write() as connection:
            for stored in files:
                await make_live(connection, new.owner_id, stored)
            await quota.charge_quota(connection, new.owner_id, sum(stored.size for stored in files))
            if new.live_photo_video_id is not None:
                _check_is_photo(new.id, new.type)
                await live_photo_links.hide_video(connection, new.owner_id, new.live_photo_video_id)
            values = {name: getattr(new, name) for name in _NEW_FIELDS} | {
                "file_id": files[0].file_id,
                "sidecar_id": files[1].file_id if len(files) > 1 else None,
                "created_at": moment,
                "updated_at": moment,
                "is_offline": False,
            }
            await connection.execute(insert(_asset).values(values))
            await tasks.add_tasks(connection, [(new.id, new.type)], moment)
            return asset_from_row(
                (await connection.execute(select_assets_with_files().where(_asset.c.id == new.id))).one()
            )

    async def _mark_uploads_for_deletion(self, file_ids: Iterable[UUID]) -> None:
        async with self._database.write() as connection:
            await mark_unfinished_for_deletion(connection, file_ids)

    async def _get_one(self, condition: ColumnElement[bool]) -> Asset | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select_assets_with_files().where(condition))).one_or_none()
        return None if row is None else asset_from_row(row)


def _restore_when_found(*theirs: ColumnElement[bool]) -> Update:
    """Marks those whose files are gone as what a scan had put into the trash: their owner wants to see them."""
    return update(_library_file).where(_library_file.c.missing_since.is_not(None), *theirs).values(trashed=True)


def _check_is_photo(asset_id: UUID, type_: AssetType) -> None:
    if type_ is not AssetType.IMAGE:
        raise NotAPhoto(asset_id)


async def _check_owned(connection: AsyncConnection, owner_id: UUID, asset_ids: list[UUID]) -> None:
    known: set[UUID] = set()
    for batch in iterate_batches(asset_ids):
        mine = select(_asset.c.id).where(_asset.c.owner_id == owner_id, _asset.c.id.in_(batch))
        known.update((await connection.execute(mine)).scalars())
    unknown = [asset_id for asset_id in dict.fromkeys(asset_ids) if asset_id not in known]
    if unknown:
        raise NotFound("asset", unknown)
