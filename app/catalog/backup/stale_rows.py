"""Drops rows of a restored backup that the sweeper would act on. Their state is that of the backup; the objects may be in use since.

A file that was `writing` at the backup may have become a live file since; a `doomed` file may be the only copy again
(after a move and a move back); an asset in the trash may have been restored. Therefore these rows are dropped or reset
before any program acts on them. Their objects are then unreferenced: a verification reports them, and a person decides
about them.

Tokens of sign-in addresses work once; one that the backup holds may have been used since, so all are deleted.

Uploads that were unfinished at the backup may be complete since: their rows are deleted, and no object is. Answers of
complete ones are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.database.engine import now
from app.catalog.moves.move_ledger import OPEN_STATES
from app.catalog.schema import tables
from app.catalog.schema.move_records import MoveState
from app.catalog.schema.records import FileState
from app.catalog.schema.upload_records import UploadState

_asset = tables.asset
_file = tables.file
_item = tables.migration_item
_upload = tables.upload


@dataclass(frozen=True, slots=True)
class DroppedRows:
    """`files`: how many rows of `writing` and `doomed` files were deleted. `trashed`: how many assets in the trash had
    their age restarted."""

    files: int = 0
    trashed: int = 0


async def drop_restored_rows(connection: AsyncConnection) -> DroppedRows:
    """Call it in the transaction of the restore."""
    await _drop_unwanted_moves(connection)
    await _drop_unfinished_uploads(connection)
    await connection.execute(delete(tables.sign_in_token))
    return DroppedRows(await _delete_unreferenced_files(connection), await _restart_trash_age(connection))


async def _drop_unwanted_moves(connection: AsyncConnection) -> None:
    """Drop moves of files that nothing refers to: the ledger would have their copies deleted."""
    live = select(_file.c.id).where(_file.c.id == _item.c.file_id, _file.c.state == FileState.LIVE)
    unwanted = _item.c.state.in_(OPEN_STATES) & ~live.exists()
    await connection.execute(update(_item).where(unwanted).values(state=MoveState.DROPPED, problem=None))


async def _drop_unfinished_uploads(connection: AsyncConnection) -> None:
    await connection.execute(delete(_upload).where(_upload.c.state != UploadState.COMPLETE))
    nothing = {"cleanup_at": None, "path": None, "file_id": None, "storage_state": None}
    await connection.execute(update(_upload).values(nothing))


async def _delete_unreferenced_files(connection: AsyncConnection) -> int:
    """Delete the rows of files that are not live, except the twins of moves under way, and the copies, also former ones, of foreign files
    that exist: no clock ends their lease, and their objects are deleted only after the file was found whole at its other path, or together
    with the file's row."""
    twin = select(_item.c.twin_id).where(_item.c.twin_id == _file.c.id, _item.c.state.in_(OPEN_STATES))
    source = _file.alias("source")
    copy = select(source.c.id).where((source.c.copy_path == _file.c.path) | (source.c.id == _file.c.copy_of))
    is_twin = (_file.c.state == FileState.WRITING) & (twin.exists() | copy.exists())
    return (await connection.execute(delete(_file).where(_file.c.state != FileState.LIVE, ~is_twin))).rowcount


async def _restart_trash_age(connection: AsyncConnection) -> int:
    """Assets of libraries are left out: they are never removed by age."""
    is_trashed = _asset.c.deleted_at.is_not(None) & _asset.c.library_id.is_(None)
    return (await connection.execute(update(_asset).where(is_trashed).values(deleted_at=now()))).rowcount
