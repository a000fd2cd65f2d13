"""Verified copies of foreign files, beside sources that stay.

`file.copy_path` of the foreign file names the copy. The copy's own row is the twin of its ledger item: `writing`, with a lease
that never ends, until the foreign file's row is deleted, the copy is forgotten, or the file is adopted. `file.copy_of` of that row
is the foreign file's id: another copy of the same file takes the place of the ledger item while their migration is unfinished.

A former copy holds what the file held before: no file names it, and its row has the size and the checksums of that content. It becomes the
file's copy again when the file has its former content again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.database.engine import Database, now
from app.catalog.files import LATE_WRITE_GRACE, iterate_batches, mark_unfinished_for_deletion
from app.catalog.moves.move_ledger import OPEN_STATES, UNSWITCHED_STATES
from app.catalog.schema import tables
from app.catalog.schema.move_records import MoveState
from app.catalog.schema.records import FileKind, FileState

_ORIGINALS = (FileKind.ORIGINAL, FileKind.MOTION)
_file = tables.file
_item = tables.migration_item
_migration = tables.migration
_user = tables.user


_RECORD_CONTENT = (
    update(_file)
    .where(_file.c.path == bindparam("at_path"), _file.c.state == FileState.WRITING)
    .values(size=bindparam("former_size"), sha1=bindparam("former_sha1"), crc32=bindparam("former_crc32"))
)


@dataclass(frozen=True, slots=True)
class ForeignCopy:
    """The copy of a foreign file, and its size in bytes."""

    path: str
    size: int


class KeptCopyRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, migration_id: UUID, sha1s: Mapping[UUID, bytes]) -> frozenset[UUID]:
        """Record verified copies as those of their foreign files, each if the file still has the SHA-1 that was verified.
        Returns the files whose copies are kept. Of a file with another content the item is `reverted`, and the copy marked
        for deletion; items of deleted files are not changed."""
        kept: set[UUID] = set()
        changed: set[UUID] = set()
        async with self._database.write() as connection:
            mine = (_item.c.migration_id == migration_id) & _item.c.file_id.in_(list(sha1s))
            columns = (_item.c.file_id, _item.c.twin_id, _item.c.owner_id, _item.c.target_path)
            items = (await connection.execute(select(*columns).where(mine, _item.c.state == MoveState.VERIFIED))).all()
            await _lock_owners(connection, {item.owner_id for item in items})
            for item in items:
                is_file = (_file.c.id == item.file_id) & _file.c.is_foreign
                has_no_other = _file.c.copy_path.is_(None) | (_file.c.copy_path == item.target_path)
                is_same = has_no_other & (_file.c.sha1 == sha1s[item.file_id])
                statement = update(_file).where(is_file, is_same).values(copy_path=item.target_path)
                if (await connection.execute(statement)).rowcount == 1:
                    kept.add(item.file_id)
                elif (await connection.execute(select(_file.c.id).where(is_file))).one_or_none() is not None:
                    changed.add(item.file_id)
            for ids, state in ((kept, MoveState.KEPT), (changed, MoveState.REVERTED)):
                of_ids = (_item.c.migration_id == migration_id) & _item.c.file_id.in_(ids)
                await connection.execute(update(_item).where(of_ids).values(state=state, problem=None))
            twins = [item.twin_id for item in items if item.file_id in changed]
            await mark_unfinished_for_deletion(connection, twins)
        return frozenset(kept)

    async def give_up(self, migration_id: UUID, file_ids: Iterable[UUID]) -> None:
        """Revert items of foreign files that were not kept, so that they are planned anew: their names are those of a former content.
        What may have been copied is marked for deletion. The caller holds the lock of the ledger."""
        async with self._database.write() as connection:
            for batch in iterate_batches(file_ids):
                mine = (_item.c.migration_id == migration_id) & _item.c.file_id.in_(batch)
                is_foreign = select(_file.c.id).where(_file.c.id == _item.c.file_id, _file.c.is_foreign).exists()
                columns = (_item.c.file_id, _item.c.twin_id, _item.c.owner_id, _item.c.state)
                chosen = select(*columns).where(mine, _item.c.state.in_(UNSWITCHED_STATES), is_foreign)
                items = (await connection.execute(chosen)).all()
                await _lock_owners(connection, {item.owner_id for item in items})
                reverted = mine & _item.c.file_id.in_([item.file_id for item in items])
                await connection.execute(update(_item).where(reverted).values(state=MoveState.REVERTED, problem=None))
                uncopied = [item.twin_id for item in items if item.state is MoveState.PLANNED]
                is_uncopied = _file.c.id.in_(uncopied) & (_file.c.state == FileState.WRITING)
                await connection.execute(delete(_file).where(is_uncopied))  # no object of ours is there
                copied = [item.twin_id for item in items if item.state is not MoveState.PLANNED]
                await mark_unfinished_for_deletion(connection, copied, LATE_WRITE_GRACE)

    async def find(self, path: str) -> ForeignCopy | None:
        """The copy of the foreign file at this path; None where there is none."""
        statement = select(_file.c.copy_path, _file.c.size).where(
            _file.c.path == path, _file.c.is_foreign, _file.c.copy_path.is_not(None)
        )
        async with self._database.read() as connection:
            row = (await connection.execute(statement)).one_or_none()
        return None if row is None else ForeignCopy(row.copy_path or "", row.size or 0)

    async def forget(self, file_id: UUID, copy_path: str) -> bool:
        """Take a copy that is lost for no copy any more, so that the next run makes another one. Returns False where the file
        has no such copy."""
        async with self._database.write() as connection:
            mine = (_file.c.id == file_id) & (_file.c.copy_path == copy_path)
            forgotten = (await connection.execute(update(_file).where(mine).values(copy_path=None))).rowcount == 1
            if forgotten:
                await mark_copies_for_deletion(connection, [copy_path])
        return forgotten

    async def find_former(self, ids: Iterable[UUID]) -> frozenset[UUID]:
        """Those of the rows that are former copies of files that there are."""
        found: set[UUID] = set()
        async with self._database.read() as connection:
            for batch in iterate_batches(ids):
                former = select(_file.c.id).where(_file.c.id.in_(batch), _where_former())
                found |= set((await connection.execute(former)).scalars())
        return frozenset(found)

    async def find_former_at(self, file_id: UUID, path: str) -> UUID | None:
        """The row of the former copy of the file at `path`, if there is one."""
        async with self._database.read() as connection:
            mine = select(_file.c.id).where(_file.c.path == path, _file.c.copy_of == file_id, _where_former())
            return (await connection.execute(mine)).scalar_one_or_none()

    async def keep_former(self, file_id: UUID, path: str, sha1: bytes) -> bool:
        """Let the former copy at `path`, which the caller has just checked, be the file's copy again. Returns False where there is none, or
        the file has a copy or another SHA-1 by now."""
        async with self._database.write() as connection:
            owners = select(_file.c.owner_id).where(_file.c.id == file_id)
            await _lock_owners(connection, set((await connection.execute(owners)).scalars()))
            former = select(_file.c.id).where(_file.c.path == path, _file.c.copy_of == file_id, _where_former())
            if (await connection.execute(former.with_for_update())).one_or_none() is None:
                return False
            is_same = _file.c.is_foreign & _file.c.copy_path.is_(None) & (_file.c.sha1 == sha1)
            keeping = update(_file).where(_file.c.id == file_id, is_same).values(copy_path=path)
            return (await connection.execute(keeping)).rowcount == 1

    async def forget_former(self, copy_id: UUID, sha1: bytes) -> bool:
        """Mark a former copy of the content with this SHA-1, which the caller has just read elsewhere, for deletion. Returns False where it
        is none any more, or is recorded with another content: copies' names have only the beginning of the SHA-1."""
        is_same = _file.c.sha1.is_(None) | (_file.c.sha1 == sha1)
        async with self._database.write() as connection:
            former = select(_file.c.id).where(_file.c.id == copy_id, is_same, _where_former()).with_for_update()
            return (
                await mark_unfinished_for_deletion(connection, (await connection.execute(former)).scalars().all()) == 1
            )

    async def find_vanished(self, limit: int) -> list[UUID]:
        """Files of open items whose rows are gone: foreign files that were deleted while they were copied."""
        is_gone = ~select(_file.c.id).where(_file.c.id == _item.c.file_id).exists()
        unfinished = _item.join(_migration, _migration.c.id == _item.c.migration_id)
        statement = select(_item.c.file_id).select_from(unfinished)
        statement = statement.where(_migration.c.finished_at.is_(None), _item.c.state.in_(OPEN_STATES), is_gone)
        async with self._database.read() as connection:
            return list((await connection.execute(statement.limit(limit))).scalars())

    async def drop_ownerless(self, limit: int) -> int:
        """Mark copies for deletion that were kept, and whose files' rows are gone: former copies of files that changed. Returns how
        many. A copy without an item has `copy_of`; one with an item may lack it, where an older program planned it."""
        twin, source, copied = _file.alias("twin"), _file.alias("source"), _file.alias("copied")
        is_kept = (_item.c.state == MoveState.KEPT) | (_item.c.state.is_(None) & twin.c.copy_of.is_not(None))
        source_id = func.coalesce(twin.c.copy_of, _item.c.file_id)
        has_source = select(source.c.id).where(source.c.id == source_id).exists()
        is_used = select(copied.c.id).where(copied.c.copy_path == twin.c.path).exists()
        twins = select(twin.c.id).select_from(twin.outerjoin(_item, _item.c.twin_id == twin.c.id))
        twins = twins.where(twin.c.state == FileState.WRITING, is_kept, ~has_source, ~is_used).limit(limit)
        async with self._database.write() as connection:
            return await mark_unfinished_for_deletion(connection, (await connection.execute(twins)).scalars().all())

    async def adopt(self, copies: Mapping[UUID, str]) -> frozenset[UUID]:
        """Make foreign files ours at their copies, which the caller has just checked: each file whose `copy_path` is still that one.
        Its source is left alone. Returns the adopted files."""
        adopted: set[UUID] = set()
        async with self._database.write() as connection:
            owners = select(_file.c.owner_id).where(_file.c.id.in_(list(copies)))
            await _lock_owners(connection, set((await connection.execute(owners)).scalars()))
            for file_id, path in copies.items():
                twin = delete(_file).where(_file.c.path == path, _file.c.state == FileState.WRITING)
                mine = (_file.c.id == file_id) & _file.c.is_foreign & (_file.c.copy_path == path)
                locked = await connection.execute(select(_file.c.id).where(mine).with_for_update())
                if locked.one_or_none() is None or (await connection.execute(twin)).rowcount != 1:
                    continue
                values = {"path": path, "copy_path": None, "is_foreign": False, "not_before": now()}
                await connection.execute(update(_file).where(mine).values(values))
                adopted.add(file_id)
        return frozenset(adopted)


