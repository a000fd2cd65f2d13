"""Assets: photos and videos with their files. Inserts, reads, searches, changes, trashes, restores and removes them.

Each change of an asset's references to files, and of the quota that they use, is one transaction; `quota` defines the
order of locks. Objects are not touched: files become `doomed`, and the sweeper deletes their objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Executable, Select, Update, bindparam, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota, tasks
from app.catalog.assets import live_photo_links, live_photo_pairs
from app.catalog.assets.access_paths import choose_access_path
from app.catalog.assets.asset_queries import (
    asset_from_row,
    choose_sort_column,
    encode_cursor,
    select_assets_with_files,
    select_matching,
    where_after_cursor,
    where_later_than,
    where_trashed,
    where_visible,
)
from app.catalog.assets.asset_removal import remove_assets
from app.catalog.assets.date_edits import DateEdit, compute_dates
from app.catalog.assets.exif_edits import merge_edits
from app.catalog.assets.ownership import check_owned
from app.catalog.database.engine import Database, now
from app.catalog.database.prepared_statements import prepare
from app.catalog.errors import (
    CatalogUnavailable,
    ConstraintViolation,
    DuplicateAsset,
    NotAPhoto,
    NotFound,
    QuotaExceeded,
    UploadSuperseded,
    WriteLeaseLost,
)
from app.catalog.files import ID_BATCH_SIZE, file_from_row, iterate_batches, make_live, mark_unfinished_for_deletion
from app.catalog.schema import tables
from app.catalog.schema.records import (
    Asset,
    AssetChanges,
    AssetFilters,
    AssetType,
    ChecksumHolder,
    File,
    NewAsset,
    StoredFile,
    Visibility,
)
from app.catalog.uploads.upload_rows import UploadCompletion, complete_upload
from app.unicode_folding import fold_case

_asset = tables.asset
_file = tables.file
_library_file = tables.library_file
_user = tables.user

_INSERT_ATTEMPTS = 3
_CHECKSUM_BATCHES = (50, 1000)
"""So many checksums are looked for by one statement; the last batch is filled up with one of its own."""
_NEW_FIELDS = tuple(NewAsset.__dataclass_fields__)

# Statements of every upload.
_INSERT = prepare(insert(_asset))
_SELECT_BY_ID = prepare(select_assets_with_files().where(_asset.c.id == bindparam("id")))
_SELECT_OWNED = prepare(
    select_assets_with_files().where(_asset.c.id == bindparam("id"), _asset.c.owner_id == bindparam("owner_id"))
)
_SELECT_BY_CHECKSUM = prepare(
    select_assets_with_files().where(
        _asset.c.owner_id == bindparam("owner_id"),
        _asset.c.checksum == bindparam("checksum"),
        _asset.c.library_id.is_(None),
    )
)


def _select_holders(count: int) -> Select[*tuple[Any, ...]]:
    holding = select(_asset.c.checksum, _asset.c.id, _asset.c.deleted_at.is_not(None)).where(
        _asset.c.owner_id == bindparam("owner_id"),
        _asset.c.checksum.in_([bindparam(name) for name in _name_checksums(count)]),
        _asset.c.library_id.is_(None),
    )
    return prepare(holding)


def _name_checksums(count: int) -> list[str]:
    return [f"checksum_{number}" for number in range(count)]


_SELECT_HOLDERS = tuple((_name_checksums(count), _select_holders(count)) for count in _CHECKSUM_BATCHES)


class AssetRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(
        self,
        new: NewAsset,
        original: StoredFile,
        sidecar: StoredFile | None = None,
        *,
        completion: UploadCompletion | None = None,
    ) -> Asset:
        """Finish an upload in one transaction: its files become live, the asset and its task are inserted, the quota is
        charged.

        Raises `DuplicateAsset`, `QuotaExceeded`, `WriteLeaseLost`, `NotAPhoto` or `NotFound` (the owner, or the video
        of a live photo); then nothing is inserted and the upload's files are marked for deletion, except the sidecar of
        a duplicate, which may be added to the existing asset (see `duplicate_uploads`). A motion video is hidden, as in
        Immich.

        `completion`: the session of a resumable upload is completed in the same transaction. Raises `UploadSuperseded`
        too; and the session decides what becomes of a file that is refused, which stays `writing`.
        """
        files = [original, sidecar] if sidecar else [original]
        try:
            for _ in range(_INSERT_ATTEMPTS):
                try:
                    return await self._insert(new, files, completion)
                except ConstraintViolation:
                    existing = await self.get_by_checksum(new.owner_id, new.checksum)
                    if existing:
                        raise DuplicateAsset(existing.id, is_trashed=existing.deleted_at is not None) from None
                    # Else the other asset was deleted meanwhile: try again.
        except DuplicateAsset:
            if completion is None:
                await self._mark_uploads_for_deletion([original.file_id])
            raise
        except (QuotaExceeded, WriteLeaseLost, NotAPhoto, NotFound):
            if completion is None:
                await self._mark_uploads_for_deletion([stored.file_id for stored in files])
            raise
        raise CatalogUnavailable("uploads of the same content were inserted and deleted at the same time")

    async def get(self, asset_id: UUID) -> Asset | None:
        return await self._query_one(_SELECT_BY_ID, {"id": asset_id})

    async def get_owned(self, owner_id: UUID, asset_id: UUID) -> Asset | None:
        return await self._query_one(_SELECT_OWNED, {"id": asset_id, "owner_id": owner_id})

    async def get_many_owned(self, owner_id: UUID, asset_ids: Iterable[UUID]) -> dict[UUID, Asset]:
        """Those of the assets that belong to the owner, including the trash."""
        found: dict[UUID, Asset] = {}
        async with self._database.read() as connection:
            for batch in iterate_batches(asset_ids):
                statement = select_assets_with_files().where(_asset.c.owner_id == owner_id, _asset.c.id.in_(batch))
                found.update((asset.id, asset) for asset in map(asset_from_row, await connection.execute(statement)))
        return found

    async def get_all_visible(self, owner_id: UUID) -> list[Asset]:
        """The owner's assets in timeline and archive, oldest first, without the trash."""
        order = (_asset.c.file_created_at, _asset.c.id)
        statement = (
            select_assets_with_files()
            .where(_asset.c.owner_id == owner_id, where_visible(None), where_trashed(False))
            .order_by(*order)
        )
        found: list[Asset] = []
        async with self._database.read() as connection:
            while True:  # in batches: rows are converted on the event loop, which other coroutines need, too
                page = statement.where(where_later_than(found[-1])) if found else statement
                batch = [asset_from_row(row) for row in await connection.execute(page.limit(ID_BATCH_SIZE))]
                found += batch
                if len(batch) < ID_BATCH_SIZE:
                    return found

    async def get_original_files(self, asset_ids: Iterable[UUID]) -> dict[UUID, File]:
        """The original of each asset that exists and is not in the trash, of any owner."""
        found: dict[UUID, File] = {}
        async with self._database.read() as connection:
            for batch in iterate_batches(asset_ids):
                files = select(_asset.c.id, _file).join(_file, _asset.c.file_id == _file.c.id)
                for row in await connection.execute(files.where(_asset.c.id.in_(batch), where_trashed(False))):
                    found[row[0]] = file_from_row(tuple(row)[1:])
        return found

    async def get_by_checksum(self, owner_id: UUID, checksum: bytes) -> Asset | None:
        """The owner's upload with this SHA-1, also in the trash. External files are not considered."""
        return await self._query_one(_SELECT_BY_CHECKSUM, {"owner_id": owner_id, "checksum": checksum})

    async def find_holders(self, owner_id: UUID, checksums: Iterable[bytes]) -> dict[bytes, ChecksumHolder]:
        """The owner's uploads with these SHA-1s, also in the trash. Not the whole assets, because a client may ask for thousands at once."""
        requested = list(dict.fromkeys(checksums))

        async def find(connection: AsyncConnection) -> dict[bytes, ChecksumHolder]:
            found: dict[bytes, ChecksumHolder] = {}
            start = 0
            while start < len(requested):
                left = len(requested) - start
                names, statement = next((each for each in _SELECT_HOLDERS if left <= len(each[0])), _SELECT_HOLDERS[-1])
                batch = requested[start : start + len(names)]
                batch += batch[:1] * (len(names) - len(batch))
                values = {"owner_id": owner_id, **dict(zip(names, batch, strict=True))}
                for checksum, asset_id, is_trashed in await connection.execute(statement, values):
                    found[checksum] = ChecksumHolder(asset_id, is_trashed=bool(is_trashed))
                start += len(names)
            return found

        return await self._database.query(find)

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
        """A page of assets, newest first, and the cursor of the next page, if there is one. An asset that exists
        throughout appears exactly once, even if others are added or removed between the pages. `visibility` None:
        timeline and archive. Raises `InvalidCursor`."""
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
        """Page `page` (from 1) of the matching assets, and the number of the next page, if there is one."""
        direction = (lambda c: c.asc()) if filters.ascending else (lambda c: c.desc())
        order = [direction(column) for column in (choose_sort_column(filters), _asset.c.id)]
        async with self._database.read() as connection:
            path = await choose_access_path(connection, owner_id, filters, filters.order_by)
            # Ids first, which the pages before are skipped by, then the rows of the page.
            matching = select_matching(owner_id, filters, path, _asset.c.id).order_by(*order)
            chosen = matching.limit(size + 1).offset((page - 1) * size)
            statement = select_assets_with_files().where(_asset.c.id.in_(chosen)).order_by(*order)
            found = [asset_from_row(row) for row in await connection.execute(statement)]
        return found[:size], page + 1 if len(found) > size else None

    async def update(
        self, owner_id: UUID, asset_id: UUID, changes: AssetChanges, dates: DateEdit | None = None
    ) -> Asset | None:
        """Change an asset. Returns None when the owner has no such asset. `exif` is merged into the known EXIF data, and
        stays when the file is read again. A live photo's video that is replaced or unlinked becomes visible again.
        Raises `NotFound` for a video that does not exist, `NotAPhoto` when the asset that is to show it is not a photo,
        and `DateOutOfRange`."""
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
            edited = dict(changes.get("exif") or {})
            if "live_photo_video_id" in changes:
                edited |= live_photo_pairs.LINKED_BY_HAND
                values["live_photo_cid"] = None
            if dates is not None:
                known = (former.exif or {}) | edited
                times, written = compute_dates(dates, former.file_created_at, former.local_date_time, known)
                values |= times
                edited |= written
            if edited:
                edits = (await connection.execute(select(_asset.c.exif_edits).where(mine))).scalar_one()
                values["exif"] = (former.exif or {}) | edited
                values["exif_edits"] = merge_edits(edits, former.exif, edited)
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
        """Move assets to the trash. An asset that is there already keeps its `deleted_at`. Raises `NotFound` with the
        ids that do not belong to the owner."""
        moment = now()
        values = {"deleted_at": func.coalesce(_asset.c.deleted_at, moment), "updated_at": moment}
        requested = list(asset_ids)
        async with self._database.write() as connection:
            await quota.lock_owner(connection, owner_id)
            await check_owned(connection, owner_id, requested)
            for batch in iterate_batches(requested):
                await connection.execute(update(_asset).where(_asset.c.id.in_(batch)).values(values))
                # The owner trashed it: a scan that finds the external file again must not restore the asset.
                keep_trashed = update(_library_file).where(_library_file.c.asset_id.in_(batch)).values(trashed=False)
                await connection.execute(keep_trashed)

    async def restore(
        self, owner_id: UUID, asset_ids: Iterable[UUID] | None = None, *, with_locked: bool = True
    ) -> int:
        """Restore assets from the trash, all when `asset_ids` is None: also locked ones, if `with_locked`. Returns how many. Assets of a
        library whose files are missing stay, as in Immich, and are restored when a scan finds their files. Raises `NotFound`."""
        values = {"deleted_at": None, "updated_at": now()}
        missing = exists().where(_library_file.c.asset_id == _asset.c.id, _library_file.c.missing_since.is_not(None))
        mine = (_asset.c.owner_id == owner_id) & where_trashed(True)
        if not with_locked:
            mine &= _asset.c.visibility != Visibility.LOCKED
        there = mine & ~missing
        async with self._database.write() as connection:
            await quota.lock_owner(connection, owner_id)
            if asset_ids is None:
                live = (await connection.execute(select(_asset.c.id).where(there, _where_live))).scalars().all()
                restored = (await connection.execute(update(_asset).where(there).values(values))).rowcount
                await _pair_again(connection, owner_id, live)
                condition = _library_file.c.asset_id.in_(select(_asset.c.id).where(mine))
                await connection.execute(_restore_when_found(condition))
                return restored
            requested = list(asset_ids)
            await check_owned(connection, owner_id, requested)
            restored = 0
            for batch in iterate_batches(requested):
                statement = update(_asset).where(_asset.c.id.in_(batch), there).values(values)
                restored += (await connection.execute(statement)).rowcount
                await connection.execute(_restore_when_found(_library_file.c.asset_id.in_(batch)))
            await _pair_again(connection, owner_id, requested)
            return restored

    async def delete(self, owner_id: UUID, asset_ids: Iterable[UUID]) -> int:
        """Remove assets permanently, in one transaction: their rows are deleted, their files marked for deletion, the
        quota refunded. A photo's motion video is removed, too, unless another photo shows it or its owner made it
        visible or a favourite. Raises `NotFound` with the ids that do not belong to the owner; then none is removed."""
        requested = list(asset_ids)
        async with self._database.write() as connection:
            await quota.lock_owner(connection, owner_id)
            await check_owned(connection, owner_id, requested)
            return await remove_assets(connection, owner_id, requested)

    async def delete_from_library(self, owner_id: UUID, library_id: UUID, limit: int) -> int:
        """As `delete`, for at most `limit` of the library's assets, in no order. Returns how many were removed. Several
        processes may call it at once."""
        # Written so that no database looks all of the owner's assets through, in each call, by an index of owners.
        mine = (_asset.c.library_id == library_id) & (_asset.c.owner_id == owner_id).is_(True)
        async with self._database.write() as connection:
            await quota.lock_owner(connection, owner_id)
            some = list((await connection.execute(select(_asset.c.id).where(mine).limit(limit))).scalars())
            return await remove_assets(connection, owner_id, some)

    async def purge_trash(self, before: datetime, limit: int = 500) -> int:
        """Remove assets permanently that were moved to the trash before `before`, at most about `limit` per call.
        Returns how many. Assets of external libraries stay: their disk may be unmounted, and if the file exists, the
        next scan would add it again. So do those with foreign originals: the program that they belong to removes them."""
        foreign = exists().where(_file.c.id == _asset.c.file_id, _file.c.is_foreign)
        old = (_asset.c.deleted_at <= before) & _asset.c.library_id.is_(None) & ~foreign
        due = select(_asset.c.owner_id, _asset.c.id).where(old).order_by(_asset.c.deleted_at).limit(limit)
        by_owner: dict[UUID, list[UUID]] = {}
        async with self._database.read() as connection:
            for owner_id, asset_id in await connection.execute(due):
                by_owner.setdefault(owner_id, []).append(asset_id)
        removed = 0
        for owner_id, asset_ids in by_owner.items():
            async with self._database.write() as connection:
                await quota.lock_owner(connection, owner_id)
                # Select again: the owner may have restored the asset since.
                still = select(_asset.c.id).where(_asset.c.owner_id == owner_id, _asset.c.id.in_(asset_ids), old)
                due_ids = list((await connection.execute(still.with_for_update())).scalars())
                removed += await remove_assets(connection, owner_id, due_ids)
        return removed

    async def _insert(self, new: NewAsset, files: Sequence[StoredFile], completion: UploadCompletion | None) -> Asset:
        moment = now()

        async def insert_asset(connection: AsyncConnection) -> Asset:
            touches_others = completion is not None or new.live_photo_video_id is not None
            await (quota.lock_owner if touches_others else quota.share_owner)(connection, new.owner_id)
            if completion is not None and not await complete_upload(connection, completion, new.id, created=True):
                raise UploadSuperseded(completion.upload.id)
            for stored in files:
                await make_live(connection, new.owner_id, stored)
            if new.live_photo_video_id is not None:
                _check_is_photo(new.id, new.type)
                await live_photo_links.hide_video(connection, new.owner_id, new.live_photo_video_id)
            values = {name: getattr(new, name) for name in _NEW_FIELDS} | {
                "file_id": files[0].file_id,
                "sidecar_id": files[1].file_id if len(files) > 1 else None,
                "folded_name": fold_case(new.original_file_name),
                "created_at": moment,
                "updated_at": moment,
                "is_offline": False,
            }
            await connection.execute(_INSERT, values)
            await tasks.add_tasks(connection, [(new.id, new.type)], moment)
            inserted = (await connection.execute(_SELECT_BY_ID, {"id": new.id})).one()
            # Last, since the owner's other uploads wait for its row until the commit.
            await quota.charge_quota(connection, new.owner_id, sum(stored.size for stored in files))
            return asset_from_row(inserted)

        return await self._database.transact(insert_asset)

    async def _mark_uploads_for_deletion(self, file_ids: Iterable[UUID]) -> None:
        async with self._database.write() as connection:
            await mark_unfinished_for_deletion(connection, file_ids)

    async def _query_one(self, statement: Executable, values: Mapping[str, object]) -> Asset | None:
        async def find(connection: AsyncConnection) -> Asset | None:
            row = (await connection.execute(statement, values)).one_or_none()
            return None if row is None else asset_from_row(row)

        return await self._database.query(find)


_where_live = _asset.c.live_photo_cid.is_not(None)


async def _pair_again(connection: AsyncConnection, owner_id: UUID, asset_ids: Iterable[UUID]) -> None:
    """Pair restored live photos, and videos, whose counterparts came while they were in the trash."""
    unpaired = await live_photo_pairs.find_unpaired_identifiers(connection, asset_ids)
    await live_photo_pairs.pair_live_photos(connection, owner_id, unpaired)


def _restore_when_found(*conditions: ColumnElement[bool]) -> Update:
    """Marks assets with missing files as trashed by a scan: their owner wants them restored when the files are found."""
    return update(_library_file).where(_library_file.c.missing_since.is_not(None), *conditions).values(trashed=True)


def _check_is_photo(asset_id: UUID, type_: AssetType) -> None:
    if type_ is not AssetType.IMAGE:
        raise NotAPhoto(asset_id)
