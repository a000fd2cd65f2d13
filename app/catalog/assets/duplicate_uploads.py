"""Adds to an existing asset what an upload of the same content brings and the asset lacks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota, tasks
from app.catalog.database.engine import Database, now
from app.catalog.database.prepared_statements import prepare
from app.catalog.errors import QuotaExceeded, WriteLeaseLost
from app.catalog.files import insert_writing_file, make_live, mark_unfinished_for_deletion
from app.catalog.schema import tables
from app.catalog.schema.records import File, FileKind, StoredFile

_asset = tables.asset
_SELECT_KNOWN = prepare(
    select(_asset.c.id, _asset.c.sidecar_id).where(
        _asset.c.owner_id == bindparam("known_owner_id"),
        _asset.c.checksum == bindparam("known_checksum"),
        _asset.c.library_id.is_(None),
    )
)


class DuplicateAddition(StrEnum):
    """What a duplicate added to the existing asset."""

    SIDECAR = "sidecar"
    FAVORITE = "favorite"


@dataclass(frozen=True, slots=True)
class ExistingUpload:
    """The asset that holds the content of an upload."""

    id: UUID
    sidecar_id: UUID | None


class DuplicateUploadRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin_unless_known(
        self, owner_id: UUID, checksum: bytes, file_id: UUID, path: str, mime_type: str, lease: timedelta
    ) -> File | ExistingUpload:
        """Insert the row of an original that is about to be written, as `FileRepository.begin_write`. If the owner has this SHA-1 already,
        also in the trash, insert nothing and return that upload."""
        values = {"known_owner_id": owner_id, "known_checksum": checksum}

        async def begin(connection: AsyncConnection) -> File | ExistingUpload:
            known = (await connection.execute(_SELECT_KNOWN, values)).one_or_none()
            if known is not None:
                return ExistingUpload(*known)
            return await insert_writing_file(connection, owner_id, FileKind.ORIGINAL, path, mime_type, lease, file_id)

        return await self._database.transact(begin)

    async def complete_asset(
        self, owner_id: UUID, asset_id: UUID, sidecar: StoredFile | None, *, is_favorite: bool
    ) -> tuple[DuplicateAddition, ...]:
        """Add the sidecar if the asset has none, and make it a favourite if `is_favorite`, in one transaction. Returns
        what was added: nothing if the asset was deleted meanwhile.

        A new sidecar counts against the quota, and the asset's metadata is read again. A sidecar that was not added is
        marked for deletion. Raises `QuotaExceeded` and `WriteLeaseLost`; then nothing is added.
        """
        try:
            async with self._database.write() as connection:
                return await _complete_asset(connection, owner_id, asset_id, sidecar, is_favorite=is_favorite)
        except (QuotaExceeded, WriteLeaseLost):
            async with self._database.write() as connection:
                await _discard(connection, sidecar)
            raise


async def _complete_asset(
    connection: AsyncConnection, owner_id: UUID, asset_id: UUID, sidecar: StoredFile | None, *, is_favorite: bool
) -> tuple[DuplicateAddition, ...]:
    await quota.lock_owner(connection, owner_id)
    mine = (_asset.c.id == asset_id) & (_asset.c.owner_id == owner_id)
    statement = select(_asset.c.sidecar_id, _asset.c.is_favorite).where(mine).with_for_update()
    asset = (await connection.execute(statement)).one_or_none()
    added: list[DuplicateAddition] = []
    values: dict[str, Any] = {}
    if asset is None or asset.sidecar_id is not None:
        await _discard(connection, sidecar)
    elif sidecar is not None:
        await make_live(connection, owner_id, sidecar)
        await quota.charge_quota(connection, owner_id, sidecar.size)
        await tasks.request_reading(connection, [asset_id])
        values["sidecar_id"] = sidecar.file_id
        added.append(DuplicateAddition.SIDECAR)
    if asset is not None and is_favorite and not asset.is_favorite:
        values["is_favorite"] = True
        added.append(DuplicateAddition.FAVORITE)
    if values:
        await connection.execute(update(_asset).where(mine).values(values | {"updated_at": now()}))
    return tuple(added)


async def _discard(connection: AsyncConnection, sidecar: StoredFile | None) -> None:
    if sidecar is not None:
        await mark_unfinished_for_deletion(connection, [sidecar.file_id])
