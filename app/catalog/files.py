"""Rows of table `file`: one for each stored object, from before its first byte until the object is deleted.

A file becomes `live` only in the transaction that inserts the first reference to it, and a live file becomes `doomed`
(marked for deletion) only in the transaction that removes the last one; those transactions are in the other modules.
This module does the rest: `writing` -> `doomed`, and `doomed` -> no row. It does not touch the objects.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID, uuid4

from sqlalchemy import Row, Select, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.database.engine import Database, now
from app.catalog.database.prepared_statements import prepare
from app.catalog.errors import WriteLeaseLost
from app.catalog.schema import tables
from app.catalog.schema.records import File, FileKind, FileState, StoredFile

T = TypeVar("T")

CLAIM_DURATION = timedelta(minutes=5)
"""How long claimed files belong to one sweeper. It is also the interval between attempts to delete an object that the
store refused to delete."""

LATE_WRITE_GRACE = timedelta(minutes=15)
"""A store may carry out a write after its writer was killed, or after the writer gave up waiting for the answer. The
object of such a write is deleted, and its row removed, only after this time. A writer waits for a put at most
`MEDIAVAULT_S3_DEADLINE`, which is limited to less than this, plus the time that the bytes need. S3 does not limit how
long the store may take: an object that appears later still is an orphan, which `verify` reports."""

ID_BATCH_SIZE = 1000
"""Ids in one statement; both databases limit the number of parameters."""

_file = tables.file
# Built once: a statement is a reference cycle, which would keep its paths in memory until the garbage collector runs.
_SELECT_KNOWN_PATHS = select(_file.c.path).where(_file.c.path.in_(bindparam("paths", expanding=True)))
_NO_GRACE = timedelta(0)

# Statements of every upload. Names of columns are names of the values to set.
_INSERT = prepare(insert(_file))
_UPDATE_WRITING = prepare(
    update(_file).where(_file.c.id == bindparam("writing_id"), _file.c.state == FileState.WRITING)
)
_UPDATE_WRITING_OF_OWNER = prepare(
    _UPDATE_WRITING.where(_file.c.owner_id == bindparam("writing_owner_id")).returning(_file.c.kind)
)


class FileRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin_write(self, owner_id: UUID, kind: FileKind, path: str, mime_type: str, lease: timedelta) -> File:
        """Insert the row of an object that is about to be written; the row is committed when this returns. The writer
        renews the lease. Raises `ConstraintViolation` when the path is taken or the owner does not exist."""

        async def insert_file(connection: AsyncConnection) -> File:
            return await insert_writing_file(connection, owner_id, kind, path, mime_type, lease)

        return await self._database.transact(insert_file)

    async def renew_lease(self, file_id: UUID, lease: timedelta) -> bool:
        """Returns False when the file is no longer `writing`; the writer must then abort."""
        values = {"writing_id": file_id, "not_before": now() + lease}

        async def renew(connection: AsyncConnection) -> bool:
            return (await connection.execute(_UPDATE_WRITING, values)).rowcount == 1

        return await self._database.transact(renew)

    async def mark_for_deletion(self, file_id: UUID, grace: timedelta = _NO_GRACE) -> bool:
        """Mark a `writing` file for deletion. Returns False when it is not `writing`: a live file stays live, so this
        is safe after an insert whose outcome is unknown. The sweeper leaves the file alone until `grace` has passed."""
        return await self.mark_many_for_deletion([file_id], grace) == 1

    async def mark_many_for_deletion(self, file_ids: Iterable[UUID], grace: timedelta = _NO_GRACE) -> int:
        """Mark those of the files for deletion that are `writing`. Returns how many there were."""
        async with self._database.write() as connection:
            return await mark_unfinished_for_deletion(connection, file_ids, grace)

    async def mark_late_upload_for_deletion(self, file: File, grace: timedelta = timedelta(0)) -> None:
        """Mark the object of a late upload for deletion: its writer learns only after the object was stored that the
        lease had expired (`WriteLeaseLost`). The sweeper may already have removed the row, which is then inserted
        again, `doomed`. A live file is not changed. `grace`: as long as the store may still carry out a write whose
        outcome is not known."""
        due = now() + grace
        async with self._database.write() as connection:
            found = await connection.execute(select(_file.c.id).where(_file.c.id == file.id).with_for_update())
            if found.one_or_none() is None:
                row = _file_values(file) | {"state": FileState.DOOMED, "not_before": due}
                await connection.execute(insert(_file).values(row))
                return
            condition = (_file.c.id == file.id) & (_file.c.state != FileState.LIVE)
            # A sweeper that claimed the file may have deleted the object before it was stored: make the file due again.
            await connection.execute(update(_file).where(condition).values(state=FileState.DOOMED, not_before=due))

    async def claim_sweepable(self, moment: datetime, limit: int) -> list[File]:
        """Claim files that are `doomed` and due. No other sweeper gets them for `CLAIM_DURATION`, counted from
        `moment`.

        `writing` files whose lease has expired become `doomed` first, so that the insert of a late writer fails. They
        are due after `LATE_WRITE_GRACE`: a put that began under the lease may still be under way.
        """
        due = _select_due(FileState.DOOMED, moment, limit)
        claim = update(_file).values(not_before=moment + CLAIM_DURATION).returning(_file)
        async with self._database.write() as connection:
            await _mark_lapsed_for_deletion(connection, moment)
            claimed: list[File] = []
            for batch in iterate_batches((await connection.execute(due)).scalars()):
                claimed += [file_from_row(row) for row in await connection.execute(claim.where(_file.c.id.in_(batch)))]
            return claimed

    async def delete_swept(self, files: Iterable[File]) -> int:
        """Delete the rows of claimed files whose objects are gone. Returns how many. A row that was claimed or marked
        for deletion again since stays."""
        deleted = 0
        async with self._database.write() as connection:
            for each in files:
                claim = (_file.c.id == each.id) & (_file.c.not_before == each.not_before)
                condition = claim & (_file.c.state == FileState.DOOMED)
                deleted += (await connection.execute(delete(_file).where(condition))).rowcount
        return deleted

    async def store_crc32(self, file_id: UUID, sha1: bytes | None, crc32: int) -> None:
        """Store a CRC-32 that was not known, unless the file's content has changed since `sha1` was read."""
        same = _file.c.sha1.is_(None) if sha1 is None else _file.c.sha1 == sha1
        condition = (_file.c.id == file_id) & same & _file.c.crc32.is_(None)
        async with self._database.write() as connection:
            await connection.execute(update(_file).where(condition).values(crc32=crc32))

    async def get(self, file_id: UUID) -> File | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select(_file).where(_file.c.id == file_id))).one_or_none()
        return None if row is None else file_from_row(row)

    async def get_by_path(self, path: str) -> File | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select(_file).where(_file.c.path == path))).one_or_none()
        return None if row is None else file_from_row(row)

    async def find_path_outside(self, path_prefixes: Iterable[str]) -> str | None:
        """The path of a live file that begins with none of `path_prefixes`; None when there is none. Files of external
        libraries and foreign files are ignored."""
        is_outside = [func.substr(_file.c.path, 1, len(base)) != base for base in path_prefixes]
        external = select(tables.asset.c.id).where(
            tables.asset.c.file_id == _file.c.id, tables.asset.c.library_id.is_not(None)
        )
        found = select(_file.c.path).where(_file.c.state == FileState.LIVE, *is_outside, ~external.exists())
        found = found.where(~_file.c.is_foreign).limit(1)
        async with self._database.read() as connection:
            return (await connection.execute(found)).scalar_one_or_none()

    async def find_known_paths(self, paths: Sequence[str]) -> set[str]:
        """Those of the paths (at most `ID_BATCH_SIZE`) that have a row, in whatever state."""
        async with self._database.read() as connection:
            return set((await connection.execute(_SELECT_KNOWN_PATHS, {"paths": paths})).scalars())

    async def has_live_below(self, path_prefix: str) -> bool:
        """Whether the path of a live file begins with `path_prefix`."""
        is_below = func.substr(_file.c.path, 1, len(path_prefix)) == path_prefix
        statement = select(_file.c.id).where(_file.c.state == FileState.LIVE, is_below).limit(1)
        async with self._database.read() as connection:
            return (await connection.execute(statement)).scalar_one_or_none() is not None

    async def iterate_all(self) -> AsyncIterator[File]:
        """Every row, in batches. Changes made during the iteration may or may not be included."""
        statement = select(_file).order_by(_file.c.id).limit(ID_BATCH_SIZE)
        last: UUID | None = None
        while True:
            page = statement if last is None else statement.where(_file.c.id > last)
            async with self._database.read() as connection:
                rows = [file_from_row(row) for row in await connection.execute(page)]
            for row in rows:
                yield row
            if len(rows) < ID_BATCH_SIZE:
                return
            last = rows[-1].id


