"""Paths that a library is to take in and that the catalogue has already, as another library's: what is no longer that one's is given up.

A folder that was moved from one library to another is known to both for a while: the former one keeps in the trash what no longer
belongs to it. Statements inside a caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota
from app.catalog.assets.asset_removal import remove_assets
from app.catalog.files import iterate_batches
from app.catalog.schema import tables
from app.catalog.schema.library_records import Library, ScanChanges

_asset = tables.asset
_file = tables.file
_library_file = tables.library_file
_library = tables.library


class _PathOwner(NamedTuple):
    """Whose the path is: its asset, and the library of that, where it has one."""

    path: str
    owner_id: UUID
    asset_id: UUID | None
    library: str | None
    import_paths: list[str] | None
    removed: bool
    missing: bool

    @property
    def has_released(self) -> bool:
        if self.asset_id is None or self.import_paths is None:
            return False
        own = any(self.path.startswith(f"{path}/") for path in self.import_paths)
        return self.removed or self.missing or not own

    @property
    def name(self) -> str:
        return "a managed file" if self.library is None else f"the library {self.library!r}"


async def resolve_path_conflicts(
    connection: AsyncConnection, library: Library, owner_id: UUID, changes: ScanChanges
) -> None:
    """Remove the assets whose paths others have given up, and take what others still hold off the changes. Locks the owners."""
    placed = [*changes.new, *(each for _, each in changes.renamed)]
    holders = await _find_path_owners(connection, library.id, [each.path for each in placed])
    owners = {holder.owner_id for holder in holders if holder.has_released}
    if changes.changed or changes.renamed or changes.returned:
        owners.add(owner_id)
    for each in sorted(owners):  # in one order, so that no two wait for each other in a circle
        await quota.lock_owner(connection, each)
    for each in owners:
        given_up = [holder.asset_id for holder in holders if holder.owner_id == each and holder.has_released]
        await remove_assets(connection, each, [asset_id for asset_id in given_up if asset_id is not None])
    held = {holder.path: holder.name for holder in holders if not holder.has_released}
    if held:
        _remove_conflicts(held, changes)


async def _find_path_owners(connection: AsyncConnection, library_id: UUID, paths: Iterable[str]) -> list[_PathOwner]:
    columns = (
        _file.c.path,
        _file.c.owner_id,
        _asset.c.id,
        _library.c.name,
        _library.c.import_paths,
        _library.c.deleted_at.is_not(None),
        _library_file.c.missing_since.is_not(None),
    )
    joined = (
        select(*columns)
        .outerjoin(_asset, _asset.c.file_id == _file.c.id)
        .outerjoin(_library, _library.c.id == _asset.c.library_id)
        .outerjoin(_library_file, _library_file.c.asset_id == _asset.c.id)
    )
    others = _asset.c.library_id.is_(None) | (_asset.c.library_id != library_id)
    return [
        _PathOwner(*row)
        for batch in iterate_batches(paths)
        for row in await connection.execute(joined.where(_file.c.path.in_(batch), others))
    ]


def _remove_conflicts(conflicts: dict[str, str], changes: ScanChanges) -> None:
    """The folders are compared again by the next scan."""
    places = [*changes.new, *(placed for _, placed in changes.renamed)]
    for folder in {placed.folder for placed in places if placed.path in conflicts} & changes.digests.keys():
        changes.digests[folder] = None
    changes.conflicts = sorted(conflicts.items())
    changes.new = [placed for placed in changes.new if placed.path not in conflicts]
    changes.renamed = [(asset_id, placed) for asset_id, placed in changes.renamed if placed.path not in conflicts]
