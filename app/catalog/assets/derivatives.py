"""Derivatives: the files that are made from an asset's original, such as thumbnails. They do not count against the
quota.

A new derivative replaces the file that its maker saw, which is marked for deletion in the same transaction: there is
always one or the other, and of two that were made at once only one stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota
from app.catalog.assets import live_photo_pairs
from app.catalog.assets.asset_removal import REPLACED_FILE_GRACE, mark_live_for_deletion
from app.catalog.assets.exif_edits import find_unrecorded_edits
from app.catalog.database.engine import Database, now
from app.catalog.errors import NotFound, WriteLeaseLost
from app.catalog.files import file_from_row, iterate_batches, make_live, mark_unfinished_for_deletion
from app.catalog.schema import tables
from app.catalog.schema.records import Derivative, FileKind, StoredFile

_asset = tables.asset
_derivative = tables.derivative
_file = tables.file
_task = tables.task


@dataclass(frozen=True, slots=True)
class FileReplacement:
    """`stored` replaces the file `expected_file_id` (None: there was none). Without `stored` the derivative is removed."""

    kind: FileKind
    expected_file_id: UUID | None
    stored: StoredFile | None


class ExtractedProperties(TypedDict, total=False):
    """Properties read from an original; an absent key means unchanged. `taken_at` and `taken_at_local` (local time,
    stored as if it were UTC) apply unless the user has edited the date. `mime_type` is that of the original. `exif` includes
    the values of the sidecar, `exif_of_file` does not; it is needed only for an asset with unrecorded edits."""

    width: int
    height: int
    duration: int
    thumbhash: bytes
    mime_type: str
    exif: dict[str, object]
    exif_of_file: dict[str, object]
    sidecar_error: str | None
    taken_at: datetime
    taken_at_local: datetime


class DerivativeRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_for_asset(self, asset_id: UUID) -> dict[FileKind, Derivative]:
        """The derivatives of one asset, by kind."""
        return (await self.get_for_assets([asset_id])).get(asset_id, {})

    async def get_for_assets(self, asset_ids: Iterable[UUID]) -> dict[UUID, dict[FileKind, Derivative]]:
        """The derivatives of each asset that has any."""
        found: dict[UUID, dict[FileKind, Derivative]] = {}
        columns = select(_derivative.c.asset_id, _derivative.c.kind, _file).join(
            _file, _derivative.c.file_id == _file.c.id
        )
        async with self._database.read() as connection:
            for batch in iterate_batches(asset_ids):
                for row in await connection.execute(columns.where(_derivative.c.asset_id.in_(batch))):
                    asset_id, kind, *file = tuple(row)
                    found.setdefault(asset_id, {})[kind] = Derivative(asset_id, kind, file_from_row(tuple(file)))
        return found

    async def has_unrecorded_edits(self, asset_id: UUID) -> bool:
        """Whether an older version, which did not record a user's edits, has stored the asset's EXIF."""
        unrecorded = _asset.c.exif.is_not(None) & _asset.c.exif_edits.is_(None)
        async with self._database.read() as connection:
            found = await connection.execute(select(_asset.c.id).where(_asset.c.id == asset_id, unrecorded))
            return found.one_or_none() is not None

    async def find_asset_id(self, file_id: UUID) -> UUID | None:
        """The asset whose derivative is the file; None when no derivative refers to it."""
        statement = select(_derivative.c.asset_id).where(_derivative.c.file_id == file_id)
        async with self._database.read() as connection:
            return (await connection.execute(statement)).scalar_one_or_none()

    async def swap_files(
        self,
        owner_id: UUID,
        asset_id: UUID,
        replacements: Sequence[FileReplacement],
        properties: ExtractedProperties | None = None,
        task_id: UUID | None = None,
    ) -> bool:
        """Apply all replacements and the properties in one transaction. Returns False when another file is present than
        the expected one, or when the task `task_id` is gone because the original has changed; then nothing changes and
        the new files are marked for deletion.

        Raises `NotFound` when the owner has no such asset, and `WriteLeaseLost` for an expired lease; then the new
        files are marked for deletion, too.
        """
        new = [each.stored for each in replacements if each.stored is not None]
        try:
            async with self._database.write() as connection:
                await quota.lock_owner(connection, owner_id)
                asset = await _lock_asset(connection, owner_id, asset_id)
                current = await _current_file_ids(connection, asset_id)
                as_expected = all(current.get(each.kind) == each.expected_file_id for each in replacements)
                if not as_expected or not await _is_task_present(connection, task_id):
                    await mark_unfinished_for_deletion(connection, [stored.file_id for stored in new])
                    return False
                for stored in new:
                    await make_live(connection, owner_id, stored)
                for each in replacements:
                    await _replace(connection, asset_id, each)
                replaced = [each.expected_file_id for each in replacements if each.expected_file_id]
                await mark_live_for_deletion(connection, owner_id, replaced, REPLACED_FILE_GRACE)
                properties = properties or {}
                if "mime_type" in properties:
                    await _set_mime_type(connection, asset.file_id, properties["mime_type"])
                values = _asset_values(properties, asset)
                await _update_asset(connection, owner_id, asset, values)
        except (WriteLeaseLost, NotFound):
            async with self._database.write() as connection:
                await mark_unfinished_for_deletion(connection, [stored.file_id for stored in new])
            raise
        return True


async def _lock_asset(connection: AsyncConnection, owner_id: UUID, asset_id: UUID) -> Any:
    mine = (_asset.c.id == asset_id) & (_asset.c.owner_id == owner_id)
    columns = (
        _asset.c.id,
        _asset.c.file_id,
        _asset.c.exif,
        _asset.c.exif_edits,
        _asset.c.live_photo_cid,
        _asset.c.live_photo_video_id,
    )
    asset = (await connection.execute(select(*columns).where(mine).with_for_update())).one_or_none()
    if asset is None:
        raise NotFound("asset", [asset_id])
    return asset


async def _set_mime_type(connection: AsyncConnection, file_id: UUID, mime_type: str) -> None:
    await connection.execute(update(_file).where(_file.c.id == file_id).values(mime_type=mime_type))


async def _is_task_present(connection: AsyncConnection, task_id: UUID | None) -> bool:
    if task_id is None:
        return True
    return (await connection.execute(select(_task.c.id).where(_task.c.id == task_id))).one_or_none() is not None


async def _current_file_ids(connection: AsyncConnection, asset_id: UUID) -> dict[FileKind, UUID]:
    rows = select(_derivative.c.kind, _derivative.c.file_id).where(_derivative.c.asset_id == asset_id)
    return {row.kind: row.file_id for row in await connection.execute(rows)}


async def _replace(connection: AsyncConnection, asset_id: UUID, replacement: FileReplacement) -> None:
    is_current = (_derivative.c.asset_id == asset_id) & (_derivative.c.kind == replacement.kind)
    if replacement.stored is None:
        await connection.execute(delete(_derivative).where(is_current))
    elif replacement.expected_file_id is not None:
        await connection.execute(update(_derivative).where(is_current).values(file_id=replacement.stored.file_id))
    else:
        row = {"asset_id": asset_id, "kind": replacement.kind, "file_id": replacement.stored.file_id}
        await connection.execute(insert(_derivative).values(row))


async def _update_asset(connection: AsyncConnection, owner_id: UUID, asset: Any, values: dict[str, Any]) -> None:
    """Store the new `values` of `asset`, and pair it anew if its content identifier is new or has no counterpart."""
    identifier = values.get("live_photo_cid", asset.live_photo_cid)
    former = set[str]()
    if asset.live_photo_cid not in (None, identifier):
        former = await live_photo_pairs.unpair_live_photos(connection, owner_id, [asset.id])
    await connection.execute(update(_asset).where(_asset.c.id == asset.id).values(values))
    if "live_photo_cid" in values:
        identifiers = former | ({identifier} if identifier else set[str]())
        await live_photo_pairs.pair_live_photos(connection, owner_id, identifiers)


def _asset_values(properties: ExtractedProperties, asset: Any) -> dict[str, Any]:
    """`asset`: what is known, from `_lock_asset`."""
    values: dict[str, Any] = {**properties, "updated_at": now()}
    values.pop("mime_type", None)
    taken_at, local = values.pop("taken_at", None), values.pop("taken_at_local", None)
    of_file = values.pop("exif_of_file", properties.get("exif", {}))
    edits = asset.exif_edits
    if edits is None:
        edits = find_unrecorded_edits(asset.exif, of_file)
        if asset.live_photo_video_id is not None:
            edits |= live_photo_pairs.LINKED_BY_HAND
    if "exif" in properties:
        exif = properties["exif"] | edits
        identifier = live_photo_pairs.get_content_identifier(exif)
        values |= {"exif": exif, "exif_edits": edits, "live_photo_cid": identifier}
    if taken_at is not None and local is not None and "dateTimeOriginal" not in edits:
        values |= {"file_created_at": taken_at, "local_date_time": local}
    return values
