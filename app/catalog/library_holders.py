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

from app.catalog import quota, tables
from app.catalog.files import batches
from app.catalog.library_records import Changes, Library
from app.catalog.removal import remove

_asset = tables.asset
_file = tables.file
_known = tables.library_file
_library = tables.library


class _Holder(NamedTuple):
    """Whose the path is: its asset, and the library of that, where it has one."""

    path: str
    owner_id: UUID
    asset_id: UUID | None
    library: str | None
    import_paths: list[str] | None
    removed: bool
    missing: bool

    @property
    def has_given_up(self) -> bool:
        if self.asset_id is None or self.import_paths is None:
            return False
        own = any(self.path.startswith(f"{path}/") for path in self.import_paths)
        return self.removed or self.missing or not own

    @property
    def name(self) -> str:
        return "a managed file" if self.library is None else f"the library {self.library!r}"


async def clear(connection: AsyncConnection, library: Library, owner_id: UUID, changes: Changes) -> None:
    """Remove the assets whose paths others have given up, and take what others still hold off the changes. Locks the owners."""
    placed = [*changes.new, *(each for _, each in changes.renamed)]
    holders = await _holders(connection, library.id, [each.path for each in placed])
    owners = {holder.owner_id for holder in holders if holder.has_given_up}
    if changes.changed or changes.renamed or changes.back:
        owners.add(owner_id)
    for each in sorted(owners):  # in one order, so that no two wait for each other in a circle
        await quota.lock_owner(connection, each)
    for each in owners:
        given_up = [holder.asset_id for holder in holders if holder.owner_id == each and holder.has_given_up]
        await remove(connection, each, [asset_id for asset_id in given_up if asset_id is not None])
    held = {holder.path: holder.name for holder in holders if not holder.has_given_up}
    if held:
        _leave_out(held, changes)


async def _holders(connection: AsyncConnection, library_id: UUID, paths: Iterable[str]) -> list[_Holder]:
    columns = (
        _file.c.path,
        _file.c.owner_id,
        _asset.c.id,
        _library.c.name,
        _library.c.import_paths,
        _library.c.deleted_at.is_not(None),
        _known.c.missing_since.is_not(None),
    )
    joined = (
        select(*columns)
        .outerjoin(_asset, _asset.c.file_id == _file.c.id)
        .outerjoin(_library, _library.c.id == _asset.c.library_id)
        .outerjoin(_known, _known.c.asset_id == _asset.c.id)
    )
    others = _asset.c.library_id.is_(None) | (_asset.c.library_id != library_id)
    return [
        _Holder(*row)
        for batch in batches(paths)
        for row in await connection.execute(joined.where(_file.c.path.in_(batch), others))
    ]


def _leave_out(held: dict[str, str], changes: Changes) -> None:
    """The folders are compared again by the next scan."""
    places = [*changes.new, *(placed for _, placed in changes.renamed)]
    for folder in {placed.folder for placed in places if placed.path in held} & changes.digests.keys():
        changes.digests[folder] = None
    changes.held = sorted(held.items())
    changes.new = [placed for placed in changes.new if placed.path not in held]
    changes.renamed = [(asset_id, placed) for asset_id, placed in changes.renamed if placed.path not in held]
