"""The files of external libraries: the queries of a scan, and its writes.

Beside its rows of `file` and `asset`, each file has a row with its identity (device, inode, size, modification time).
Each folder has a row with a digest of its files, so that an unchanged folder is one comparison. Nothing here reads a
disk.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, and_, bindparam, case, delete, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota, tasks
from app.catalog.assets import live_photo_pairs
from app.catalog.assets.asset_removal import reset_folder_digests
from app.catalog.database.engine import Database, now
from app.catalog.files import ID_BATCH_SIZE, iterate_batches
from app.catalog.libraries import path_conflicts
from app.catalog.libraries.libraries import lock_library
from app.catalog.libraries.library_sidecars import sidecar_values, write_sidecars
from app.catalog.schema import column_types, tables
from app.catalog.schema.library_records import (
    KnownFile,
    KnownFolder,
    Library,
    ListedFile,
    ScanChanges,
    ScannedFile,
)
from app.catalog.schema.records import Asset, FileKind, FileState, Visibility
from app.unicode_folding import fold_case

T = TypeVar("T")

_asset = tables.asset
_file = tables.file
_folder = tables.library_folder
_library_file = tables.library_file
_task = tables.task

_STATEMENT_ROWS = 250
"""Rows are converted to parameters on the event loop: a small number at a time lets other coroutines run in between."""
_MAX_ALTERNATIVES = 100
"""Alternatives in one condition: SQLite accepts about 300."""
_KNOWN_COLUMNS = (
    _library_file.c.asset_id,
    _library_file.c.folder_id,
    _library_file.c.name,
    _library_file.c.device,
    _library_file.c.inode,
    _library_file.c.size,
    _library_file.c.mtime_ns,
    _library_file.c.missing_since.is_not(None),
    _library_file.c.sidecar_name,
    _library_file.c.sidecar_size,
    _library_file.c.sidecar_mtime_ns,
)


class LibraryFileRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_folders(self, library_id: UUID, paths: Iterable[str]) -> dict[str, KnownFolder]:
        """The folders that are known, by path."""
        found: dict[str, KnownFolder] = {}
        async with self._database.read() as connection:
            for batch in _chunks(list(paths)):
                mine = (_folder.c.library_id == library_id) & _folder.c.path.in_(batch)
                rows = await connection.execute(select(_folder.c.id, _folder.c.path, _folder.c.digest).where(mine))
                found.update((row.path, KnownFolder(*row)) for row in rows)
        return found

    async def get_files_in_folders(self, folder_ids: Iterable[UUID]) -> list[KnownFile]:
        """All files of the folders, the missing ones included."""
        async with self._database.read() as connection:
            return [
                known
                for batch in _chunks(list(folder_ids))
                for known in await _select_files(connection, _library_file.c.folder_id.in_(batch))
            ]

    async def get_files_by_name(self, folder_id: UUID, names: Iterable[str]) -> list[KnownFile]:
        """The folder's files with these names."""
        async with self._database.read() as connection:
            return [
                known
                for batch in _chunks(list(names))
                for known in await _select_files(
                    connection, (_library_file.c.folder_id == folder_id) & _library_file.c.name.in_(batch)
                )
            ]

    async def get_page(self, folder_id: UUID, after: str, limit: int = ID_BATCH_SIZE) -> list[KnownFile]:
        """Files of the folder that are not missing, sorted by name, from the first one after `after`."""
        where = and_(
            _library_file.c.folder_id == folder_id,
            _library_file.c.name > after,
            _library_file.c.missing_since.is_(None),
        )
        statement = select(*_KNOWN_COLUMNS).where(where).order_by(_library_file.c.name).limit(limit)
        async with self._database.read() as connection:
            return [KnownFile(*row) for row in await connection.execute(statement)]

    async def find_by_inodes(self, library_id: UUID, inodes: Iterable[int]) -> list[tuple[KnownFile, str]]:
        """Files of the library with one of these inodes, each with its path: candidates for the former name of a new
        file."""
        joined = select(*_KNOWN_COLUMNS, _folder.c.path).join(_folder, _library_file.c.folder_id == _folder.c.id)
        found: list[tuple[KnownFile, str]] = []
        async with self._database.read() as connection:
            for batch in _chunks(list(inodes)):
                where = (_folder.c.library_id == library_id) & _library_file.c.inode.in_(batch)
                for row in await connection.execute(joined.where(where)):
                    known = KnownFile(*tuple[Any, ...](row)[:-1])
                    found.append((known, f"{row[-1]}/{known.name}"))
        return found

    async def get_paths(self, asset_ids: Iterable[UUID]) -> dict[UUID, str]:
        """The paths of these files, also of missing ones."""
        joined = select(_library_file.c.asset_id, _folder.c.path, _library_file.c.name).join(
            _folder, _library_file.c.folder_id == _folder.c.id
        )
        found: dict[UUID, str] = {}
        async with self._database.read() as connection:
            for batch in iterate_batches(asset_ids):
                for asset_id, folder, name in await connection.execute(
                    joined.where(_library_file.c.asset_id.in_(batch))
                ):
                    found[asset_id] = f"{folder}/{name}"
        return found

    async def iterate_folders(
        self, library_id: UUID, below: Sequence[str] | None = None
    ) -> AsyncIterator[list[KnownFolder]]:
        """Yield folders in batches, each folder once. With `below`, only these folders and the folders below them."""
        mine = _folder.c.library_id == library_id
        if below is None:
            parts: Iterable[ColumnElement[bool]] = [mine]
        else:
            parts = (
                mine & or_(*map(_where_within, some)) for some in _chunks(_remove_nested(below), _MAX_ALTERNATIVES)
            )
        for where in parts:
            async for folders in self._folders(where):
                yield folders

    async def _folders(self, where: ColumnElement[bool]) -> AsyncIterator[list[KnownFolder]]:
        columns = select(_folder.c.id, _folder.c.path, _folder.c.digest)
        last = UUID(int=0)
        while True:
            page = columns.where(where, _folder.c.id > last).order_by(_folder.c.id).limit(ID_BATCH_SIZE)
            async with self._database.read() as connection:
                rows = [KnownFolder(*row) for row in await connection.execute(page)]
            if rows:
                yield rows
            if len(rows) < ID_BATCH_SIZE:
                return
            last = rows[-1].id

    async def count(self, library_id: UUID) -> int:
        """How many files of the library are not missing."""
        return await self._count(_library_file.c.missing_since.is_(None), _folder.c.library_id == library_id)

    async def store_checksums(self, asset: Asset, size: int, modified: datetime, sha1: bytes, crc32: int) -> bool:
        """Store the checksums of an external original that had this size and modification time when it was read.
        Returns False when the catalogue has others: the file has changed, and the next scan will find that."""
        same = (_asset.c.id == asset.id) & (_asset.c.file_id == asset.file.id) & (_asset.c.file_modified_at == modified)
        async with self._database.write() as connection:
            if (await connection.execute(select(_asset.c.id).where(same).with_for_update())).one_or_none() is None:
                return False
            same_size = (_file.c.id == asset.file.id) & (_file.c.size == size)
            result = await connection.execute(update(_file).where(same_size).values(sha1=sha1, crc32=crc32))
            if result.rowcount == 1:
                await connection.execute(update(_asset).where(same).values(checksum=sha1))
            return result.rowcount == 1

    async def count_all(self, library_id: UUID) -> int:
        """How many files of the library the catalogue knows, including missing ones."""
        return await self._count(_folder.c.library_id == library_id)

    async def count_in_folder(self, folder_id: UUID) -> int:
        """How many files directly in the folder are not missing."""
        return await self._count(_library_file.c.missing_since.is_(None), _library_file.c.folder_id == folder_id)

    async def count_below(self, library_id: UUID, path: str) -> int:
        """How many files in the folder and below it are not missing."""
        return await self._count(
            _library_file.c.missing_since.is_(None), _folder.c.library_id == library_id, _where_within(path)
        )

    async def count_missing(self, library_id: UUID, since: datetime) -> tuple[int, int]:
        """How many files were marked as missing since that moment, and how many of these were added before it."""
        joined = _library_file.join(_folder, _library_file.c.folder_id == _folder.c.id).join(
            _asset, _asset.c.id == _library_file.c.asset_id
        )
        older = case((_asset.c.created_at <= since, 1))
        statement = select(func.count(), func.count(older)).select_from(joined)
        where = (_library_file.c.missing_since >= since, _folder.c.library_id == library_id)
        async with self._database.read() as connection:
            total, old = (await connection.execute(statement.where(*where))).one()
        return total, old

    async def count_older(self, asset_ids: Sequence[UUID], moment: datetime) -> int:
        """How many of these assets were added before that moment."""
        statement = select(func.count()).where(_asset.c.id.in_(asset_ids), _asset.c.created_at <= moment)
        async with self._database.read() as connection:
            return (await connection.execute(statement)).scalar_one()

    async def apply_changes(self, library: Library, changes: ScanChanges) -> dict[str, UUID]:
        """Write a batch of a scan in one transaction. Returns the ids of the folders concerned, by path. Raises
        `NotFound` when the library is being removed, `LibraryChanged` when its import paths or patterns have changed,
        `ConstraintViolation` when another scan wrote the same."""
        library_id = library.id
        async with self._database.write() as connection:
            owner_id = await lock_library(connection, library)
            await path_conflicts.resolve_path_conflicts(connection, library, owner_id, changes)
            folders = await ensure_folders(connection, library_id, _changed_folders(changes))
            # Release all old names before taking new ones: files may have exchanged their names.
            for batch in _chunks(changes.displaced, _STATEMENT_ROWS):
                await _release_names(connection, batch)
            for batch in _chunks(changes.renamed, _STATEMENT_ROWS):
                await _write_renamed(connection, folders, batch)
            for batch in _chunks(changes.sidecars, _STATEMENT_ROWS):
                await write_sidecars(connection, batch)
            for batch in _chunks(changes.changed, _STATEMENT_ROWS):
                await _write_changed(connection, batch)
            for batch in _chunks(changes.refreshed, _STATEMENT_ROWS):
                await connection.execute(
                    _update_identity(), [_identity_values(asset_id, listed) for asset_id, listed in batch]
                )
            await _restore_returned(connection, owner_id, changes.returned)
            changes.to_process = list(dict.fromkeys(id_ for id_, _ in [*changes.changed, *changes.sidecars]))
            for batch in _chunks(changes.new, _STATEMENT_ROWS):
                changes.to_process += await _insert_new(connection, library_id, owner_id, folders, batch)
            await _store_digests(connection, folders, changes.digests)
        return folders

    async def trash(self, library: Library, asset_ids: Sequence[UUID]) -> int:
        """Mark files as missing and move their assets to the trash, from which they are never removed by age. Returns
        how many were not marked as missing before. Raises `NotFound` and `LibraryChanged` as `apply_changes`."""
        moment = now()
        missing = 0
        identifiers: set[str] = set()
        async with self._database.write() as connection:
            owner_id = await lock_library(connection, library)
            await quota.lock_owner(connection, owner_id)
            for batch in iterate_batches(asset_ids):
                mine = _asset.c.id.in_(batch) & (_asset.c.library_id == library.id)
                untouched = select(_asset.c.id).where(mine, _asset.c.deleted_at.is_(None))
                newly = list((await connection.execute(untouched)).scalars())
                present = _library_file.c.asset_id.in_(batch) & _library_file.c.missing_since.is_(None)
                missing += (
                    await connection.execute(update(_library_file).where(present).values(missing_since=moment))
                ).rowcount
                await connection.execute(
                    update(_library_file).where(_library_file.c.asset_id.in_(newly)).values(trashed=True)
                )
                values = {"is_offline": True, "deleted_at": func.coalesce(_asset.c.deleted_at, moment)}
                identifiers |= await live_photo_pairs.unpair_live_photos(connection, owner_id, newly)
                await connection.execute(update(_asset).where(mine).values(**values, updated_at=moment))
            await live_photo_pairs.pair_live_photos(connection, owner_id, identifiers)
        return missing

    async def delete_empty_folders(self, library_id: UUID, folder_ids: Iterable[UUID]) -> None:
        """Delete the rows of folders that have no file, not even a missing one."""
        async with self._database.write() as connection:
            for batch in _chunks(list(folder_ids)):
                empty = ~exists().where(_library_file.c.folder_id == _folder.c.id)
                mine = (_folder.c.library_id == library_id) & _folder.c.id.in_(batch)
                await connection.execute(delete(_folder).where(mine, empty))

    async def _count(self, *where: ColumnElement[bool]) -> int:
        joined = _library_file.join(_folder, _library_file.c.folder_id == _folder.c.id)
        async with self._database.read() as connection:
            return (await connection.execute(select(func.count()).select_from(joined).where(*where))).scalar_one()


