"""Files of another program that are served where they lie, and the folders that they may lie in (roots).

A foreign file has a row of `file` like any other, with `is_foreign`. Its row is inserted `live`, and deleted when nothing
refers to it any more; its bytes are never written, renamed or deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota
from app.catalog.database.bulk_statements import insert_rows
from app.catalog.database.engine import Database, now
from app.catalog.errors import OutsideForeignRoots
from app.catalog.files import file_from_row
from app.catalog.schema import tables
from app.catalog.schema.records import QUOTA_KINDS, File, FileKind, FileState, ForeignFile

_asset = tables.asset
_file = tables.file
_root = tables.foreign_root
_user = tables.user


class ForeignFileRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_root(self, path: str) -> None:
        """Let foreign files lie below this folder: an absolute path without links, which the caller has checked. Does
        nothing for a known one."""
        async with self._database.write() as connection:
            known = (await connection.execute(select(_root.c.path).where(_root.c.path == path))).one_or_none()
            if known is None:
                await connection.execute(insert(_root).values(path=path, created_at=now()))

    async def list_roots(self) -> list[str]:
        async with self._database.read() as connection:
            return list((await connection.execute(select(_root.c.path).order_by(_root.c.path))).scalars())

    async def remove_unused_roots(self) -> list[str]:
        """Remove the roots below which neither a foreign file lies any more, nor one of a library: an import makes roots of the folders of
        libraries, too, and their originals are never copied. Returns the paths of the removed ones."""
        removed: list[str] = []
        async with self._database.write() as connection:
            for path in (await connection.execute(select(_root.c.path))).scalars().all():
                prefix = f"{path.rstrip('/')}/"
                is_theirs = _file.c.is_foreign | (_file.c.kind == FileKind.EXTERNAL)
                is_below = is_theirs & (func.substr(_file.c.path, 1, len(prefix)) == prefix)
                if (await connection.execute(select(_file.c.id).where(is_below).limit(1))).first() is None:
                    await connection.execute(delete(_root).where(_root.c.path == path))
                    removed.append(path)
        return removed

    async def has_any_below(self, folder: str) -> bool:
        """Whether a foreign file lies below the folder."""
        prefix = f"{folder.rstrip('/')}/"
        is_below = _file.c.is_foreign & (func.substr(_file.c.path, 1, len(prefix)) == prefix)
        async with self._database.read() as connection:
            return (await connection.execute(select(_file.c.id).where(is_below).limit(1))).first() is not None

    async def count(self) -> tuple[int, int]:
        """How many foreign files there are, and their bytes."""
        statement = select(func.count(), func.coalesce(func.sum(_file.c.size), 0)).where(_file.c.is_foreign)
        async with self._database.read() as connection:
            row = (await connection.execute(statement)).one()
        return row[0], int(row[1])

    async def list_copied(self, *, after: UUID | None, limit: int) -> list[File]:
        """Foreign files that have a copy, by id, those after `after`."""
        statement = select(_file).where(_file.c.is_foreign, _file.c.copy_path.is_not(None))
        if after is not None:
            statement = statement.where(_file.c.id > after)
        async with self._database.read() as connection:
            rows = await connection.execute(statement.order_by(_file.c.id).limit(limit))
            return [file_from_row(row) for row in rows]

    async def insert(self, files: Sequence[ForeignFile]) -> None:
        """See `insert_foreign_files`, in a transaction of its own."""
        async with self._database.write() as connection:
            await insert_foreign_files(connection, files)

    async def store_checksums(self, file_id: UUID, path: str, size: int, sha1: bytes, crc32: int) -> bool:
        """Store checksums of a foreign file that were not known, and that of its asset. Returns False, and leaves the file's row as it is,
        where that is gone, its path or size is another one than those read, or a checksum that it has differs. If it is the SHA-1 that
        differs, the asset has no checksum any more: an upload with the recorded one is no duplicate, as its bytes are nowhere."""
        same_sha1 = _file.c.sha1.is_(None) | (_file.c.sha1 == sha1)
        same_crc32 = _file.c.crc32.is_(None) | (_file.c.crc32 == crc32)
        mine = (_file.c.id == file_id) & _file.c.is_foreign & (_file.c.path == path) & (_file.c.size == size)
        async with self._database.write() as connection:
            owner_id = (await connection.execute(select(_file.c.owner_id).where(mine))).scalar_one_or_none()
            if owner_id is None:
                return False
            await quota.lock_owner(connection, owner_id)
            storing = update(_file).where(mine, same_sha1, same_crc32).values(sha1=sha1, crc32=crc32)
            is_stored = (await connection.execute(storing)).rowcount == 1
            if is_stored:
                await _fill_in_checksum(connection, owner_id, file_id, sha1)
            else:
                other = select(_file.c.id).where(mine, _file.c.sha1 != sha1).scalar_subquery()
                await connection.execute(update(_asset).where(_asset.c.file_id == other).values(checksum=None))
            return is_stored


async def _fill_in_checksum(connection: AsyncConnection, owner_id: UUID, file_id: UUID, sha1: bytes) -> None:
    """Of the asset whose original the file is, if it has none, unless an upload of the same owner has the same one."""
    upload = _asset.alias()
    same = (upload.c.owner_id == owner_id) & (upload.c.checksum == sha1) & upload.c.library_id.is_(None)
    lacking = (_asset.c.file_id == file_id) & _asset.c.checksum.is_(None) & ~select(upload.c.id).where(same).exists()
    await connection.execute(update(_asset).where(lacking).values(checksum=sha1))


async def insert_foreign_files(connection: AsyncConnection, files: Sequence[ForeignFile]) -> None:
    """Insert the rows of foreign files, `live`. Call it in the transaction that inserts the references to them. Originals
    and sidecars count against their owners' quotas, as uploads do, but are never refused: they are there already.

    Raises `ConstraintViolation` where a path is taken or an owner does not exist, and `OutsideForeignRoots` where a path
    lies below no root. All rows are inserted or none.
    """
    await _require_roots(connection, files)
    moment = now()
    await insert_rows(connection, _file, [_row_values(each, moment) for each in files])
    for owner_id, size in sorted(_sum_by_owner(files).items()):
        await connection.execute(update(_user).where(_user.c.id == owner_id).values(used=_user.c.used + size))


async def _require_roots(connection: AsyncConnection, files: Iterable[ForeignFile]) -> None:
    prefixes = tuple(f"{path.rstrip('/')}/" for path in (await connection.execute(select(_root.c.path))).scalars())
    for each in files:
        if each.kind is FileKind.EXTERNAL:
            raise ValueError("files of libraries are found by a scan")
        if not prefixes or not each.path.startswith(prefixes) or ".." in each.path.split("/"):
            raise OutsideForeignRoots(each.path)


def _sum_by_owner(files: Iterable[ForeignFile]) -> dict[UUID, int]:
    sums: dict[UUID, int] = {}
    for each in files:
        if each.kind in QUOTA_KINDS:
            sums[each.owner_id] = sums.get(each.owner_id, 0) + each.size
    return sums


def _row_values(file: ForeignFile, moment: datetime) -> dict[str, Any]:
    return {
        "id": file.id,
        "owner_id": file.owner_id,
        "kind": file.kind,
        "path": file.path,
        "state": FileState.LIVE,
        "size": file.size,
        "sha1": file.sha1,
        "crc32": file.crc32,
        "mime_type": file.mime_type,
        "created_at": moment,
        "not_before": moment,
        "is_foreign": True,
    }