async def insert_writing_file(
    connection: AsyncConnection,
    owner_id: UUID,
    kind: FileKind,
    path: str,
    mime_type: str,
    lease: timedelta | datetime,
    file_id: UUID | None = None,
) -> File:
    """Insert the row of an object that is about to be written. `lease`: its duration, or when it ends. `file_id`: a new one, if None."""
    moment = now()
    begun = File(
        id=file_id or uuid4(),
        owner_id=owner_id,
        kind=kind,
        path=path,
        state=FileState.WRITING,
        size=None,
        sha1=None,
        crc32=None,
        mime_type=mime_type,
        created_at=moment,
        not_before=moment + lease if isinstance(lease, timedelta) else lease,
    )
    await connection.execute(_INSERT, _file_values(begun))
    return begun


async def make_live(connection: AsyncConnection, owner_id: UUID, stored: StoredFile) -> FileKind:
    """Make a `writing` file live and return its kind. Call it in the transaction that inserts the reference to the
    file. Raises `WriteLeaseLost` when the file is not `writing`."""
    values = {
        "writing_id": stored.file_id,
        "writing_owner_id": owner_id,
        "state": FileState.LIVE,
        "size": stored.size,
        "sha1": stored.sha1,
        "crc32": stored.crc32,
        "not_before": now(),
    }
    kind = (await connection.execute(_UPDATE_WRITING_OF_OWNER, values)).scalar_one_or_none()
    if kind is None:
        raise WriteLeaseLost(stored.file_id)
    return kind