def _where_within(path: str) -> ColumnElement[bool]:
    """The folder and all folders below it. "0" is the character after "/"."""
    below = and_(_folder.c.path > f"{path}/", _folder.c.path < f"{path}0")
    return or_(_folder.c.path == path, below)


def _remove_nested(paths: Iterable[str]) -> list[str]:
    """The paths without those that are below another one of them."""
    top: list[str] = []
    for path in sorted(f"{path}/" for path in paths):  # sorted: a folder is followed directly by all paths below it
        if not top or not path.startswith(top[-1]):
            top.append(path)
    return [path[:-1] for path in top]


def _chunks(values: Sequence[T], size: int = ID_BATCH_SIZE) -> Iterable[Sequence[T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


async def _select_files(connection: AsyncConnection, where: ColumnElement[bool]) -> list[KnownFile]:
    return [KnownFile(*row) for row in await connection.execute(select(*_KNOWN_COLUMNS).where(where))]


def _changed_folders(changes: ScanChanges) -> list[str]:
    paths = [scanned.folder for scanned in changes.new]
    paths += [scanned.folder for _, scanned in changes.renamed]
    return list(dict.fromkeys([*paths, *changes.digests]))


async def ensure_folders(connection: AsyncConnection, library_id: UUID, paths: list[str]) -> dict[str, UUID]:
    """The ids of the folders, by path. Inserts the folders that are not known."""
    known: dict[str, UUID] = {}
    for batch in _chunks(paths):
        mine = (_folder.c.library_id == library_id) & _folder.c.path.in_(batch)
        known.update((row.path, row.id) for row in await connection.execute(select(_folder).where(mine)))
    for batch in _chunks([path for path in paths if path not in known], _STATEMENT_ROWS):
        made = dict(zip(batch, _random_ids(len(batch)), strict=True))
        rows = [{"id": id_, "library_id": library_id, "path": path, "digest": None} for path, id_ in made.items()]
        await connection.execute(insert(_folder), rows)
        known.update(made)
    return known


async def _insert_new(
    connection: AsyncConnection,
    library_id: UUID,
    owner_id: UUID,
    folders: dict[str, UUID],
    scanned: Sequence[ScannedFile],
) -> list[UUID]:
    moment = now()
    files: list[dict[str, Any]] = []
    assets: list[dict[str, Any]] = []
    known: list[dict[str, Any]] = []
    for each, asset_id, file_id in zip(scanned, _random_ids(len(scanned)), _random_ids(len(scanned)), strict=True):
        name, device, inode, size, mtime_ns = each.listed
        files.append({
            "id": file_id, "owner_id": owner_id, "kind": FileKind.EXTERNAL, "path": each.path, "state": FileState.LIVE,
            "size": size, "sha1": None, "crc32": None, "mime_type": each.mime_type, "created_at": moment, "not_before": moment,
        })  # fmt: skip
        assets.append({
            "id": asset_id, "owner_id": owner_id, "type": each.type, "file_id": file_id, "library_id": library_id,
            "original_file_name": name, "file_created_at": each.modified, "file_modified_at": each.modified,
            "local_date_time": each.modified, "created_at": moment, "updated_at": moment, "is_favorite": False,
            "visibility": Visibility.TIMELINE, "is_offline": False,
        })  # fmt: skip
        known.append({
            "asset_id": asset_id, "folder_id": folders[each.folder], "name": name, "device": device, "inode": inode,
            "size": size, "mtime_ns": mtime_ns, "missing_since": None, "trashed": False,
            **sidecar_values(each.sidecar),
        })  # fmt: skip
    await connection.execute(insert(_file), files)
    await connection.execute(insert(_asset), assets)
    await connection.execute(insert(_library_file), known)
    await tasks.add_tasks(connection, [(row["id"], row["type"]) for row in assets], moment, tasks.REPEATED_PRIORITY)
    return [row["id"] for row in assets]


def _random_ids(count: int) -> list[UUID]:
    """`count` random UUIDs (version 4), with one system call."""
    data = os.urandom(16 * count)
    return [UUID(bytes=data[start : start + 16], version=4) for start in range(0, len(data), 16)]


async def _write_changed(connection: AsyncConnection, changed: Sequence[tuple[UUID, ScannedFile]]) -> None:
    """The content has changed: reset the checksums, and request processing again."""
    moment = now()
    of_asset = select(_asset.c.file_id).where(_asset.c.id == bindparam("of_asset")).scalar_subquery()
    size_update = update(_file).where(_file.c.id == of_asset).values(size=bindparam("new_size"), sha1=None, crc32=None)
    sizes = [{"of_asset": asset_id, "new_size": scanned.listed[3]} for asset_id, scanned in changed]
    await connection.execute(size_update, sizes)
    when = bindparam("modified", type_=column_types.UtcDateTime())
    date_update = (
        update(_asset)
        .where(_asset.c.id == bindparam("of_asset"))
        .values(checksum=None, file_modified_at=when, updated_at=moment)
    )
    await connection.execute(
        date_update, [{"of_asset": each, "modified": scanned.modified} for each, scanned in changed]
    )
    await connection.execute(
        _update_identity(), [_identity_values(asset_id, scanned.listed) for asset_id, scanned in changed]
    )
    # A worker that still processes the old content finds at its end that the task is gone, and discards its result.
    await connection.execute(delete(_task).where(_task.c.asset_id.in_([asset_id for asset_id, _ in changed])))
    await tasks.add_tasks(
        connection, [(asset_id, scanned.type) for asset_id, scanned in changed], moment, tasks.REPEATED_PRIORITY
    )


async def _release_names(connection: AsyncConnection, displaced: Sequence[tuple[UUID, ScannedFile]]) -> None:
    """Release the name: the file gets a name that no file on disk can have, below its former path, which stays
    recognizable."""
    name_update = (
        update(_library_file).where(_library_file.c.asset_id == bindparam("of_asset")).values(name=bindparam("no_name"))
    )
    rows = [{"of_asset": asset_id, "no_name": f"{scanned.listed[0]}/{asset_id}"} for asset_id, scanned in displaced]
    await connection.execute(name_update, rows)
    of_asset = select(_asset.c.file_id).where(_asset.c.id == bindparam("of_asset")).scalar_subquery()
    path_update = update(_file).where(_file.c.id == of_asset).values(path=bindparam("no_path"))
    rows = [{"of_asset": asset_id, "no_path": f"{scanned.path}/{asset_id}"} for asset_id, scanned in displaced]
    await connection.execute(path_update, rows)


async def _write_renamed(
    connection: AsyncConnection, folders: dict[str, UUID], renamed: Sequence[tuple[UUID, ScannedFile]]
) -> None:
    moment = now()
    await reset_folder_digests(connection, [asset_id for asset_id, _ in renamed])
    folder_update = (
        update(_library_file)
        .where(_library_file.c.asset_id == bindparam("of_asset"))
        .values(folder_id=bindparam("new_folder"), name=bindparam("new_name"))
    )
    rows = [
        {"of_asset": asset_id, "new_folder": folders[scanned.folder], "new_name": scanned.listed[0]}
        for asset_id, scanned in renamed
    ]
    await connection.execute(folder_update, rows)
    of_asset = select(_asset.c.file_id).where(_asset.c.id == bindparam("of_asset")).scalar_subquery()
    # The content has not changed, and processing has stored its type and MIME type.
    path_update = update(_file).where(_file.c.id == of_asset).values(path=bindparam("new_path"))
    paths = [{"of_asset": asset_id, "new_path": scanned.path} for asset_id, scanned in renamed]
    await connection.execute(path_update, paths)
    name_update = (
        update(_asset)
        .where(_asset.c.id == bindparam("of_asset"))
        .values(
            original_file_name=bindparam("new_name"),
            folded_name=bindparam("new_folded_name"),
            updated_at=moment,
        )
    )
    names = [
        {
            "of_asset": asset_id,
            "new_name": scanned.listed[0],
            "new_folded_name": fold_case(scanned.listed[0]),
        }
        for asset_id, scanned in renamed
    ]
    await connection.execute(name_update, names)


async def _restore_returned(connection: AsyncConnection, owner_id: UUID, asset_ids: list[UUID]) -> None:
    """Restore found files: assets that a scan trashed leave the trash, assets that their owner trashed stay."""
    for batch in iterate_batches(asset_ids):
        mine = _library_file.c.asset_id.in_(batch)
        trashed_by_scan = select(_library_file.c.asset_id).where(mine, _library_file.c.trashed)
        restored = list((await connection.execute(trashed_by_scan)).scalars())
        await connection.execute(update(_asset).where(_asset.c.id.in_(restored)).values(deleted_at=None))
        values = {"is_offline": False, "updated_at": now()}
        await connection.execute(update(_asset).where(_asset.c.id.in_(batch)).values(values))
        await connection.execute(update(_library_file).where(mine).values(missing_since=None, trashed=False))
    identifiers = await live_photo_pairs.find_unpaired_identifiers(connection, asset_ids)
    await live_photo_pairs.pair_live_photos(connection, owner_id, identifiers)


def _update_identity() -> Any:
    values = {name: bindparam(f"new_{name}") for name in ("device", "inode", "size", "mtime_ns")}
    return update(_library_file).where(_library_file.c.asset_id == bindparam("of_asset")).values(values)


def _identity_values(asset_id: UUID, listed: ListedFile) -> dict[str, Any]:
    _, device, inode, size, mtime_ns = listed
    return {
        "of_asset": asset_id,
        "new_device": device,
        "new_inode": inode,
        "new_size": size,
        "new_mtime_ns": mtime_ns,
    }


async def _store_digests(
    connection: AsyncConnection, folders: dict[str, UUID], digests: dict[str, bytes | None]
) -> None:
    if digests:
        statement = update(_folder).where(_folder.c.id == bindparam("of_folder")).values(digest=bindparam("new_digest"))
        rows = [{"of_folder": folders[path], "new_digest": digest} for path, digest in digests.items()]
        await connection.execute(statement, rows)
