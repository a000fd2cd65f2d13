"""Takes over assets with their files, a batch in one transaction. A batch may be repeated: what is as it should be stays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, delete, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota, tasks
from app.catalog.assets.asset_removal import REPLACED_FILE_GRACE, mark_live_for_deletion
from app.catalog.database.bulk_statements import fetch_any, insert_rows
from app.catalog.database.engine import Database, now
from app.catalog.files import iterate_batches
from app.catalog.imports.asset_changes import BatchChanges, KnownRows, asset_values, compare_batch, list_files
from app.catalog.imports.import_sources import store_progress
from app.catalog.imports.imported_files import insert_files, release_paths, update_files
from app.catalog.libraries.library_files import ensure_folders
from app.catalog.schema import tables
from app.catalog.schema.import_records import ImportedAsset
from app.catalog.schema.records import FileKind

_asset = tables.asset
_derivative = tables.derivative
_file = tables.file
_library_file = tables.library_file
_task = tables.task


class ImportedAssetRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_holders(self, batch: Sequence[ImportedAsset]) -> set[UUID]:
        """Assets in the catalogue, not of the batch, that hold a path or a checksum which the batch wants."""
        async with self._database.read() as connection:
            files = {file.id for asset in batch for file in list_files(asset)}
            taken = [
                file_id for file_id in (await _read_path_owners(connection, batch)).values() if file_id not in files
            ]
            holders = set((await _read_checksum_owners(connection, batch)).values())
            for some in iterate_batches(taken):
                beside = select(_derivative.c.asset_id).where(_derivative.c.file_id.in_(some))
                for column in (_asset.c.file_id, _asset.c.sidecar_id):
                    found = select(_asset.c.id).where(column.in_(some))
                    holders |= set((await connection.execute(found)).scalars())
                holders |= set((await connection.execute(beside)).scalars())
        return holders - {asset.id for asset in batch}

    async def compare(self, batch: Sequence[ImportedAsset]) -> BatchChanges:
        """What `apply` would write."""
        async with self._database.read() as connection:
            return compare_batch(batch, await _read_known(connection, batch))

    async def apply_undisputed(
        self, batch: Sequence[ImportedAsset], *, progress: tuple[str, UUID] | None = None
    ) -> BatchChanges | None:
        """As `apply`, where no file and no asset outside of the batch has a path or a checksum that it wants. Returns None otherwise, and
        writes nothing."""
        async with self._write_batch(batch) as (connection, known):
            return None if _is_disputed(batch, known) else await _apply(connection, batch, known, progress)

    async def apply(self, batch: Sequence[ImportedAsset], *, progress: tuple[str, UUID] | None = None) -> BatchChanges:
        """Insert and update the assets. The owners must exist. `progress`: the name of the source and the id up to which it was read are
        stored in the same transaction. Raises `OutsideForeignRoots`."""
        async with self._write_batch(batch) as (connection, known):
            return await _apply(connection, batch, known, progress)

    @asynccontextmanager
    async def _write_batch(self, batch: Sequence[ImportedAsset]) -> AsyncIterator[tuple[AsyncConnection, KnownRows]]:
        """A transaction in which the owners are locked, and the rows that concern the batch."""
        async with self._database.write() as connection:
            for owner_id in sorted({asset.owner_id for asset in batch}):
                await quota.lock_owner(connection, owner_id)
            yield connection, await _read_known(connection, batch)

    async def link_videos(self, links: Mapping[UUID, UUID]) -> None:
        """Link photos to their videos, by the ids of both, where the catalogue has both."""
        async with self._database.write() as connection:
            wrong: dict[UUID, UUID] = {}
            for batch in iterate_batches(links):
                linked = select(_asset.c.id, _asset.c.live_photo_video_id).where(_asset.c.id.in_(batch))
                rows = (await connection.execute(linked)).all()
                wrong |= {row.id: links[row.id] for row in rows if row.live_photo_video_id != links[row.id]}
            for batch in iterate_batches(wrong.values()):
                present = set((await connection.execute(select(_asset.c.id).where(_asset.c.id.in_(batch)))).scalars())
                for photo_id, video_id in wrong.items():
                    if video_id in present:
                        linking = update(_asset).where(_asset.c.id == photo_id).values(live_photo_video_id=video_id)
                        await connection.execute(linking)


async def _apply(
    connection: AsyncConnection, batch: Sequence[ImportedAsset], known: KnownRows, progress: tuple[str, UUID] | None
) -> BatchChanges:
    changes = compare_batch(batch, known)
    await _write(connection, changes, known)
    if progress is not None:
        await store_progress(connection, *progress)
    return changes


def _is_disputed(batch: Sequence[ImportedAsset], known: KnownRows) -> bool:
    files = {file.id for asset in batch for file in list_files(asset)}
    assets = {asset.id for asset in batch}
    return not (files.issuperset(known.path_owners.values()) and assets.issuperset(known.checksum_owners.values()))


async def _read_known(connection: AsyncConnection, batch: Sequence[ImportedAsset]) -> KnownRows:
    ids = [asset.id for asset in batch]
    assets: dict[UUID, Any] = {row.id: row for row in await fetch_any(connection, select(_asset), _asset.c.id, ids)}
    derivatives: dict[UUID, dict[FileKind, UUID]] = {}
    for row in await fetch_any(connection, select(_derivative), _derivative.c.asset_id, ids):
        derivatives.setdefault(row.asset_id, {})[row.kind] = row.file_id
    videos = [asset.live_photo_video_id for asset in batch if asset.live_photo_video_id is not None]
    present = await fetch_any(connection, select(_asset.c.id), _asset.c.id, videos)
    listed = [asset.id for asset in batch if asset.library_id is not None]
    times = select(_library_file.c.asset_id, _library_file.c.mtime_ns)
    written = await fetch_any(connection, times, _library_file.c.asset_id, listed)
    wanted = [file.id for asset in batch for file in list_files(asset)]
    wanted += [file_id for kinds in derivatives.values() for file_id in kinds.values()]
    wanted += [file_id for row in assets.values() for file_id in (row.file_id, row.sidecar_id) if file_id]
    files = await fetch_any(connection, select(_file), _file.c.id, wanted)
    return KnownRows(
        assets=assets,
        files={row.id: row for row in files},
        written={row.asset_id: row.mtime_ns for row in written},
        path_owners=await _read_path_owners(connection, batch),
        checksum_owners=await _read_checksum_owners(connection, batch),
        derivatives=derivatives,
        videos=frozenset(row.id for row in present),
    )


async def _read_path_owners(connection: AsyncConnection, batch: Sequence[ImportedAsset]) -> dict[str, UUID]:
    paths = [file.path for asset in batch for file in list_files(asset)]
    rows = await fetch_any(connection, select(_file.c.path, _file.c.id), _file.c.path, paths)
    return {row.path: row.id for row in rows}


async def _read_checksum_owners(
    connection: AsyncConnection, batch: Sequence[ImportedAsset]
) -> dict[tuple[UUID, bytes], UUID]:
    by_owner: dict[UUID, list[bytes]] = {}
    for asset in batch:
        if asset.checksum is not None and asset.library_id is None:
            by_owner.setdefault(asset.owner_id, []).append(asset.checksum)
    owners: dict[tuple[UUID, bytes], UUID] = {}
    for owner_id, checksums in by_owner.items():
        mine = select(_asset.c.id, _asset.c.checksum).where(
            _asset.c.owner_id == owner_id, _asset.c.library_id.is_(None)
        )
        for row in await fetch_any(connection, mine, _asset.c.checksum, checksums):
            owners[owner_id, row.checksum] = row.id
    return owners


async def _write(connection: AsyncConnection, changes: BatchChanges, known: KnownRows) -> None:
    # What assets of the batch exchange is released before it is taken.
    if changes.released:
        await release_paths(connection, changes.released)
    released = [asset_id for asset_id, values in changes.changed_assets if "checksum" in values]
    for some in iterate_batches(released):
        await connection.execute(update(_asset).where(_asset.c.id.in_(some)).values(checksum=None))
    await insert_files(connection, changes.new_files)
    await update_files(connection, changes.file_owners, changes.changed_files, known.files, changes.rewritten)
    if changes.new_assets:
        await insert_rows(connection, _asset, [{"id": asset.id, **asset_values(asset)} for asset in changes.new_assets])
        await _insert_library_files(connection, changes.new_assets)
    await _write_changed(connection, changes)
    await _write_derivatives(connection, changes)
    for owner_id, file_id in changes.obsolete_files:
        await mark_live_for_deletion(connection, owner_id, [file_id], REPLACED_FILE_GRACE)
    await _request_processing(connection, changes)


async def _write_changed(connection: AsyncConnection, changes: BatchChanges) -> None:
    for asset_id, values in changes.changed_assets:
        await connection.execute(update(_asset).where(_asset.c.id == asset_id).values(values))
    moved = [asset.id for asset in changes.relisted]
    for some in iterate_batches(moved):
        await connection.execute(delete(_library_file).where(_library_file.c.asset_id.in_(some)))
    await _insert_library_files(connection, changes.relisted)


async def _insert_library_files(connection: AsyncConnection, assets: Iterable[ImportedAsset]) -> None:
    """Rows as a scan would have written them."""
    by_library: dict[UUID, list[ImportedAsset]] = {}
    for asset in assets:
        if asset.library_id is not None:
            by_library.setdefault(asset.library_id, []).append(asset)
    for library_id, mine in by_library.items():
        paths = {asset.id: PurePosixPath(asset.original.path) for asset in mine}
        folders = await ensure_folders(
            connection, library_id, list(dict.fromkeys(str(path.parent) for path in paths.values()))
        )
        rows = [
            {
                "asset_id": asset.id, "folder_id": folders[str(paths[asset.id].parent)], "name": paths[asset.id].name,
                "device": asset.identity.device, "inode": asset.identity.inode, "size": asset.original.size,
                "mtime_ns": asset.identity.mtime_ns, "missing_since": None, "trashed": False,
            }
            for asset in mine
        ]  # fmt: skip
        await insert_rows(connection, _library_file, rows)


_REPLACE_DERIVATIVE = (
    update(_derivative)
    .where(_derivative.c.asset_id == bindparam("of_asset"), _derivative.c.kind == bindparam("of_kind"))
    .values(file_id=bindparam("new_file"))
)


async def _write_derivatives(connection: AsyncConnection, changes: BatchChanges) -> None:
    names = ("asset_id", "kind", "file_id")
    added: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in changes.new_derivatives]
    await insert_rows(connection, _derivative, added)
    if changes.replaced_derivatives:
        names = ("of_asset", "of_kind", "new_file")
        rows: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in changes.replaced_derivatives]
        await connection.execute(_REPLACE_DERIVATIVE, rows)
    for some in iterate_batches(changes.removed_derivatives):
        keys = tuple_(_derivative.c.asset_id, _derivative.c.kind)
        await connection.execute(delete(_derivative).where(keys.in_(some)))


async def _request_processing(connection: AsyncConnection, changes: BatchChanges) -> None:
    """Tasks of new assets, and of those whose content has changed: for checksums, and for derivatives that are missing."""
    is_new = {asset.id for asset in changes.new_assets}
    changed = [asset_id for asset_id, _ in changes.to_process if asset_id not in is_new]
    for some in iterate_batches(changed):
        await connection.execute(delete(_task).where(_task.c.asset_id.in_(some)))
    await tasks.add_tasks(
        connection, changes.to_process, now(), tasks.REPEATED_PRIORITY, requested_at=tasks.MISSING_ONLY
    )