def _where_former() -> ColumnElement[bool]:
    """True for rows of former copies: their files are there, none names them, and no move works on them."""
    source, copied = _file.alias("source"), _file.alias("copied")
    has_source = select(source.c.id).where(source.c.id == _file.c.copy_of).exists()
    is_used = select(copied.c.id).where(copied.c.copy_path == _file.c.path).exists()
    is_moving = select(_item.c.file_id).where(_item.c.twin_id == _file.c.id, _item.c.state.in_(OPEN_STATES)).exists()
    return (_file.c.state == FileState.WRITING) & has_source & ~is_used & ~is_moving


async def mark_copies_for_deletion(
    connection: AsyncConnection, paths: list[str], grace: timedelta = timedelta(0)
) -> None:
    """Mark copies for deletion whose foreign files' rows are gone, or have forgotten them. The sweeper leaves them alone until
    `grace` has passed."""
    twins = select(_file.c.id).where(_file.c.path.in_(paths), _file.c.state == FileState.WRITING)
    await mark_unfinished_for_deletion(connection, (await connection.execute(twins)).scalars(), grace)


async def detach_changed_copies(connection: AsyncConnection, file_ids: Iterable[UUID]) -> None:
    """Call it in the transaction that records another content of foreign files, before that: their copies hold the former one, and the
    next run makes others. The former copy of an original stays until the file's row is deleted, as the change may be damage; those of other
    kinds are marked for deletion."""
    for batch in iterate_batches(file_ids):
        mine = _file.c.id.in_(batch) & _file.c.copy_path.is_not(None)
        content = (_file.c.size, _file.c.sha1, _file.c.crc32)
        former = (await connection.execute(select(_file.c.kind, _file.c.copy_path, *content).where(mine))).all()
        await connection.execute(update(_file).where(mine).values(copy_path=None))
        await mark_copies_for_deletion(connection, [row.copy_path for row in former if row.kind not in _ORIGINALS])
        kept = [row for row in former if row.kind in _ORIGINALS]
        recorded = [
            {"at_path": row.copy_path, "former_size": row.size, "former_sha1": row.sha1, "former_crc32": row.crc32}
            for row in kept
        ]
        if recorded:
            await connection.execute(_RECORD_CONTENT, recorded)


async def _lock_owners(connection: AsyncConnection, owner_ids: set[UUID]) -> None:
    """Owners first, as all code that changes several files of an owner does, to prevent deadlocks."""
    owners = select(_user.c.id).where(_user.c.id.in_(owner_ids)).order_by(_user.c.id)
    await connection.execute(owners.with_for_update())
