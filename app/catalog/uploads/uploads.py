"""Rows of table `upload`: what is durable of each session, and who may write it.

A request takes a session over by raising its generation; every later write of an older request names its own generation, changes no
row, and so ends that request. Objects are not touched: `cleanup_at` says when the storage is to be cleared.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota
from app.catalog.database.engine import Database, now
from app.catalog.database.prepared_statements import prepare
from app.catalog.files import ID_BATCH_SIZE, insert_writing_file, iterate_batches
from app.catalog.schema import tables
from app.catalog.schema.records import FileKind
from app.catalog.schema.upload_records import OPEN_UPLOAD_STATES, Upload, UploadState, UploadStatistics
from app.catalog.uploads.upload_rows import (
    SESSION_LEASE_END,
    UploadCompletion,
    complete_upload,
    end_uploads,
    owns_generation,
)

_upload = tables.upload

# Statements of every request. Names of the columns are names of the values to set.
_MINE = (_upload.c.id == bindparam("upload_id")) & (_upload.c.owner_id == bindparam("upload_owner_id"))
_OWN = owns_generation(bindparam("upload_id"), bindparam("upload_generation"))
_SELECT_FOR_UPDATE = prepare(select(_upload).where(_MINE).with_for_update())
_SELECT_OWN = prepare(select(_upload.c.id).where(_OWN))
_UPDATE_MINE = prepare(update(_upload).where(_MINE))
_UPDATE_OWN = prepare(update(_upload).where(_OWN))


class UploadRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, new: Upload, max_open: int) -> bool:
        """Insert a session. Returns False when its owner has `max_open` unfinished ones. Raises `QuotaExceeded`, and
        `ConstraintViolation` for an unknown owner."""
        async with self._database.write() as connection:
            await quota.lock_owner(connection, new.owner_id)
            mine = (_upload.c.owner_id == new.owner_id) & _upload.c.state.in_(OPEN_UPLOAD_STATES)
            count = (await connection.execute(select(func.count()).where(mine))).scalar_one()
            if new.is_open:
                if count >= max_open:
                    return False
                await quota.check_quota(connection, new.owner_id, new.length or 0)
            await connection.execute(insert(_upload).values(_values(new)))
        return True

    async def get(self, owner_id: UUID, upload_id: UUID) -> Upload | None:
        async with self._database.read() as connection:
            statement = select(_upload).where(_upload.c.id == upload_id, _upload.c.owner_id == owner_id)
            row = (await connection.execute(statement)).mappings().one_or_none()
        return None if row is None else Upload(**row)

    async def take_over(
        self,
        owner_id: UUID,
        upload_id: UUID,
        *,
        writer: UUID | None = None,
        **changes: Any,
    ) -> Upload | None:
        """Raise the session's generation, unless it has ended. Returns the row as it is afterwards, but with the former
        `writer`; None when the owner has no such session. `writer`: the append that begins now."""

        async def take(connection: AsyncConnection) -> Upload | None:
            names = {"upload_id": upload_id, "upload_owner_id": owner_id}
            former = (await connection.execute(_SELECT_FOR_UPDATE, names)).one_or_none()
            upload = None if former is None else _upload_from_row(former)
            if upload is None or not upload.is_open:
                return upload
            values: dict[str, Any] = {**changes, "generation": upload.generation + 1, "updated_at": now()}
            if writer is not None:
                values["writer"] = writer
                values["resumptions"] = upload.resumptions + (upload.offset > 0)
                values["is_contested"] = upload.is_contested or upload.writer is not None
            await connection.execute(_UPDATE_MINE, names | values)
            return replace(upload, **{**values, "writer": upload.writer})

        return await self._database.transact(take)

    async def save(self, upload: Upload, **changes: Any) -> bool:
        """Change the row. Returns False when a newer request has the session, or it has ended."""
        values = {"upload_id": upload.id, "upload_generation": upload.generation, **changes, "updated_at": now()}

        async def change(connection: AsyncConnection) -> bool:
            return (await connection.execute(_UPDATE_OWN, values)).rowcount == 1

        return await self._database.transact(change)

    async def owns(self, upload: Upload) -> bool:
        """Whether `save` would change the row."""
        names = {"upload_id": upload.id, "upload_generation": upload.generation}

        async def find(connection: AsyncConnection) -> bool:
            return (await connection.execute(_SELECT_OWN, names)).one_or_none() is not None

        return await self._database.query(find)

    async def set_length(self, upload: Upload, length: int) -> bool:
        """As `save`. Raises `QuotaExceeded`."""
        statement = update(_upload).where(owns_generation(upload.id, upload.generation)).values(length=length)
        async with self._database.write() as connection:
            await quota.lock_owner(connection, upload.owner_id)
            await quota.check_quota(connection, upload.owner_id, length, upload_id=upload.id)
            return (await connection.execute(statement)).rowcount == 1

    async def begin_file(self, upload: Upload, path: str, mime_type: str) -> UUID | None:
        """Insert the row of the session's file, and name the file in the session. None where `save` returns False."""
        statement = update(_upload).where(owns_generation(upload.id, upload.generation))
        async with self._database.write() as connection:
            if (await connection.execute(statement.values(path=path))).rowcount == 0:
                return None
            file = await insert_writing_file(
                connection, upload.owner_id, FileKind.ORIGINAL, path, mime_type, SESSION_LEASE_END
            )
            await connection.execute(statement.values(file_id=file.id))
        return file.id

    async def read_usage(self, owner_id: UUID, *, upload_id: UUID | None = None) -> tuple[int, int] | None:
        """See `quota.read_usage`."""
        async with self._database.read() as connection:
            return await quota.read_usage(connection, owner_id, upload_id=upload_id)

    async def has_credential(self, owner_id: UUID, credential_id: UUID, permissions: Iterable[str]) -> bool:
        """Whether the API key or session still exists, and has one of the permissions: a session those of its key, or all without one."""
        key, session = tables.api_key, tables.session
        sessions = select(session.c.api_key_id).where(
            session.c.id == credential_id, session.c.user_id == owner_id, session.c.expires_at > now()
        )
        async with self._database.read() as connection:
            found = (await connection.execute(sessions)).one_or_none()
            if found is not None and found.api_key_id is None:
                return True
            key_id = credential_id if found is None else found.api_key_id
            keys = select(key.c.permissions).where(key.c.id == key_id, key.c.user_id == owner_id)
            granted = (await connection.execute(keys)).scalar_one_or_none()
            return granted is not None and not set(permissions).isdisjoint(granted)

    async def complete(self, completion: UploadCompletion, asset_id: UUID, added: Sequence[str]) -> bool:
        """Keep the answer of an upload whose content the asset has already. Returns False where `save` does."""
        async with self._database.write() as connection:
            return await complete_upload(connection, completion, asset_id, created=False, added=added)

    async def end(self, upload: Upload, state: UploadState, expires_at: datetime, failure: str | None = None) -> bool:
        """End a session without an asset. Returns False when it has ended already, or a newer request has it."""
        async with self._database.write() as connection:
            condition = owns_generation(upload.id, upload.generation)
            return await end_uploads(connection, condition, state, expires_at, failure) == 1

    async def expire(self, moment: datetime, forget_at: datetime) -> int:
        """End the sessions that were not continued in time. Returns how many."""
        async with self._database.write() as connection:
            condition = _upload.c.expires_at <= moment
            return await end_uploads(connection, condition, UploadState.EXPIRED, forget_at)

    async def find_unfinished(self, idle_since: datetime, limit: int) -> list[Upload]:
        """Sessions all of whose bytes are there, and that nobody has worked on since, those first that wait longest: each gets its turn, however
        many others cannot be completed."""
        condition = _upload.c.all_received & _upload.c.state.in_(OPEN_UPLOAD_STATES)
        waiting = select(_upload).where(condition, _upload.c.updated_at <= idle_since)
        statement = waiting.order_by(_upload.c.updated_at).limit(limit)
        async with self._database.read() as connection:
            return [Upload(**row) for row in (await connection.execute(statement)).mappings()]

    async def claim_cleanups(self, moment: datetime, until: datetime, limit: int) -> list[Upload]:
        """Ended sessions that are due to be cleared. Nobody else gets them before `until`."""
        due = select(_upload.c.id).where(_upload.c.cleanup_at <= moment).order_by(_upload.c.cleanup_at).limit(limit)
        async with self._database.write() as connection:
            ids = list((await connection.execute(due.with_for_update(skip_locked=True))).scalars())
            claim = update(_upload).where(_upload.c.id.in_(ids)).values(cleanup_at=until).returning(_upload)
            return [Upload(**row) for row in (await connection.execute(claim)).mappings()] if ids else []

    async def set_cleanup(self, upload_id: UUID, cleanup_at: datetime | None) -> None:
        """When to clear the storage again; None: nothing of the session is left."""
        values: dict[str, Any] = {"cleanup_at": cleanup_at}
        if cleanup_at is None:
            values |= {"path": None, "file_id": None, "storage_state": None, "head": None, "sha1_state": None}
        async with self._database.write() as connection:
            await connection.execute(update(_upload).where(_upload.c.id == upload_id).values(values))

    async def forget(self, moment: datetime, max_ended: int) -> int:
        """Delete the rows of sessions that have ended and been cleared: those that have expired, and the oldest of an owner who has more
        than `max_ended`. Returns how many."""
        ended = _upload.c.state.not_in(OPEN_UPLOAD_STATES) & _upload.c.cleanup_at.is_(None)
        owners = select(_upload.c.owner_id).where(ended).group_by(_upload.c.owner_id).having(func.count() > max_ended)
        async with self._database.write() as connection:
            expired = delete(_upload).where(ended, _upload.c.expires_at <= moment)
            forgotten = (await connection.execute(expired)).rowcount
            for owner_id in list((await connection.execute(owners)).scalars()):
                theirs = ended & (_upload.c.owner_id == owner_id)
                newest = select(_upload.c.id).where(theirs).order_by(_upload.c.updated_at.desc()).limit(max_ended)
                forgotten += (
                    await connection.execute(delete(_upload).where(theirs, _upload.c.id.not_in(newest)))
                ).rowcount
            return forgotten

    async def get_generations(self, upload_ids: Iterable[UUID]) -> dict[UUID, int]:
        """The generations of those of the sessions that have not ended."""
        found: dict[UUID, int] = {}
        columns = select(_upload.c.id, _upload.c.generation)
        async with self._database.read() as connection:
            for batch in iterate_batches(upload_ids):
                condition = _upload.c.id.in_(batch) & _upload.c.state.in_(OPEN_UPLOAD_STATES)
                found.update((row.id, row.generation) for row in await connection.execute(columns.where(condition)))
        return found

    async def find_paths_in_use(self, paths: Iterable[str]) -> set[str]:
        """Those of the paths below which a session may have parts, tails or temporary files."""
        found: set[str] = set()
        async with self._database.read() as connection:
            for batch in iterate_batches(paths):
                statement = select(_upload.c.path).where(_upload.c.path.in_(batch))
                found.update((await connection.execute(statement)).scalars())
        return found

    async def iterate_stored(self) -> AsyncIterator[list[Upload]]:
        """Pages of the open sessions that have bytes in the storage."""
        is_stored = _upload.c.state.in_(OPEN_UPLOAD_STATES) & _upload.c.storage_state.is_not(None)
        last: UUID | None = None
        while True:
            page = select(_upload).where(is_stored).order_by(_upload.c.id).limit(ID_BATCH_SIZE)
            async with self._database.read() as connection:
                statement = page if last is None else page.where(_upload.c.id > last)
                uploads = [Upload(**row) for row in (await connection.execute(statement)).mappings()]
            if uploads:
                yield uploads
            if len(uploads) < ID_BATCH_SIZE:
                return
            last = uploads[-1].id

    async def get_statistics(self) -> UploadStatistics:
        size = func.coalesce(_upload.c.length, _upload.c.offset)
        sums = (
            func.count(),
            *(func.coalesce(func.sum(each), 0) for each in (_upload.c.offset, size, _upload.c.resumptions)),
        )
        statement = select(_upload.c.state, *sums).group_by(_upload.c.state)
        async with self._database.read() as connection:
            rows = [(row[0], *map(int, row[1:])) for row in await connection.execute(statement)]
        unfinished = [row for row in rows if row[0] in OPEN_UPLOAD_STATES]
        return UploadStatistics(
            unfinished=sum(row[1] for row in unfinished),
            received_bytes=sum(row[2] for row in unfinished),
            reserved_bytes=sum(row[3] for row in unfinished),
            resumptions=sum(row[4] for row in rows),
            by_state={row[0]: row[1] for row in rows},
        )


def _values(upload: Upload) -> dict[str, Any]:
    values = {column.name: getattr(upload, column.name) for column in _upload.c}
    return values | {"fields": dict(upload.fields)}


def _upload_from_row(row: Row[tuple[object, ...]] | tuple[object, ...]) -> Upload:
    """Takes the columns of `upload` in their order, which is that of the fields."""
    return Upload(*row)  # pyright: ignore[reportArgumentType]
