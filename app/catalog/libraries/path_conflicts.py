"""Resolves conflicts between a library's new files and paths that the catalogue has as another library's or as managed
files.

A folder that moved from one library to another belongs to both for a while: the former library keeps missing files in
the trash. The path is released when the former library no longer owns it; otherwise the scan leaves the file out.
Statements in the caller's transaction.
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
    """The owner of a path: its asset, and the asset's library, if it has one."""

    path: str
    owner_id: UUID
    asset_id: UUID | None
    library: str | None
    import_paths: list[str] | None
    removed: bool
    missing: bool

    @property
    def has_released(self) -> bool:
        """Whether the path may be taken: its library is being removed, no longer has the path in its import paths, or
        marked the file as missing."""
        if self.asset_id is None or self.import_paths is None:
            return False
        is_own = any(self.path.startswith(f"{path}/") for path in self.import_paths)
        return self.removed or self.missing or not is_own

    @property
    def name(self) -> str:
        return "a managed file" if self.library is None else f"the library {self.library!r}"


async def resolve_path_conflicts(
    connection: AsyncConnection, library: Library, owner_id: UUID, changes: ScanChanges
) -> None:
    """Remove the assets whose paths other libraries have released, and remove paths that others still own from the
    changes. Locks the owners' rows."""
    scanned = [*changes.new, *(each for _, each in changes.renamed)]
    path_owners = await _find_path_owners(connection, library.id, [each.path for each in scanned])
    owners = {path_owner.owner_id for path_owner in path_owners if path_owner.has_released}
    if changes.changed or changes.renamed or changes.returned:
        owners.add(owner_id)
    for each in sorted(owners):  # in one order, to prevent deadlocks
        await quota.lock_owner(connection, each)
    for each in owners:
        released = [
            path_owner.asset_id for path_owner in path_owners if path_owner.owner_id == each and path_owner.has_released
        ]
        await remove_assets(connection, each, [asset_id for asset_id in released if asset_id is not None])
    conflicts = {path_owner.path: path_owner.name for path_owner in path_owners if not path_owner.has_released}
    if conflicts:
        _remove_conflicts(conflicts, changes)


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
    """Remove the conflicting files from the changes. Resets the digests of their folders, so that the next scan
    compares them."""
    all_scanned = [*changes.new, *(scanned for _, scanned in changes.renamed)]
    for folder in {scanned.folder for scanned in all_scanned if scanned.path in conflicts} & changes.digests.keys():
        changes.digests[folder] = None
    changes.conflicts = sorted(conflicts.items())
    changes.new = [scanned for scanned in changes.new if scanned.path not in conflicts]
    changes.renamed = [(asset_id, scanned) for asset_id, scanned in changes.renamed if scanned.path not in conflicts]