async def mark_unfinished_for_deletion(
    connection: AsyncConnection, file_ids: Iterable[UUID], grace: timedelta = _NO_GRACE
) -> int:
    """Mark those of the files for deletion that are `writing`. Returns how many there were."""
    marked = 0
    values = {"state": FileState.DOOMED, "not_before": now() + grace}
    for batch in iterate_batches(file_ids):
        condition = _file.c.id.in_(batch) & (_file.c.state == FileState.WRITING)
        marked += (await connection.execute(update(_file).where(condition).values(values))).rowcount
    return marked


async def _mark_lapsed_for_deletion(connection: AsyncConnection, moment: datetime) -> None:
    lapsed = (await connection.execute(_select_due(FileState.WRITING, moment, ID_BATCH_SIZE))).scalars().all()
    if lapsed:
        values = {"state": FileState.DOOMED, "not_before": moment + LATE_WRITE_GRACE}
        await connection.execute(update(_file).where(_file.c.id.in_(lapsed)).values(values))


def _select_due(state: FileState, moment: datetime, limit: int) -> Select[tuple[UUID]]:
    """Select and lock the ids of due files, without rows that another transaction has locked."""
    due = select(_file.c.id).where(_file.c.state == state, _file.c.not_before <= moment)
    return due.order_by(_file.c.not_before).limit(limit).with_for_update(skip_locked=True)


def file_from_row(row: Row[tuple[object, ...]] | tuple[object, ...]) -> File:
    """Takes the columns of `file` in their order."""
    return File(*row)  # pyright: ignore[reportArgumentType]


def iterate_batches(ids: Iterable[T]) -> Iterable[list[T]]:
    """Yield each id once, in batches that fit a statement."""
    distinct = list(dict.fromkeys(ids))
    for start in range(0, len(distinct), ID_BATCH_SIZE):
        yield distinct[start : start + ID_BATCH_SIZE]


def _file_values(file: File) -> dict[str, object]:
    return {column.name: getattr(file, column.name) for column in _file.c}
