"""What a restored catalogue must not act on: rows that have objects removed, of a moment that is past.

What was being written at the backup may have become a photo since, what was doomed may be the only copy again (a move and a move back
lie in between), and what was in the trash may have been taken out. So such rows are withdrawn, before anybody sees them: their objects
are nobody's then, which a verification names and a person decides about.
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

_asset = tables.asset
_file = tables.file
_item = tables.migration_item


@dataclass(frozen=True, slots=True)
class DroppedRows:
    """How many files that were being written or removed are forgotten, and how many assets begin their time in the trash anew."""

    files: int = 0
    trashed: int = 0


async def drop_restored_rows(connection: AsyncConnection) -> DroppedRows:
    """In the transaction that restores."""
    await _drop_unwanted_moves(connection)
    return DroppedRows(await _delete_unreferenced_files(connection), await _restart_trash_age(connection))


async def _drop_unwanted_moves(connection: AsyncConnection) -> None:
    """Moves of files that nothing refers to: the ledger would have their copies removed."""
    live = select(_file.c.id).where(_file.c.id == _item.c.file_id, _file.c.state == FileState.LIVE)
    unwanted = _item.c.state.in_(OPEN_STATES) & ~live.exists()
    await connection.execute(update(_item).where(unwanted).values(state=MoveState.DROPPED, problem=None))


async def _delete_unreferenced_files(connection: AsyncConnection) -> int:
    """But not the other halves of moves that are under way: no clock ends those, and nothing of them is removed unless the file is found
    whole at its other place."""
    twin = select(_item.c.twin_id).where(_item.c.twin_id == _file.c.id, _item.c.state.in_(OPEN_STATES))
    held = (_file.c.state == FileState.WRITING) & twin.exists()
    return (await connection.execute(delete(_file).where(_file.c.state != FileState.LIVE, ~held))).rowcount


async def _restart_trash_age(connection: AsyncConnection) -> int:
    """Of a library nothing is removed by age."""
    ours = _asset.c.deleted_at.is_not(None) & _asset.c.library_id.is_(None)
    return (await connection.execute(update(_asset).where(ours).values(deleted_at=now()))).rowcount
